// LiveDevice is the real virtio_blk program under its real filters (or the same
// in a thread of the test, for tools that cannot follow it there), with a raw
// disk, and a driver that reaches it by frames and rings as a shim and a guest
// do.
//
//   LiveDevice live;
//   ASSERT_TRUE(live.Boot());
//   EXPECT_EQ(live.Do(kTypeOut, /*sector=*/0, 4096), kStatusOk);
//
// TRUST    For tests only.
// ERRORS   A service that does not start, or breaks the frames' rules, ends the
//          test program. A request without an answer: kNoAnswer.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_LIVE_DEVICE_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_LIVE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "services/runtime/testing/frame_rig.h"
#include "services/virtio/testing/driver_queue.h"
#include "services/virtio/testing/pci_driver.h"
#include "services/virtio_blk/spec.h"

namespace bulkhead::virtio_blk {

class LiveDevice {
 public:
  struct Setup {
    bool packed = false;
    uint32_t spin_limit_us = 0;
    uint64_t disk_bytes = 16 << 20;
    // The caller's; -1: a new one in memory.
    int disk_fd = -1;
    unsigned queues = 1;  // at most kMostQueues
    unsigned queue_threads = 0;
    uint32_t iops = 0;  // 0: no limit
    bool in_process = false;
    DeviceFactory factory;  // in process, instead of MakeDevice
  };

  static constexpr unsigned kMostQueues = 4;
  static constexpr unsigned kSlots = 32;  // of each queue
  static constexpr uint64_t kRingAt = 0x10000;
  static constexpr uint64_t kRingStride = 0x10000;
  static constexpr uint16_t kQueueSize = 128;
  static constexpr uint64_t kHeaderAt = 0x100000;
  static constexpr uint64_t kStatusAt = 0x110000;
  static constexpr uint64_t kDataAt = 0x200000;
  static constexpr uint8_t kNoAnswer = 0xee;

  LiveDevice() : LiveDevice(Setup()) {}
  explicit LiveDevice(const Setup& setup);
  ~LiveDevice();

  // Reset, features, queues, DRIVER_OK; the second with other rings.
  bool Boot() { return Boot(setup_.packed); }
  bool Boot(bool packed);
  // Reset and features; the queue is the caller's to set up.
  bool Negotiate(bool packed);

  // One request of DataOf(queue, 0); waits for the interrupt, without polling.
  uint8_t Do(uint32_t type, uint64_t sector, uint32_t bytes) {
    return DoOn(0, type, sector, bytes);
  }
  uint8_t DoOn(unsigned queue, uint32_t type, uint64_t sector, uint32_t bytes);
  // One of many, of DataOf(queue, slot), at most 64 KiB; nobody waits.
  bool Submit(unsigned queue, unsigned slot, uint32_t type, uint64_t sector,
              uint32_t bytes);
  // All that a queue has under way, until the interrupts have told of them. How
  // many ended well.
  unsigned Collect(unsigned queue);
  static uint64_t DataOf(unsigned queue, unsigned slot) {
    return kDataAt + (uint64_t{queue} * kSlots + slot) * 0x10000;
  }
  uint8_t StatusOf(unsigned queue, unsigned slot) {
    return ram()[kStatusAt + queue * kSlots + slot];
  }
  // Whether the device fails before a second is over.
  bool NeedsReset();

  FrameRig& rig() { return *rig_; }
  virtio::PciDriver& driver() { return *driver_; }
  virtio::DriverQueue& queue(unsigned index = 0) { return *queues_[index]; }
  uint8_t* ram() { return rig_->ram_base(); }
  int disk_fd() const { return disk_fd_; }

 private:
  const Setup setup_;
  int disk_fd_;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::vector<std::unique_ptr<virtio::DriverQueue>> queues_;
};

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_LIVE_DEVICE_H_
