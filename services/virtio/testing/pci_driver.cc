#include "services/virtio/testing/pci_driver.h"

#include <cstddef>
#include <utility>

#include "services/pci/spec.h"
#include "services/runtime/device.h"

namespace bulkhead::virtio {
namespace {

constexpr int kResetTries = 100'000;

}  // namespace

PciDriver::PciDriver(Read read, Write write)
    : read_(std::move(read)), write_(std::move(write)) {
  write_(kConfigRegion, pci::kCommand, 2,
         pci::kCommandMemorySpace | pci::kCommandBusMaster);
  common_ = Find(kCapCommon);
  notify_ = Find(kCapNotify);
  isr_ = Find(kCapIsr);
  device_ = Find(kCapDevice);
  if (const uint16_t cap = Capability(kCapNotify); cap != 0) {
    multiplier_ = static_cast<uint32_t>(
        read_(kConfigRegion, cap + kNotifyCapMultiplier, 4));
  }
}

bool PciDriver::found() const {
  return common_.found && notify_.found && isr_.found && device_.found;
}

uint16_t PciDriver::Capability(uint8_t type) {
  auto at =
      static_cast<uint16_t>(read_(kConfigRegion, pci::kCapabilitiesPointer, 1));
  for (int i = 0; at != 0 && i < 48; ++i) {
    if (read_(kConfigRegion, at, 1) == pci::kCapabilityVendorSpecific &&
        read_(kConfigRegion, at + kCapType, 1) == type) {
      return at;
    }
    at = static_cast<uint16_t>(read_(kConfigRegion, at + 1u, 1));
  }
  return 0;
}

void PciDriver::EnableMsix(bool enabled) {
  auto at =
      static_cast<uint16_t>(read_(kConfigRegion, pci::kCapabilitiesPointer, 1));
  for (int i = 0; at != 0 && i < 48; ++i) {
    if (read_(kConfigRegion, at, 1) == pci::kCapabilityMsix) {
      write_(kConfigRegion, at + pci::kMsixControl, 2,
             enabled ? pci::kMsixEnable : 0);
    }
    at = static_cast<uint16_t>(read_(kConfigRegion, at + 1u, 1));
  }
}

PciDriver::Place PciDriver::Find(uint8_t type) {
  const uint16_t cap = Capability(type);
  if (cap == 0) return {};
  return {static_cast<uint32_t>(read_(kConfigRegion, cap + kCapBar, 1)),
          static_cast<uint32_t>(read_(kConfigRegion, cap + kCapOffset, 4)),
          true};
}

uint64_t PciDriver::ReadCommon(size_t offset, unsigned size) {
  return read_(common_.bar, common_.offset + offset, size);
}
void PciDriver::WriteCommon(size_t offset, unsigned size, uint64_t value) {
  write_(common_.bar, common_.offset + offset, size, value);
}
uint64_t PciDriver::ReadDevice(size_t offset, unsigned size) {
  return read_(device_.bar, device_.offset + offset, size);
}
void PciDriver::WriteDevice(size_t offset, unsigned size, uint64_t value) {
  write_(device_.bar, device_.offset + offset, size, value);
}

uint8_t PciDriver::status() {
  return static_cast<uint8_t>(
      ReadCommon(offsetof(CommonConfig, device_status), 1));
}
void PciDriver::set_status(uint8_t status) {
  WriteCommon(offsetof(CommonConfig, device_status), 1, status);
}
uint8_t PciDriver::TakeIsr() {
  return static_cast<uint8_t>(read_(isr_.bar, isr_.offset, 1));
}
void PciDriver::SelectQueue(uint16_t index) {
  WriteCommon(offsetof(CommonConfig, queue_select), 2, index);
}

bool PciDriver::Reset() {
  set_status(0);
  for (int i = 0; i < kResetTries; ++i) {
    if (status() == 0) return true;
  }
  return false;
}

uint64_t PciDriver::DeviceFeatures() {
  uint64_t features = 0;
  for (uint32_t i = 0; i < 2; ++i) {
    WriteCommon(offsetof(CommonConfig, device_feature_select), 4, i);
    features |= ReadCommon(offsetof(CommonConfig, device_feature), 4)
                << (32 * i);
  }
  return features;
}

bool PciDriver::Negotiate(uint64_t features) {
  set_status(kStatusAcknowledge);
  set_status(kStatusAcknowledge | kStatusDriver);
  for (uint32_t i = 0; i < 2; ++i) {
    WriteCommon(offsetof(CommonConfig, driver_feature_select), 4, i);
    WriteCommon(offsetof(CommonConfig, driver_feature), 4,
                static_cast<uint32_t>(features >> (32 * i)));
  }
  set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  return (status() & kStatusFeaturesOk) != 0;
}

void PciDriver::SetUpQueue(uint16_t index, const DriverQueue& queue,
                           uint16_t vector) {
  SelectQueue(index);
  WriteCommon(offsetof(CommonConfig, queue_size), 2, queue.size());
  WriteCommon(offsetof(CommonConfig, queue_msix_vector), 2, vector);
  const auto address = [this](size_t at, uint64_t value) {
    WriteCommon(at, 4, static_cast<uint32_t>(value));
    WriteCommon(at + 4, 4, value >> 32);
  };
  address(offsetof(CommonConfig, queue_desc), queue.descriptors());
  address(offsetof(CommonConfig, queue_driver), queue.driver());
  address(offsetof(CommonConfig, queue_device), queue.device());
  WriteCommon(offsetof(CommonConfig, queue_enable), 2, 1);
}

void PciDriver::Start() {
  set_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk |
             kStatusDriverOk);
}

void PciDriver::Notify(uint16_t index) {
  write_(notify_.bar, notify_.offset + index * multiplier_, 2, index);
}

}  // namespace bulkhead::virtio
