#include "services/virtio/testing/driver_queue.h"

#include <atomic>
#include <cstring>

#include "services/virtio/spec.h"

namespace bulkhead::virtio {
namespace {

uint16_t Load16(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(at),
                         __ATOMIC_ACQUIRE);
}
void Store16(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELEASE);
}

}  // namespace

DriverQueue::DriverQueue(const Options& options)
    : options_(options), entries_(options.size) {
  std::memset(host(options_.at), 0, 0x4000);
  for (uint16_t i = options_.size; i-- > 0;) free_.push_back(i);
  free_descriptors_ = options_.size;
  DisableInterrupts();
}

// Tables lie behind the areas, one for each slot.
uint64_t DriverQueue::WriteTable(absl::Span<const Buffer> buffers,
                                 uint16_t slot) {
  const uint64_t at = options_.at + 0x4000 +
                      uint64_t{slot} * kIndirectEntries * kDescriptorBytes;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const uint16_t write = buffers[i].writable ? kDescWrite : 0;
    uint8_t* entry = host(at + i * kDescriptorBytes);
    if (options_.packed) {
      const PackedDescriptor d = {buffers[i].address, buffers[i].length,
                                  uint16_t{0}, write};
      std::memcpy(entry, &d, sizeof d);
    } else {
      const bool last = i + 1 == buffers.size();
      const SplitDescriptor d = {
          buffers[i].address, buffers[i].length,
          static_cast<uint16_t>(last ? write : write | kDescNext),
          static_cast<uint16_t>(i + 1)};
      std::memcpy(entry, &d, sizeof d);
    }
  }
  return at;
}

bool DriverQueue::Add(absl::Span<const Buffer> buffers, uint32_t token) {
  return options_.packed ? AddPacked(buffers, token) : AddSplit(buffers, token);
}

bool DriverQueue::AddSplit(absl::Span<const Buffer> buffers, uint32_t token) {
  const size_t needed = options_.indirect ? 1 : buffers.size();
  if (free_.size() < needed) return false;
  const uint16_t head = free_.back();
  if (options_.indirect) {
    free_.pop_back();
    const SplitDescriptor d = {
        WriteTable(buffers, head),
        static_cast<uint32_t>(buffers.size() * kDescriptorBytes), kDescIndirect,
        uint16_t{0}};
    std::memcpy(host(descriptors() + head * kDescriptorBytes), &d, sizeof d);
  } else {
    for (size_t i = 0; i < buffers.size(); ++i) {
      const uint16_t at = free_.back();
      free_.pop_back();
      uint16_t flags = buffers[i].writable ? kDescWrite : 0;
      uint16_t next = 0;
      if (i + 1 < buffers.size()) {
        flags |= kDescNext;
        next = free_.back();
      }
      const SplitDescriptor d = {buffers[i].address, buffers[i].length, flags,
                                 next};
      std::memcpy(host(descriptors() + at * kDescriptorBytes), &d, sizeof d);
    }
  }
  entries_[head] = {token, static_cast<uint16_t>(needed)};
  Store16(host(driver() + kAvailRing + 2 * (avail_ % size())), head);
  ++avail_;
  ++in_flight_;
  return true;
}

bool DriverQueue::AddPacked(absl::Span<const Buffer> buffers, uint32_t token) {
  const size_t needed = options_.indirect ? 1 : buffers.size();
  if (free_descriptors_ < needed || free_.empty()) return false;
  const uint16_t id = free_.back();
  free_.pop_back();
  for (size_t i = 0; i < needed; ++i) {
    uint16_t flags = avail_wrap_ ? kPackedAvail : kPackedUsed;
    PackedDescriptor d;
    if (options_.indirect) {
      flags |= kDescIndirect;
      d = {WriteTable(buffers, id),
           static_cast<uint32_t>(buffers.size() * kDescriptorBytes), id, flags};
    } else {
      if (buffers[i].writable) flags |= kDescWrite;
      if (i + 1 < needed) flags |= kDescNext;
      d = {buffers[i].address, buffers[i].length, id, flags};
    }
    uint8_t* place = host(descriptors() + avail_ * kDescriptorBytes);
    std::memcpy(place, &d, kPackedFlagsOffset);
    if (held_head_ == nullptr) {
      held_head_ = place;
      held_flags_ = flags;
    } else {
      Store16(place + kPackedFlagsOffset, flags);
    }
    if (++avail_ == size()) {
      avail_ = 0;
      avail_wrap_ = !avail_wrap_;
    }
  }
  free_descriptors_ -= static_cast<unsigned>(needed);
  entries_[id] = {token, static_cast<uint16_t>(needed)};
  ++in_flight_;
  return true;
}

