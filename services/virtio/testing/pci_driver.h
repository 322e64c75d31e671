// PciDriver is a driver's way to a virtio device over PCI: it finds the
// structures by their capabilities and goes through the steps of §3.1.
//
//   PciDriver driver(read, write);       // config space and BARs, by region
//   driver.Reset();
//   ASSERT_TRUE(driver.Negotiate(virtio::kFeatureVersion1));
//   driver.SetUpQueue(0, queue, /*vector=*/1);
//   driver.Start();
//   driver.Notify(0);
//
// TRUST    For tests: the device is believed.
// ERRORS   As each method says.
// THREADS  One.
// SPEC     VIRTIO 1.2 §3.1.1, §4.1.4.

#ifndef BULKHEAD_SERVICES_VIRTIO_TESTING_PCI_DRIVER_H_
#define BULKHEAD_SERVICES_VIRTIO_TESTING_PCI_DRIVER_H_

#include <cstdint>
#include <functional>

#include "services/virtio/spec.h"
#include "services/virtio/testing/driver_queue.h"

namespace bulkhead::virtio {

class PciDriver {
 public:
  using Read =
      std::function<uint64_t(uint32_t region, uint64_t offset, unsigned size)>;
  using Write = std::function<void(uint32_t region, uint64_t offset,
                                   unsigned size, uint64_t value)>;

  // Turns on memory and bus mastering, and looks for the capabilities.
  PciDriver(Read read, Write write);

  // Whether all structures were found.
  bool found() const;

  // Until the device says that it is reset; false when it never does.
  bool Reset();
  uint64_t DeviceFeatures();
  // ACKNOWLEDGE to FEATURES_OK; false when the device refuses.
  bool Negotiate(uint64_t features);
  void SetUpQueue(uint16_t index, const DriverQueue& queue, uint16_t vector);
  void Start();  // DRIVER_OK
  void Notify(uint16_t index);

  uint8_t status();
  void set_status(uint8_t status);
  uint8_t TakeIsr();
  void SelectQueue(uint16_t index);

  uint64_t ReadCommon(size_t offset, unsigned size);
  void WriteCommon(size_t offset, unsigned size, uint64_t value);
  uint64_t ReadDevice(size_t offset, unsigned size);
  void WriteDevice(size_t offset, unsigned size, uint64_t value);

  // The capability of a type in configuration space; 0: none.
  uint16_t Capability(uint8_t type);
  // MSI-X on or off (the eventfds are the caller's).
  void EnableMsix(bool enabled);

 private:
  struct Place {
    uint32_t bar = 0;
    uint32_t offset = 0;
    bool found = false;
  };
  Place Find(uint8_t type);

  Read read_;
  Write write_;
  Place common_;
  Place notify_;
  Place isr_;
  Place device_;
  uint32_t multiplier_ = 0;
};

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_TESTING_PCI_DRIVER_H_
