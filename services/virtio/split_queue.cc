// VIRTIO 1.2 §2.7: split virtqueues.

#include "services/virtio/queue.h"
#include "services/virtio/queue_walk.h"

namespace bulkhead::virtio {

bool Queue::SplitHasWork(uint16_t* index) const {
  *index = LoadAcquire(driver_ + kAvailIndex);
  return *index != state_->next_avail;
}

Popped Queue::PopSplit(Chain* chain) {
  uint16_t index;
  if (!SplitHasWork(&index)) return Popped::kEmpty;
  QueueState& q = *state_;
  // Made available and not used yet: never more than the queue holds. An index
  // that runs backwards is one that is far ahead.
  const auto taken = static_cast<uint16_t>(q.next_avail - q.next_used);
  const auto waiting = static_cast<uint16_t>(index - q.next_avail);
  if (waiting > q.size - taken) return Break();
  const uint16_t head =
      LoadRelaxed(driver_ + kAvailRing + 2 * (q.next_avail % q.size));
  Walk walk{chain};
  for (uint16_t at = head;;) {
    if (at >= q.size) return Break();
    const auto entry =
        CopyOut<SplitDescriptor>(descriptors_ + kDescriptorBytes * at);
    const uint16_t flags = entry.flags;
    if ((flags & kDescIndirect) != 0) {
      // §2.7.5.3.1: never together with NEXT.
      if ((flags & kDescNext) != 0 ||
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
    at = entry.next;
  }
  ++q.next_avail;
  chain->ticket.id = head;
  chain->ticket.count = 1;
  return Popped::kChain;
}

void Queue::PushSplit(const Ticket& ticket, uint32_t written_bytes) {
  QueueState& q = *state_;
  uint8_t* element =
      device_ + kUsedRing + kUsedElementBytes * (q.next_used % q.size);
  const Le32 id = ticket.id;
  const Le32 length = written_bytes;
  std::memcpy(element, &id, sizeof id);
  std::memcpy(element + sizeof id, &length, sizeof length);
  ++q.next_used;
  StoreRelease(device_ + kUsedIndex, q.next_used);
}

}  // namespace bulkhead::virtio
