// What both kinds of virtqueue share.

#include "services/virtio/queue.h"

#include <atomic>
#include <bit>

#include "services/virtio/queue_walk.h"

namespace bulkhead::virtio {

void Queue::Attach(GuestMemory* memory, QueueState* state) {
  memory_ = memory;
  state_ = state;
}

void Queue::Reset(uint16_t size) {
  *state_ = {};
  state_->size = size;
  state_->vector = kNoVector;
  features_ = 0;
  mapped_ = false;
  outstanding_ = 0;
  outstanding_descriptors_ = 0;
  notifications_ = true;
  order_next_ = 0;
  order_back_ = 0;
}

// §2.7.10.1, §2.8.10.1: a split queue's size is a power of two; the areas are
// aligned.
bool Queue::Plausible() const {
  const QueueState& q = *state_;
  if (q.size == 0 || q.size > kMaxQueueSize) return false;
  if (q.descriptors % kDescriptorBytes != 0) return false;
  if (packed()) return q.driver % 4 == 0 && q.device % 4 == 0;
  return std::has_single_bit(q.size) && q.driver % 2 == 0 && q.device % 4 == 0;
}

bool Queue::Enable(uint64_t features) {
  features_ = features;
  QueueState& q = *state_;
  q.enabled = 1;
  q.next_avail = q.next_used = q.signalled = packed() ? kWrapBit : 0;
  if (!Plausible() || !MapRings()) {
    q.broken = 1;
    return false;
  }
  return true;
}

bool Queue::Restore(uint64_t features) {
  features_ = features;
  outstanding_ = 0;
  outstanding_descriptors_ = 0;
  order_next_ = order_back_ = 0;
  notifications_ = true;
  mapped_ = false;
  const QueueState& q = *state_;
  if (!enabled() || broken()) return true;
  const unsigned avail = packed() ? q.next_avail & ~kWrapBit : 0;
  const unsigned used = packed() ? q.next_used & ~kWrapBit : 0;
  return Plausible() && avail < q.size && used < q.size;
}

uint8_t* Queue::MapArea(uint64_t address, size_t bytes,
                        bool device_writes) const {
  iovec segment = {};
  size_t count = 0;
  if (!memory_->Translate({address}, bytes, DmaDirection::kFromGuest, &segment,
                          1, &count)) {
    return nullptr;
  }
  if (device_writes) {
    count = 0;
    if (!memory_->Translate({address}, bytes, DmaDirection::kToGuest, &segment,
                            1, &count)) {
      return nullptr;
    }
  }
  auto* host = static_cast<uint8_t*>(segment.iov_base);
  // A mapping may shift the alignment.
  return reinterpret_cast<uintptr_t>(host) % 4 == address % 4 ? host : nullptr;
}

// Each area in one piece: guest RAM is one memfd, and QEMU cuts it only at the
// edges of ROMs and of the hole below 4 GiB.
bool Queue::MapRings() {
  const QueueState& q = *state_;
  descriptors_ =
      MapArea(q.descriptors, kDescriptorBytes * q.size, /*writes=*/packed());
  driver_ = MapArea(q.driver, packed() ? kEventBytes : AvailBytes(q.size),
                    /*writes=*/false);
  device_ = MapArea(q.device, packed() ? kEventBytes : UsedBytes(q.size),
                    /*writes=*/true);
  mapped_ = descriptors_ != nullptr && driver_ != nullptr && device_ != nullptr;
  return mapped_;
}

Popped Queue::Break() {
  state_->broken = 1;
  return Popped::kBroken;
}

bool Queue::HasWork() {
  if (!enabled() || broken() || (!mapped_ && !MapRings())) return false;
  uint16_t unused;
  return packed() ? PackedHasWork(&unused) : SplitHasWork(&unused);
}

Popped Queue::Pop(Chain* chain) {
  if (!enabled()) return Popped::kEmpty;
  if (broken()) return Popped::kBroken;
  // RAM that QEMU is just moving about: the driver's next word finds it.
  if (!mapped_ && !MapRings()) return Popped::kEmpty;
  chain->readable_count = 0;
  chain->count = 0;
  chain->readable_bytes = 0;
  chain->writable_bytes = 0;
  chain->faulty = false;
  chain->last_is_good = false;
  const Popped popped = packed() ? PopPacked(chain) : PopSplit(chain);
  if (popped != Popped::kChain) return popped;
  ++outstanding_;
  chain->ticket.order = order_next_++;
  if (in_order()) pending_[chain->ticket.order % kMaxQueueSize].done = false;
  return popped;
}

// §2.7.5.3.1: buffers that the device writes come after those that it reads.
bool Queue::AddBuffer(uint64_t address, uint32_t length, bool writable,
                      Walk* walk) {
  Chain& chain = *walk->chain;
  if (++walk->descriptors > state_->size) return false;  // a loop, or too long
  if (!writable && walk->writing) return false;
  walk->writing = writable;
  uint64_t& bytes = writable ? chain.writable_bytes : chain.readable_bytes;
  bytes += length;  // 256 of 32 bits: cannot wrap
  const bool good =
      length != 0 &&
      memory_->Translate(
          {address}, length,
          writable ? DmaDirection::kToGuest : DmaDirection::kFromGuest,
          chain.segments, kMaxChainSegments, &chain.count);
  if (!good) chain.faulty = true;
  chain.last_is_good = good && writable;
  if (!writable) chain.readable_count = chain.count;
  return true;
}

// §2.7.5.3, §2.8.19: a table of descriptors elsewhere in RAM.
bool Queue::AddIndirect(uint64_t address, uint32_t length, Walk* walk) {
  if ((features_ & kFeatureIndirect) == 0) return false;
  if (length == 0 || length % kDescriptorBytes != 0) return false;
  const uint32_t count = length / static_cast<uint32_t>(kDescriptorBytes);
  if (packed()) {
    if (count > state_->size) return false;
    for (uint32_t i = 0; i < count; ++i) {
      PackedDescriptor entry;
      if (!memory_->ReadValue({address + i * kDescriptorBytes}, &entry)) {
        return false;
      }
      const uint16_t flags = entry.flags;
      if ((flags & kDescIndirect) != 0 ||
          !AddBuffer(entry.address, entry.length, (flags & kDescWrite) != 0,
                     walk)) {
        return false;
      }
    }
    return true;
  }
  for (uint32_t i = 0;;) {
    SplitDescriptor entry;
    if (i >= count ||
        !memory_->ReadValue({address + i * kDescriptorBytes}, &entry)) {
      return false;
    }
    const uint16_t flags = entry.flags;
    if ((flags & kDescIndirect) != 0 ||
        !AddBuffer(entry.address, entry.length, (flags & kDescWrite) != 0,
                   walk)) {
      return false;
    }
    if ((flags & kDescNext) == 0) return true;
    i = entry.next;
  }
}

void Queue::Push(const Ticket& ticket, uint32_t written_bytes) {
  --outstanding_;
  // Rings that were unmapped under the device's hands: as a bus would, what
  // goes there is lost.
  if (broken() || (!mapped_ && !MapRings())) return;
  if (!in_order()) {
    GiveBack(ticket, written_bytes);
    return;
  }
  // §2.7.9, §2.8.9: back in the order in which they came.
  pending_[ticket.order % kMaxQueueSize] = {ticket, written_bytes, true};
  while (order_back_ != order_next_) {
    Pending& next = pending_[order_back_ % kMaxQueueSize];
    if (!next.done) break;
    next.done = false;
    ++order_back_;
    GiveBack(next.ticket, next.written_bytes);
  }
}

void Queue::GiveBack(const Ticket& ticket, uint32_t written_bytes) {
  if (packed()) {
    PushPacked(ticket, written_bytes);
  } else {
    PushSplit(ticket, written_bytes);
  }
}

}  // namespace bulkhead::virtio
