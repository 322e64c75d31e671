#include <cstring>
#include <map>

#include "services/nvme/spec.h"
#include "tests/trace/observers.h"

namespace bulkhead::testing {
namespace {

class NvmeObserver final : public DriverObserver {
 public:
  NvmeObserver(GuestMemory& memory, FILE* trace)
      : memory_(memory), trace_(trace) {}

  void OnWrite(uint64_t offset, unsigned size_bytes, uint64_t value) override {
    if (offset >= nvme::kDoorbells) {
      const uint64_t bell = offset - nvme::kDoorbells;
      if (bell % 8 == 0) ReadTo(bell / 8, static_cast<uint32_t>(value));
      return;
    }
    for (unsigned i = 0; i < size_bytes; i += 4) {
      WriteRegister(offset + i, static_cast<uint32_t>(value >> (8 * i)));
    }
  }

  void OnReset() override {
    queues_.clear();
    shadow_ = 0;
  }

  void Look() override {
    if (shadow_ == 0) return;
    for (auto& [id, queue] : queues_) {
      uint32_t tail;
      if (id != 0 && memory_.LoadAcquire32({shadow_ + 8 * id}, &tail)) {
        ReadTo(id, tail);
      }
    }
  }

 private:
  struct Queue {
    uint64_t base = 0;
    uint32_t entries = 0;
    uint32_t head = 0;
  };

  void WriteRegister(uint64_t offset, uint32_t value) {
    switch (offset) {
      case nvme::kCc:
        OnReset();
        if ((value & nvme::kCcEnable) != 0) {
          queues_[0] = {.base = admin_base_, .entries = admin_entries_};
        }
        return;
      case nvme::kAqa:
        admin_entries_ = (value & 0xfff) + 1;
        return;
      case nvme::kAsq:
        admin_base_ = (admin_base_ >> 32 << 32) | value;
        return;
      case nvme::kAsq + 4:
        admin_base_ = (admin_base_ & 0xffffffff) | uint64_t{value} << 32;
        return;
    }
  }

  void ReadTo(uint64_t id, uint32_t tail) {
    const auto found = queues_.find(id);
    if (found == queues_.end() || tail >= found->second.entries) return;
    // Creating a queue below moves no element of a map.
    Queue& queue = found->second;
    while (queue.head != tail) {
      nvme::Command command;
      if (!memory_.Read({queue.base + 64 * queue.head}, &command, 64)) return;
      queue.head = (queue.head + 1) % queue.entries;
      Write(id, command);
      if (id == 0) OnAdmin(command);
    }
  }

  void Write(uint64_t id, const nvme::Command& command) {
    std::fprintf(trace_, "q %lx ", id);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&command);
    for (size_t i = 0; i < sizeof command; ++i) {
      std::fprintf(trace_, "%02x", bytes[i]);
    }
    std::fprintf(trace_, "\n");
  }

  void OnAdmin(const nvme::Command& command) {
    const uint32_t id = command.cdw10 & 0xffff;
    switch (static_cast<nvme::AdminOpcode>(command.opcode)) {
      case nvme::AdminOpcode::kCreateSubmissionQueue:
        queues_[id] = {.base = command.prp1,
                       .entries = (command.cdw10 >> 16) + 1};
        return;
      case nvme::AdminOpcode::kDeleteSubmissionQueue:
        if (id != 0) queues_.erase(id);
        return;
      case nvme::AdminOpcode::kDoorbellBufferConfig:
        shadow_ = command.prp1;
        return;
      default:
        return;
    }
  }

  GuestMemory& memory_;
  FILE* const trace_;
  std::map<uint64_t, Queue> queues_;
  uint64_t admin_base_ = 0;
  uint32_t admin_entries_ = 0;
  uint64_t shadow_ = 0;  // doorbells in memory
};

}  // namespace

std::unique_ptr<DriverObserver> ObserveNvme(GuestMemory& memory, FILE* trace) {
  return std::make_unique<NvmeObserver>(memory, trace);
}

}  // namespace bulkhead::testing
