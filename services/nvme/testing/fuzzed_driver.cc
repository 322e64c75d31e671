#include "services/nvme/testing/fuzzed_driver.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

constexpr int kMaxSteps = 300;
// Steps from here on are those of a recorded driver: tests/trace/seeds.
constexpr uint8_t kTraced = 0xf0;
constexpr uint16_t kTracedQueues = 8;

class Driver {
 public:
  Driver(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  void Drive() {
    for (unsigned i = 0; i < 512; ++i) {  // a list that is good
      const Le64 entry = kBuffer + (i + 2) * 4096ull;
      rig_.context.memory().Write({kLists + 8 * i}, &entry, 8);
    }
    rig_.CreateIoQueuePair(1, 16);
    for (int step = 0; left_ > 0 && step < kMaxSteps; ++step) Step();
  }
  const std::vector<scsi::MemoryBackend::Record>& log() const {
    return rig_.disks[0]->log();
  }

 private:
  uint8_t Take() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }
  uint32_t Take32() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | Take();
    return value;
  }

  uint64_t TakeLittle(unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint64_t{Take()} << (8 * i);
    return value;
  }

  void Step() {
    const uint8_t kind = Take();
    if (kind >= kTraced) {
      TracedStep(kind);
    } else {
      InventedStep(kind);
    }
    for (int i = 0; i < 4; ++i) rig_.controller->Run(rig_.context.Now());
    while (rig_.Reap(0).has_value()) {
    }
    if (Take() % 4 != 0) {
      for (uint16_t id = 1; id <= kTracedQueues; ++id) {
        while (rig_.Reap(id).has_value()) {
        }
      }
    }
  }

  void TracedStep(uint8_t kind) {
    switch (kind) {
      case kTraced: {
        const uint64_t at = TakeLittle(2) % kDoorbells;
        const unsigned size = Take() % 2 == 0 ? 4 : 8;
        rig_.controller->WriteRegion(kBar0Region, at & ~3ull, size,
                                     TakeLittle(size));
        return;
      }
      case kTraced + 1: {
        const unsigned size = 1u << (Take() % 3);
        const uint64_t at = Take() / size * size;
        rig_.controller->WriteRegion(kConfigRegion, at, size, TakeLittle(size));
        return;
      }
      case kTraced + 2: {
        const uint16_t queue = Take() % (kTracedQueues + 1);
        Command command;
        auto* bytes = reinterpret_cast<uint8_t*>(&command);
        for (size_t i = 0; i < sizeof command; ++i) bytes[i] = Take();
        PushTraced(queue, command);
        return;
      }
      case kTraced + 3: {
        // One after the other: a call's arguments have no order.
        const uint32_t entries = 2 + Take() % 63u;
        const auto configuration = static_cast<uint32_t>(TakeLittle(4));
        rig_.disks[0]->ReleaseAll();
        rig_.SetBusMaster(true);
        rig_.Disable();
        rig_.Enable(entries, configuration);
        return;
      }
      case kTraced + 4:
        rig_.controller->ReadRegion(kBar0Region, TakeLittle(2) & 0x3ffc, 4);
        return;
      case kTraced + 5:
        rig_.disks[0]->ReleaseAll();
        rig_.controller->Reset();
        return;
      default:
        rig_.controller->PrepareToSleep();
    }
  }

  // The recorded driver's memory lay elsewhere.
  void PushTraced(uint16_t queue, Command command) {
    const uint32_t id = command.cdw10 & 0xffff;
    const uint32_t entries = (command.cdw10 >> 16) + 1;
    const bool ring = id <= kTracedQueues && entries <= kMaxQueueEntries;
    const auto opcode = static_cast<AdminOpcode>(command.opcode);
    if (queue == 0 && ring && opcode == AdminOpcode::kCreateCompletionQueue) {
      command.prp1 = rig_.CqAt(static_cast<uint16_t>(id));
    } else if (queue == 0 && ring &&
               opcode == AdminOpcode::kCreateSubmissionQueue) {
      command.prp1 = rig_.SqAt(static_cast<uint16_t>(id));
      rig_.Adopt(static_cast<uint16_t>(id), entries);
    } else if (queue == 0 && opcode == AdminOpcode::kDoorbellBufferConfig) {
      command.prp1 = kShadowAt;
      command.prp2 = kEventIndicesAt;
      rig_.AdoptShadowDoorbells();
    } else {
      const bool list = (command.cdw12 & 0xffff) >= 16;
      command.prp1 = kBuffer + command.prp1 % 4096;
      command.prp2 = list ? kLists + (command.prp2 & 0xff8) : kBuffer + 4096;
    }
    rig_.Push(queue, command);
    rig_.Ring(queue);
  }

  void InventedStep(uint8_t kind) {
    switch (kind % 12) {
      case 0: {
        const uint64_t at = Take() % 0x40;
        rig_.controller->WriteRegion(kBar0Region, at, 4, Take32());
        break;
      }
      case 1: {
        const uint64_t doorbell = Take();
        rig_.controller->WriteRegion(kBar0Region, kDoorbells + 4 * doorbell, 4,
                                     Take() % 40);
        break;
      }
      case 2:
        rig_.controller->ReadRegion(kBar0Region, (Take32() % 0x3ff8) & ~7u, 8);
        break;
      case 3: {
        const auto opcode = static_cast<IoOpcode>(Take() % 16);
        const uint64_t slba = Take() * 64ull;
        const uint32_t blocks = 1u + Take() * 8u;
        PushCommand(1, BlockCommand(opcode, slba, blocks));
        break;
      }
      case 4: {
        const auto opcode = static_cast<AdminOpcode>(Take());
        PushCommand(0, MakeCommand(opcode, Take()));
        break;
      }
      case 5: {  // a list in memory
        const uint8_t entries = Take();
        for (unsigned i = 0; i < entries; ++i) {
          const Le64 entry = kBuffer + uint64_t{Take()} * 4096;
          rig_.context.memory().Write({kLists + 8 * i}, &entry, 8);
        }
        break;
      }
      case 6:
        rig_.disks[0]->Hold();
        break;
      case 7:
        rig_.disks[0]->ReleaseAll();
        break;
      case 8: {
        const uint64_t at = Take();
        rig_.controller->WriteRegion(kConfigRegion, at, 2, Take32());
        break;
      }
      case 9:
        switch (Take() % 4) {
          case 0:
            rig_.disks[0]->ReleaseAll();
            rig_.controller->Reset();
            break;
          case 1:
            rig_.disks[0]->ReleaseAll();
            if (!rig_.controller->Quiesce().ok()) abort();
            rig_.controller->Resume();
            break;
          case 2:
            rig_.controller->PrepareToSleep();
            break;
          default:
            Recover();
        }
        break;
      case 10: {  // doorbells in memory
        const uint32_t value = Take();
        rig_.context.memory().StoreRelease32({kShadowAt + (Take() % 16) * 4ull},
                                             value);
        break;
      }
      default:
        rig_.context.Advance(Take() * 100'000ull);
    }
  }

  // As a driver does after trouble.
  void Recover() {
    rig_.disks[0]->ReleaseAll();
    rig_.SetBusMaster(true);
    rig_.Disable();
    rig_.Enable();
    rig_.TurnMsixOn();
  }

  void PushCommand(uint16_t queue, Command command) {
    command.prp1 = kBuffer;
    command.prp2 = Take() % 2 == 0 ? kLists : kBuffer + 4096;
    auto* bytes = reinterpret_cast<uint8_t*>(&command);
    const unsigned changes = Take() % 8;
    for (unsigned i = 0; i < changes; ++i) {
      const size_t at = Take() % 64;
      bytes[at] = Take();
    }
    rig_.Push(queue, command);
    rig_.Ring(queue);
  }

  ControllerRig rig_;
  const uint8_t* data_;
  size_t left_;
};

}  // namespace

std::vector<scsi::MemoryBackend::Record> DriveFromInput(const uint8_t* data,
                                                        size_t size) {
  Driver driver(data, size);
  driver.Drive();
  return driver.log();
}

}  // namespace bulkhead::nvme
