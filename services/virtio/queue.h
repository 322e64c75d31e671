// Queue is the device's side of one virtqueue, split or packed: it takes chains
// of buffers that a driver has made available and gives them back as used.
//
//   Chain chain(segments, capacity);
//   while (queue.Pop(&chain) == Popped::kChain) {
//     ... host segments: chain.readable(), chain.writable() ...
//     queue.Push(chain.ticket, bytes_written);
//   }
//   if (queue.TakeSignal()) interrupt();
//
// TRUST    Everything in the rings is the driver's and may change at any
// moment.
//          Each descriptor is copied once; each index is compared with the
//          queue size; a chain has at most as many descriptors as the queue,
//          and no more chains are out than the queue has descriptors. A queue
//          that breaks these rules is broken, for good, until it is reset. The
//          rings themselves are found in guest RAM when the queue is enabled
//          and again after guest memory was mapped anew.
// ERRORS   Popped::kBroken: the driver broke the rules. Nothing is touched
//          after that. A buffer outside RAM is not a broken queue: Chain says
//          so.
// THREADS  The loop. The driver works on the rings at the same time.
// SPEC     VIRTIO 1.2 §2.6, §2.7 (split), §2.8 (packed).

#ifndef BULKHEAD_SERVICES_VIRTIO_QUEUE_H_
#define BULKHEAD_SERVICES_VIRTIO_QUEUE_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "services/runtime/guest_memory.h"
#include "services/virtio/spec.h"

namespace bulkhead::virtio {

// §2.7: at most 32768; more than this buys nothing.
inline constexpr uint16_t kMaxQueueSize = 256;
// Host segments of one chain: one for each descriptor.
inline constexpr size_t kMaxChainSegments = kMaxQueueSize;

// What a chain is given back with.
struct Ticket {
  uint16_t id = 0;     // split: the head's index; packed: the buffer id
  uint16_t count = 1;  // packed: descriptors of the ring
  uint16_t order = 0;  // counts the chains taken
};

struct Chain {
  Ticket ticket;
  iovec* segments = nullptr;  // room for kMaxChainSegments, the owner's
  size_t readable_count = 0;
  size_t count = 0;
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
  // Some buffer is not wholly in guest RAM (or the chain is in too many
  // pieces): only the last writable segment may be used, if `last_is_good`.
  bool faulty = false;
  bool last_is_good = false;

  absl::Span<iovec> readable() const { return {segments, readable_count}; }
  absl::Span<iovec> writable() const {
    return {segments + readable_count, count - readable_count};
  }
};

// What the driver has set, and where the device has got to. Part of the
// device's saved state.
struct QueueState {
  uint64_t descriptors;  // guest addresses of the three areas
  uint64_t driver;
  uint64_t device;
  uint16_t size;
  uint16_t vector;
  uint16_t next_avail;  // split: free-running; packed: position, wrap in bit 15
  uint16_t next_used;
  uint16_t signalled;  // next_used at the last look for a signal
  uint8_t enabled;
  uint8_t broken;
  uint8_t reserved[4];
};
static_assert(sizeof(QueueState) == 40);

enum class Popped { kEmpty, kChain, kBroken };

class Queue {
 public:
  // `state` is part of the device's; both outlive this.
  void Attach(GuestMemory* memory, QueueState* state);

  QueueState& state() { return *state_; }
  const QueueState& state() const { return *state_; }
  bool enabled() const { return state_->enabled != 0; }
  bool broken() const { return state_->broken != 0; }
  // Chains taken and not given back.
  unsigned outstanding() const { return outstanding_; }

  // Everything as before the driver set it up. No chain of before may be
  // pushed.
  void Reset(uint16_t size);
  // Starts at the rings' beginning. False when size, alignment or place of an
  // area is impossible; the queue is broken then.
  bool Enable(uint64_t features);
  // Goes on where a saved state left off.
  bool Restore(uint64_t features);
  // Guest memory may lie elsewhere now.
  void ForgetMapping() { mapped_ = false; }

  // `chain` has segments; all else is filled in.
  Popped Pop(Chain* chain);
  // Whether Pop would find something.
  bool HasWork();
  void Push(const Ticket& ticket, uint32_t written_bytes);

  // Whether the driver wants an interrupt for what was pushed since it was last
  // told, or not to be told.
  bool WantsSignal();
  // It has been.
  void Signalled() { state_->signalled = state_->next_used; }

  // The driver tells of new chains from now on, or need not.
  void EnableNotifications();
  void DisableNotifications();

 private:
  struct Pending {
    Ticket ticket;
    uint32_t written_bytes;
    bool done;
  };
  struct Walk;  // a chain being read

  bool packed() const { return (features_ & kFeaturePacked) != 0; }
  bool event_index() const { return (features_ & kFeatureEventIndex) != 0; }
  bool in_order() const { return (features_ & kFeatureInOrder) != 0; }

  bool Plausible() const;
  bool MapRings();
  uint8_t* MapArea(uint64_t address, size_t bytes, bool device_writes) const;
  Popped Break();

  bool SplitHasWork(uint16_t* index) const;
  Popped PopSplit(Chain* chain);
  void PushSplit(const Ticket& ticket, uint32_t written_bytes);
  bool PackedHasWork(uint16_t* flags) const;
  Popped PopPacked(Chain* chain);
  void PushPacked(const Ticket& ticket, uint32_t written_bytes);
  bool PackedWantsSignal(uint16_t before);

  // One descriptor of a chain; false breaks the queue.
  bool AddBuffer(uint64_t address, uint32_t length, bool writable, Walk* walk);
  bool AddIndirect(uint64_t address, uint32_t length, Walk* walk);
  void GiveBack(const Ticket& ticket, uint32_t written_bytes);

  GuestMemory* memory_ = nullptr;
  QueueState* state_ = nullptr;
  uint64_t features_ = 0;
  // The areas on the host; valid while mapped_.
  bool mapped_ = false;
  uint8_t* descriptors_ = nullptr;
  uint8_t* driver_ = nullptr;
  uint8_t* device_ = nullptr;

  unsigned outstanding_ = 0;              // chains
  unsigned outstanding_descriptors_ = 0;  // packed: of the ring
  bool notifications_ = true;             // as the driver was last told
  uint16_t order_next_ = 0;  // in-order: the next ticket, the next to go back
  uint16_t order_back_ = 0;
  std::array<Pending, kMaxQueueSize> pending_;
};

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_QUEUE_H_
