// VIRTIO 1.2 §2.8: packed virtqueues.

#include "services/virtio/queue.h"
#include "services/virtio/queue_walk.h"

namespace bulkhead::virtio {
namespace {

// A position in the ring with its wrap counter (bit 15), `count` further on.
uint16_t Advance(uint16_t position, uint16_t count, uint16_t size) {
  const uint16_t wrap = position & kWrapBit;
  const unsigned next = (position & ~kWrapBit & 0xffff) + unsigned{count};
  if (next < size) return static_cast<uint16_t>(next | wrap);
  return static_cast<uint16_t>((next - size) | (wrap ^ kWrapBit));
}

unsigned Slot(uint16_t position) { return position & ~kWrapBit & 0xffff; }

}  // namespace

// §2.8.1: available when the AVAIL bit is the wrap counter and USED is not.
bool Queue::PackedHasWork(uint16_t* flags) const {
  const uint16_t next = state_->next_avail;
  *flags = LoadAcquire(descriptors_ + kDescriptorBytes * Slot(next) +
                       kPackedFlagsOffset);
  const bool wrap = (next & kWrapBit) != 0;
  return ((*flags & kPackedAvail) != 0) == wrap &&
         ((*flags & kPackedUsed) != 0) != wrap;
}

Popped Queue::PopPacked(Chain* chain) {
  uint16_t flags;
  if (!PackedHasWork(&flags)) return Popped::kEmpty;
  QueueState& q = *state_;
  Walk walk{chain};
  uint16_t at = q.next_avail;
  uint16_t count = 0;
  uint16_t id = 0;
  for (;;) {
    // More than the ring has, or some that are out already.
    if (outstanding_descriptors_ + ++count > q.size) return Break();
    const uint8_t* place = descriptors_ + kDescriptorBytes * Slot(at);
    const auto entry = CopyOut<PackedDescriptor>(place);
    // The head's flags were read before the rest of it.
    if (count > 1) flags = entry.flags;
    id = entry.id;
    at = Advance(at, 1, q.size);
    if ((flags & kDescIndirect) != 0) {
      if ((flags & kDescNext) != 0 || count > 1 ||
          !AddIndirect(entry.address, entry.length, &walk)) {
        return Break();
      }
      break;
    }
    if (!AddBuffer(entry.address, entry.length, (flags & kDescWrite) != 0,
                   &walk)) {
      return Break();
    }
    if ((flags & kDescNext) == 0) break;
  }
  if (id >= q.size) return Break();
  q.next_avail = at;
  outstanding_descriptors_ += count;
  chain->ticket.id = id;
  chain->ticket.count = count;
  return Popped::kChain;
}

void Queue::PushPacked(const Ticket& ticket, uint32_t written_bytes) {
  QueueState& q = *state_;
  outstanding_descriptors_ -= ticket.count;
  uint8_t* place = descriptors_ + kDescriptorBytes * Slot(q.next_used);
  const bool wrap = (q.next_used & kWrapBit) != 0;
  const Le32 length = written_bytes;
  const Le16 id = ticket.id;
  std::memcpy(place + 8, &length, sizeof length);
  std::memcpy(place + 12, &id, sizeof id);
  uint16_t flags = wrap ? kPackedAvail | kPackedUsed : 0;
  if (written_bytes != 0) flags |= kDescWrite;
  q.next_used = Advance(q.next_used, ticket.count, q.size);
  StoreRelease(place + kPackedFlagsOffset, flags);
}

// §2.8.14: the driver waits for a place in the ring, for anything, or for
// nothing.
bool Queue::PackedWantsSignal(uint16_t before) {
  const QueueState& q = *state_;
  const uint32_t wish = LoadRelaxed32(driver_);
  const auto flags = static_cast<uint16_t>((wish >> 16) & 3);
  if (flags == kEventDisable) return false;
  if (flags != kEventDescriptor || !event_index()) return true;
  const auto event = static_cast<uint16_t>(wish);
  // Positions are made comparable: what lies in the other round is a ring away.
  const uint16_t now_slot = static_cast<uint16_t>(Slot(q.next_used));
  uint16_t event_slot = static_cast<uint16_t>(Slot(event));
  uint16_t before_slot = static_cast<uint16_t>(Slot(before));
  const uint16_t wrap = q.next_used & kWrapBit;
  if ((event & kWrapBit) != wrap) event_slot -= q.size;
  if ((before & kWrapBit) != wrap) before_slot -= q.size;
  return HasPassed(event_slot, now_slot, before_slot);
}

}  // namespace bulkhead::virtio
