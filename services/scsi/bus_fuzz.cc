// Random commands, data, polls, aborts, resets and restarts against a bus with
// disks of both block sizes, a read-only one, and a CD-ROM drive. Every buffer
// that the bus shows is read or written in full.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "services/scsi/bus.h"
#include "services/scsi/state.h"
#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::scsi {
namespace {

constexpr size_t kMaxSteps = 600;
constexpr size_t kTags = 24;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  uint8_t Byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

class World {
 public:
  explicit World(uint8_t flavour) {
    if ((flavour & 1) != 0) disks_[0].CompleteInPoll();
    if ((flavour & 2) != 0) disks_[1].Hold();
    disks_[2].mutable_geometry().read_only = true;
    disks_[0].FailAt(block::Operation::kRead, 4096, block::IoStatus::kIoError);
    disks_[0].FailAt(block::Operation::kWrite, 8192, block::IoStatus::kNoSpace);
    disks_[1].mutable_geometry().can_write_zeroes = (flavour & 4) != 0;
    options_ = {.autosense = (flavour & 8) != 0,
                .piece_bytes = 32 * 1024,
                .piece_count = 4};
    Build();
  }

  void Step(Input& input) {
    const uint8_t what = input.Byte();
    switch (what % 12) {
      default:
        return Start(input);
      case 5:
      case 6:
      case 7:
        return Move(input);
      case 8:
        bus_->Poll();
        return;
      case 9:
        return Manage(input);
      case 10:
        disks_[1].Release(1 + input.Byte() % 4);
        bus_->SetPaused((what & 0x80) != 0);
        return;
      case 11:
        return Restart(input);
    }
  }

  // All that is under way comes to its end.
  void Drain() {
    bus_->SetPaused(false);
    disks_[1].ReleaseAll();
    for (int round = 0; round < 2000; ++round) {
      bus_->Poll();
      bool any = false;
      ForEachTask([&](Task* task) {
        any = true;
        MoveTask(task, ~size_t{0});
      });
      if (!any && bus_->idle()) return;
    }
    std::abort();  // a task that never ends
  }

 private:
  void Build() {
    bus_.reset();
    auto bus = MakeBus(
        {{.target = 0, .lun = 0, .serial = "a", .backend = &disks_[0]},
         {.target = 0,
          .lun = 1,
          .block_size_bytes = 4096,
          .serial = "b",
          .backend = &disks_[1]},
         {.target = 3, .lun = 2, .backend = &disks_[2]},
         {.target = 4, .kind = UnitKind::kCdrom, .backend = &disks_[3]}},
        options_);
    if (!bus.ok()) std::abort();
    bus_ = *std::move(bus);
  }

  template <typename Use>
  void ForEachTask(Use use) {
    for (const unsigned target : {0u, 3u, 4u}) {
      for (unsigned lun = 0; lun < 4; ++lun) {
        for (uint32_t tag = 0; tag < kTags; ++tag) {
          Task* task = bus_->Find(target, lun, tag);
          if (task != nullptr) use(task);
        }
      }
    }
  }

  static unsigned Target(uint8_t byte) {
    constexpr unsigned kTargets[] = {0, 0, 3, 4};
    return kTargets[byte % 4];
  }

  void Start(Input& input) {
    Command command;
    const uint8_t where = input.Byte();
    command.target = static_cast<uint8_t>(Target(where));
    command.lun = where >> 2 & 3;
    command.tag = input.Byte() % kTags;
    command.attribute = static_cast<TaskAttribute>(where >> 6);
    // A known opcode most of the time, and its size by its group.
    constexpr uint8_t kOpcodes[] = {
        0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x1e, 0x25,
        0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x37, 0x41, 0x42, 0x43, 0x46,
        0x4a, 0x4d, 0x55, 0x5a, 0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x93,
        0x9e, 0xa0, 0xa3, 0xa8, 0xaa, 0xaf, 0xbe};
    const uint8_t opcode = input.Byte();
    command.cdb[0] =
        opcode < 0xc0 ? kOpcodes[opcode % std::size(kOpcodes)] : input.Byte();
    constexpr uint8_t kSizes[] = {6, 10, 10, 6, 16, 12, 16, 16};
    command.cdb_size = kSizes[command.cdb[0] >> 5];
    for (size_t i = 1; i < command.cdb_size; ++i) {
      command.cdb[i] = input.Byte();
      // Small numbers are the interesting ones.
      if (command.cdb[i] >= 0x20 && command.cdb[i] < 0xf0) command.cdb[i] = 0;
    }
    Task* task = bus_->Find(command.target, command.lun, command.tag);
    if (task != nullptr && task->state() == Task::State::kStatus) {
      task->Release();
    }
    bus_->Start(command);
  }

