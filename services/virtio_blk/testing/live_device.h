// LiveDevice is the real virtio_blk program under its real filters, with a raw
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
  };

  static constexpr uint64_t kRingAt = 0x10000;
  static constexpr uint16_t kQueueSize = 128;
  static constexpr uint64_t kHeaderAt = 0x100000;
  static constexpr uint64_t kStatusAt = 0x110000;
  static constexpr uint64_t kDataAt = 0x200000;
  static constexpr uint8_t kNoAnswer = 0xee;

  LiveDevice() : LiveDevice(Setup()) {}
  explicit LiveDevice(const Setup& setup);
  ~LiveDevice();

  // Reset, features, one queue, DRIVER_OK; the second with other rings.
  bool Boot() { return Boot(setup_.packed); }
  bool Boot(bool packed);
  // Reset and features; the queue is the caller's to set up.
  bool Negotiate(bool packed);

  // One request of kDataAt; waits for the interrupt, without polling.
  uint8_t Do(uint32_t type, uint64_t sector, uint32_t bytes);
  // Whether the device fails before a second is over.
  bool NeedsReset();

  FrameRig& rig() { return *rig_; }
  virtio::PciDriver& driver() { return *driver_; }
  virtio::DriverQueue& queue() { return *queue_; }
  uint8_t* ram() { return rig_->ram_base(); }
  int disk_fd() const { return disk_fd_; }

 private:
  const Setup setup_;
  int disk_fd_;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::unique_ptr<virtio::DriverQueue> queue_;
};

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_LIVE_DEVICE_H_
