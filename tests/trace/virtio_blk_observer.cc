#include <cstddef>
#include <map>
#include <vector>

#include "services/virtio/spec.h"
#include "services/virtio/transport.h"
#include "services/virtio_blk/spec.h"
#include "tests/trace/observers.h"

namespace bulkhead::testing {
namespace {

constexpr unsigned kMostBuffers = 512;

class VirtioBlkObserver final : public DriverObserver {
 public:
  VirtioBlkObserver(GuestMemory& memory, FILE* trace)
      : memory_(memory), trace_(trace) {}

  void OnWrite(uint64_t offset, unsigned size_bytes, uint64_t value) override {
    if (offset >= sizeof(virtio::CommonConfig)) return;
    Queue& queue = queues_[selected_];
    if (offset == offsetof(virtio::CommonConfig, device_status)) {
      if (value == 0) OnReset();
    } else if (offset == offsetof(virtio::CommonConfig, queue_select)) {
      selected_ = static_cast<uint16_t>(value);
    } else if (offset ==
               offsetof(virtio::CommonConfig, driver_feature_select)) {
      upper_features_ = value == 1;
    } else if (offset == offsetof(virtio::CommonConfig, driver_feature)) {
      if (upper_features_) packed_ = (value >> 2 & 1) != 0;
    } else if (offset == offsetof(virtio::CommonConfig, queue_size)) {
      queue.size = static_cast<uint16_t>(value);
    } else if (offset == offsetof(virtio::CommonConfig, queue_enable)) {
      queue.enabled = value == 1;
      queue.wrap = true;
    } else if (offset == offsetof(virtio::CommonConfig, queue_reset)) {
      queue = Queue();
    } else {
      Half(offset, offsetof(virtio::CommonConfig, queue_desc), size_bytes,
           value, &queue.descriptors);
      Half(offset, offsetof(virtio::CommonConfig, queue_driver), size_bytes,
           value, &queue.driver);
    }
  }

  void OnReset() override {
    queues_.clear();
    packed_ = false;
  }

  void Look() override {
    for (auto& [id, queue] : queues_) {
      if (!queue.enabled || queue.size == 0) continue;
      packed_ ? LookPacked(id, queue) : LookSplit(id, queue);
    }
  }

 private:
  struct Queue {
    uint16_t size = virtio::kMaxQueueSize;  // until the driver says less
    bool enabled = false;
    bool wrap = true;
    uint64_t descriptors = 0;
    uint64_t driver = 0;
    uint16_t next = 0;
  };
  struct Buffer {
    uint64_t address;
    uint32_t length;
    bool writable;
  };

  static void Half(uint64_t offset, uint64_t field, unsigned size_bytes,
                   uint64_t value, uint64_t* to) {
    if (offset == field) {
      *to = size_bytes == 8 ? value : (*to >> 32 << 32) | (value & 0xffffffff);
    } else if (offset == field + 4) {
      *to = (*to & 0xffffffff) | value << 32;
    }
  }

  void LookSplit(uint16_t id, Queue& queue) {
    uint16_t index;
    if (!memory_.LoadAcquire16({queue.driver + virtio::kAvailIndex}, &index)) {
      return;
    }
    for (; queue.next != index; ++queue.next) {
      Le16 head;
      if (!memory_.ReadValue({queue.driver + virtio::kAvailRing +
                              2ull * (queue.next % queue.size)},
                             &head)) {
        return;
      }
      std::vector<Buffer> buffers;
      AddSplit(queue.descriptors, head, &buffers);
      Write(id, buffers);
    }
  }

  void AddSplit(uint64_t table, uint16_t at, std::vector<Buffer>* buffers) {
    for (;;) {
      virtio::SplitDescriptor entry;
      if (buffers->size() > kMostBuffers ||
          !memory_.ReadValue({table + 16ull * at}, &entry)) {
        return;
      }
      if ((entry.flags & virtio::kDescIndirect) != 0) {
        AddSplit(entry.address, 0, buffers);
      } else {
        buffers->push_back({entry.address, entry.length,
                            (entry.flags & virtio::kDescWrite) != 0});
      }
      if ((entry.flags & virtio::kDescNext) == 0) return;
      at = entry.next;
    }
  }

  void LookPacked(uint16_t id, Queue& queue) {
    for (;;) {
      std::vector<Buffer> buffers;
      uint16_t at = queue.next;
      bool wrap = queue.wrap;
      for (bool more = true; more;) {
        virtio::PackedDescriptor entry;
        if (buffers.size() > kMostBuffers ||
            !memory_.ReadValue({queue.descriptors + 16ull * at}, &entry)) {
          return;
        }
        const uint16_t flags = entry.flags;
        if (((flags & virtio::kPackedAvail) != 0) != wrap ||
            ((flags & virtio::kPackedUsed) != 0) == wrap) {
          return;
        }
        if ((flags & virtio::kDescIndirect) != 0) {
          AddPackedTable(entry.address, entry.length, &buffers);
        } else {
          buffers.push_back(
              {entry.address, entry.length, (flags & virtio::kDescWrite) != 0});
        }
        more = (flags & virtio::kDescNext) != 0;
        if (++at == queue.size) {
          at = 0;
          wrap = !wrap;
        }
      }
      queue.next = at;
      queue.wrap = wrap;
      Write(id, buffers);
    }
  }

  void AddPackedTable(uint64_t table, uint32_t bytes,
                      std::vector<Buffer>* buffers) {
    for (uint32_t i = 0; i < bytes / 16 && i < kMostBuffers; ++i) {
      virtio::PackedDescriptor entry;
      if (!memory_.ReadValue({table + 16ull * i}, &entry)) return;
      buffers->push_back({entry.address, entry.length,
                          (entry.flags & virtio::kDescWrite) != 0});
    }
  }

  // The header's words, and the buffers between it and the status.
  void Write(uint16_t id, const std::vector<Buffer>& buffers) {
    virtio_blk::RequestHeader header;
    if (buffers.size() < 2 ||
        !memory_.ReadValue({buffers.front().address}, &header)) {
      return;
    }
    std::fprintf(trace_, "c %x %x %lx ", id, uint32_t{header.type},
                 uint64_t{header.sector});
    for (size_t i = 1; i + 1 < buffers.size(); ++i) {
      std::fprintf(trace_, "%x%s,", buffers[i].length,
                   buffers[i].writable ? "w" : "");
    }
    std::fprintf(trace_, "\n");
  }

  GuestMemory& memory_;
  FILE* const trace_;
  std::map<uint16_t, Queue> queues_;
  uint16_t selected_ = 0;
  bool upper_features_ = false;
  bool packed_ = false;
};

}  // namespace

std::unique_ptr<DriverObserver> ObserveVirtioBlk(GuestMemory& memory,
                                                 FILE* trace) {
  return std::make_unique<VirtioBlkObserver>(memory, trace);
}

}  // namespace bulkhead::testing