  void MoveTask(Task* task, size_t most) {
    const auto buffer = task->buffer();
    switch (task->state()) {
      case Task::State::kDataIn: {
        if (buffer.empty()) std::abort();
        for (const uint8_t byte : buffer) checksum_ += byte;
        task->Advance(std::min(most, buffer.size()));
        return;
      }
      case Task::State::kDataOut: {
        if (buffer.empty()) std::abort();
        const size_t size = std::min(most, buffer.size());
        for (size_t i = 0; i < size; ++i) buffer[i] = pattern_[i % 64];
        task->Advance(size);
        return;
      }
      case Task::State::kStatus:
        if ((task->status() == Status::kCheckCondition) ==
            task->sense().empty()) {
          std::abort();
        }
        for (const uint8_t byte : task->sense()) checksum_ += byte;
        task->Release();
        return;
      case Task::State::kBusy:
        return;
    }
  }

  void Move(Input& input) {
    const uint8_t where = input.Byte();
    for (size_t i = input.Byte() % 16; i > 0; --i) {
      pattern_[input.Byte() % 64] = input.Byte();
    }
    Task* task =
        bus_->Find(Target(where), where >> 2 & 3, input.Byte() % kTags);
    if (task == nullptr) return;
    const uint8_t how = input.Byte();
    if (how == 0xff) return task->EndData();
    MoveTask(task, how < 0x80 ? ~size_t{0} : size_t{1} + how % 64);
  }

  void Manage(Input& input) {
    const uint8_t what = input.Byte();
    const unsigned target = Target(input.Byte());
    const unsigned lun = what >> 4 & 3;
    switch (what % 8) {
      case 0:
        return bus_->BusReset();
      case 1:
        return bus_->TargetReset(target);
      case 2:
        return bus_->LogicalUnitReset(target, lun);
      case 3:
        return bus_->AbortTaskSet(target, lun);
      case 4:
        return bus_->ClearTaskSet(target, lun);
      default:
        return bus_->AbortTask(target, lun, input.Byte() % kTags);
    }
  }

  // The service dies and comes back; sometimes its state is damaged.
  void Restart(Input& input) {
    auto state = std::make_unique<BusState>(bus_->state());
    auto* bytes = reinterpret_cast<uint8_t*>(state.get());
    for (size_t n = input.Byte() % 4; n > 0; --n) {
      const size_t at = input.Byte() | size_t{input.Byte()} << 8;
      bytes[at % sizeof *state] = input.Byte();
    }
    // What the old bus had submitted completes into it before it goes.
    bus_->SetPaused(true);
    disks_[1].ReleaseAll();
    while (!bus_->idle()) bus_->Poll();
    Build();
    bus_->LoadState(*state);
    // Tasks that nobody could find again: with tags that are not ours.
    for (const TaskState& task : bus_->state().tasks) {
      if (task.phase != TaskPhase::kFree && task.command.tag >= kTags) {
        bus_->AbortTask(task.command.target, task.command.lun,
                        task.command.tag);
      }
      if (task.phase != TaskPhase::kFree && task.command.lun >= 4) {
        bus_->AbortTaskSet(task.command.target, task.command.lun);
      }
    }
  }

  MemoryBackend disks_[4] = {MemoryBackend(1 << 20), MemoryBackend(1 << 20),
                             MemoryBackend(1 << 16), MemoryBackend(1 << 18)};
  BusOptions options_;
  std::unique_ptr<Bus> bus_;
  uint8_t pattern_[64] = {};
  uint64_t checksum_ = 0;
};

}  // namespace
}  // namespace bulkhead::scsi

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::scsi::Input input(data, size);
  bulkhead::scsi::World world(input.Byte());
  for (size_t i = 0; i < bulkhead::scsi::kMaxSteps && !input.empty(); ++i) {
    world.Step(input);
  }
  world.Drain();
  return 0;
}