bool DriverQueue::Publish() {
  if (options_.packed) {
    if (held_head_ == nullptr) return false;
    Store16(held_head_ + kPackedFlagsOffset, held_flags_);
    held_head_ = nullptr;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return Load16(host(device() + 2)) != kEventDisable;
  }
  const uint16_t before = published_;
  if (before == avail_) return false;
  Store16(host(driver() + kAvailIndex), avail_);
  published_ = avail_;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (options_.event_index) {
    const uint16_t event = Load16(host(device() + AvailEvent(size())));
    return static_cast<uint16_t>(avail_ - event - 1) <
           static_cast<uint16_t>(avail_ - before);
  }
  return (Load16(host(device() + kUsedFlags)) & kUsedNoNotify) == 0;
}

bool DriverQueue::HasUsed() const {
  if (options_.packed) {
    const uint16_t flags = Load16(
        host(descriptors() + used_ * kDescriptorBytes + kPackedFlagsOffset));
    return in_flight_ > 0 && ((flags & kPackedUsed) != 0) == used_wrap_ &&
           ((flags & kPackedAvail) != 0) == used_wrap_;
  }
  return Load16(host(device() + kUsedIndex)) != used_;
}

bool DriverQueue::Take(uint32_t* token, uint32_t* written_bytes) {
  if (!HasUsed()) return false;
  if (options_.packed) {
    PackedDescriptor d;
    std::memcpy(&d, host(descriptors() + used_ * kDescriptorBytes), sizeof d);
    const uint16_t id = d.id;
    if (id >= size()) return false;
    *token = entries_[id].token;
    *written_bytes = d.length;
    used_ = static_cast<uint16_t>(used_ + entries_[id].count);
    free_descriptors_ += entries_[id].count;
    if (used_ >= size()) {
      used_ = static_cast<uint16_t>(used_ - size());
      used_wrap_ = !used_wrap_;
    }
    free_.push_back(id);
  } else {
    const uint8_t* element =
        host(device() + kUsedRing + kUsedElementBytes * (used_ % size()));
    Le32 id;
    Le32 length;
    std::memcpy(&id, element, sizeof id);
    std::memcpy(&length, element + sizeof id, sizeof length);
    if (id >= size()) return false;
    ++used_;
    *token = entries_[id].token;
    *written_bytes = length;
    auto at = static_cast<uint16_t>(id);
    for (uint16_t i = 0; i < entries_[id].count; ++i) {
      SplitDescriptor d;
      std::memcpy(&d, host(descriptors() + at * kDescriptorBytes), sizeof d);
      free_.push_back(at);
      at = d.next;
    }
  }
  --in_flight_;
  return true;
}

bool DriverQueue::EnableInterrupts() {
  if (options_.packed) {
    Store16(host(driver() + 2), kEventEnable);
  } else {
    Store16(host(driver() + kAvailFlags), 0);
    if (options_.event_index)
      Store16(host(driver() + UsedEvent(size())), used_);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return HasUsed();
}

void DriverQueue::DisableInterrupts() {
  if (options_.packed) {
    Store16(host(driver() + 2), kEventDisable);
    return;
  }
  Store16(host(driver() + kAvailFlags), kAvailNoInterrupt);
  // Far behind: never passed before the next Enable (within 2^15 chains).
  if (options_.event_index) {
    Store16(host(driver() + UsedEvent(size())),
            static_cast<uint16_t>(used_ - 1));
  }
}

}  // namespace bulkhead::virtio
