// VIRTIO 1.2 §2.7.7, §2.7.10, §2.8.10, §2.8.14: who tells whom, and when.

#include <atomic>

#include "services/virtio/queue.h"
#include "services/virtio/queue_walk.h"

namespace bulkhead::virtio {

// §2.7.7.2, §2.8.14.
bool Queue::WantsSignal() {
  const QueueState& q = *state_;
  if (q.signalled == q.next_used) return false;
  if (broken() || (!mapped_ && !MapRings())) return false;
  // What was pushed is seen before the driver's wish is looked at.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (packed()) return PackedWantsSignal(q.signalled);
  if (event_index()) {
    const uint16_t event = LoadRelaxed(driver_ + UsedEvent(q.size));
    return HasPassed(event, q.next_used, q.signalled);
  }
  return (LoadRelaxed(driver_ + kAvailFlags) & kAvailNoInterrupt) == 0;
}

// §2.7.10, §2.8.10. With the event index, a driver that was told of one entry
// tells of no other until it is asked again: there is nothing to disable.
void Queue::DisableNotifications() {
  if (!notifications_ || !enabled() || broken()) return;
  if (!mapped_ && !MapRings()) return;
  notifications_ = false;
  if (packed()) {
    StoreRelaxed(device_ + 2, kEventDisable);
  } else if (!event_index()) {
    StoreRelaxed(device_ + kUsedFlags, kUsedNoNotify);
  }
}

void Queue::EnableNotifications() {
  if (!enabled() || broken() || (!mapped_ && !MapRings())) return;
  notifications_ = true;
  if (packed()) {
    StoreRelaxed(device_ + 2, kEventEnable);
  } else if (event_index()) {
    StoreRelaxed(device_ + AvailEvent(state_->size), state_->next_avail);
  } else {
    StoreRelaxed(device_ + kUsedFlags, 0);
  }
  // The driver sees this before the device looks for work a last time.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace bulkhead::virtio
