// DriverQueue is a driver's side of one virtqueue, split or packed, on memory
// that it shares with a device: for tests, fuzzing and the load generator.
//
//   DriverQueue queue({.ram = ram, .at = 0x10000, .size = 128});
//   ... tell the device queue.descriptors(), queue.driver(), queue.device() ...
//   queue.Add({{.address = a, .length = 16}, {.address = b, .length = 512,
//              .writable = true}}, /*token=*/7);
//   if (queue.Publish()) kick();
//   while (queue.Take(&token, &written)) ...
//
// A split queue's chains take consecutive descriptors from a free list; tests
// that want a bad ring write into it by hand through ram().
//
// TRUST    For tests: the device is believed.
// ERRORS   Add: false when there is no room.
// THREADS  One; the device works on the rings at the same time.
// SPEC     VIRTIO 1.2 §2.7, §2.8.

#ifndef BULKHEAD_SERVICES_VIRTIO_TESTING_DRIVER_QUEUE_H_
#define BULKHEAD_SERVICES_VIRTIO_TESTING_DRIVER_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace bulkhead::virtio {

struct Buffer {
  uint64_t address = 0;
  uint32_t length = 0;
  bool writable = false;
};

class DriverQueue {
 public:
  struct Options {
    uint8_t* ram = nullptr;  // guest address 0 on the host
    uint64_t at = 0;         // where the areas begin; 64 KiB are used
    uint16_t size = 256;
    bool packed = false;
    bool event_index = false;
    // Each chain through a table of its own (§2.7.5.3), after the areas.
    bool indirect = false;
  };
  static constexpr uint64_t kAreaBytes = 64 << 10;
  static constexpr unsigned kIndirectEntries = 8;

  explicit DriverQueue(const Options& options);

  uint64_t descriptors() const { return options_.at; }
  uint64_t driver() const { return options_.at + 0x2000; }
  uint64_t device() const { return options_.at + 0x3000; }
  uint16_t size() const { return options_.size; }
  uint8_t* ram() const { return options_.ram; }

  // Puts a chain into the ring; the device sees it after Publish.
  bool Add(absl::Span<const Buffer> buffers, uint32_t token);
  // True: the device wants to be told.
  bool Publish();
  // One used chain.
  bool Take(uint32_t* token, uint32_t* written_bytes);
  bool HasUsed() const;

  // The driver wants an interrupt for the next used chain, or none. Enable
  // answers whether some are used already.
  bool EnableInterrupts();
  void DisableInterrupts();

  unsigned in_flight() const { return in_flight_; }

 private:
  bool AddSplit(absl::Span<const Buffer> buffers, uint32_t token);
  bool AddPacked(absl::Span<const Buffer> buffers, uint32_t token);
  uint64_t WriteTable(absl::Span<const Buffer> buffers, uint16_t slot);
  uint8_t* host(uint64_t address) const { return options_.ram + address; }

  struct Entry {
    uint32_t token = 0;
    uint16_t count = 0;
  };

  const Options options_;
  std::vector<Entry> entries_;     // by head or buffer id
  std::vector<uint16_t> free_;     // split: descriptors; packed: ids
  unsigned free_descriptors_ = 0;  // packed
  unsigned in_flight_ = 0;
  uint16_t avail_ = 0;      // split: index; packed: position
  uint16_t published_ = 0;  // split
  uint16_t used_ = 0;
  bool avail_wrap_ = true;
  bool used_wrap_ = true;
  // Packed: the head of the first chain since Publish, shown last.
  uint8_t* held_head_ = nullptr;
  uint16_t held_flags_ = 0;
};

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_TESTING_DRIVER_QUEUE_H_
