// Rig is a virtio block device in a test: the real device, a backend in memory,
// and a driver that speaks to both through registers and rings.
//
//   Rig rig({.packed = true});
//   ASSERT_TRUE(rig.Boot());
//   EXPECT_EQ(rig.Read(/*sector=*/8, 512), std::string(512, 'x'));
//
// TRUST    For tests only.
// ERRORS   A request that the device does not answer: status kNoAnswer.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_RIG_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_RIG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/runtime/testing/fake_service_context.h"
#include "services/scsi/testing/memory_backend.h"
#include "services/virtio/testing/driver_queue.h"
#include "services/virtio/testing/pci_driver.h"
#include "services/virtio_blk/device.h"
#include "services/virtio_blk/spec.h"

namespace bulkhead::virtio_blk {

using virtio::Buffer;

class Rig {
 public:
  struct Setup {
    bool packed = false;
    bool indirect = false;
    bool event_index = true;
    uint64_t capacity_bytes = 1 << 20;  // beyond kKeptBytes: zeroes
    uint64_t ram_mib = 4;
    bool read_only = false;
    bool msix = true;
    uint64_t without_features = 0;
    Options device = {.serial = "BH-0001"};
  };

  static constexpr uint64_t kRingAt = 0x10000;
  static constexpr uint64_t kRingStride = 0x10000;
  static constexpr uint64_t kHeaderAt = 0x100000;
  static constexpr uint64_t kStatusAt = 0x140000;
  static constexpr uint64_t kDataAt = 0x200000;
  static constexpr uint16_t kQueueSize = 64;
  static constexpr uint8_t kNoAnswer = 0xee;
  static constexpr uint64_t kKeptBytes = 64 << 20;

  explicit Rig(const Setup& setup);
  Rig() : Rig(Setup()) {}

  // Reset, features, queues, DRIVER_OK.
  bool Boot();

  // One request at a time, on queue 0.
  uint8_t Do(uint32_t type, uint64_t sector, const std::vector<Buffer>& data);
  uint8_t Write(uint64_t sector, const std::string& data);
  // The data, or "status N".
  std::string Read(uint64_t sector, uint32_t bytes);
  uint8_t DoRanges(uint32_t type, const std::vector<Range>& ranges);

  // Puts a request into a queue and tells the device; `slot` is the place of
  // its header, status and token.
  bool Submit(uint16_t queue, uint32_t slot, uint32_t type, uint64_t sector,
              const std::vector<Buffer>& data);
  uint8_t StatusOf(uint32_t slot);
  // Turns until there is nothing to do.
  void Run();
  int interrupts(uint32_t vector) {
    return context_.fake_interrupts().msix(vector);
  }

  FakeServiceContext& context() { return context_; }
  scsi::MemoryBackend& backend() { return *backend_; }
  Device& device() { return *device_; }
  virtio::PciDriver& driver() { return *driver_; }
  virtio::DriverQueue& queue(size_t i) { return *queues_[i]; }
  uint8_t* ram() {
    return reinterpret_cast<uint8_t*>(context_.memory().host_base());
  }
  uint64_t WantedFeatures();

 private:
  const Setup setup_;
  FakeServiceContext context_;
  scsi::MemoryBackend* backend_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::vector<std::unique_ptr<virtio::DriverQueue>> queues_;
};

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_RIG_H_
