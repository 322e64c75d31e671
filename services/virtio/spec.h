// Registers, structures and bits of virtio over PCI, with the sections that
// define them. No logic.
//
// TRUST    Structures are overlaid on copies of a driver's memory, never on the
//          memory itself.
// ERRORS   None.
// THREADS  Any.
// SPEC     Virtual I/O Device (VIRTIO) 1.2.

#ifndef BULKHEAD_SERVICES_VIRTIO_SPEC_H_
#define BULKHEAD_SERVICES_VIRTIO_SPEC_H_

#include <cstddef>
#include <cstdint>

#include "services/runtime/endian.h"

namespace bulkhead::virtio {

// §4.1.2.1: PCI identity; the device id is 0x1040 plus the device type.
inline constexpr uint16_t kPciVendor = 0x1af4;
inline constexpr uint16_t kPciDeviceBase = 0x1040;
inline constexpr uint8_t kPciRevision = 1;

// §2.1: device status.
inline constexpr uint8_t kStatusAcknowledge = 1;
inline constexpr uint8_t kStatusDriver = 2;
inline constexpr uint8_t kStatusDriverOk = 4;
inline constexpr uint8_t kStatusFeaturesOk = 8;
inline constexpr uint8_t kStatusNeedsReset = 64;
inline constexpr uint8_t kStatusFailed = 128;

// §6: reserved feature bits.
constexpr uint64_t Feature(unsigned bit) { return uint64_t{1} << bit; }
inline constexpr uint64_t kFeatureIndirect = Feature(28);
inline constexpr uint64_t kFeatureEventIndex = Feature(29);
inline constexpr uint64_t kFeatureVersion1 = Feature(32);
inline constexpr uint64_t kFeaturePacked = Feature(34);
inline constexpr uint64_t kFeatureInOrder = Feature(35);
inline constexpr uint64_t kFeatureNotificationData = Feature(38);
inline constexpr uint64_t kFeatureRingReset = Feature(40);

// §4.1.4: the vendor-specific capability (struct virtio_pci_cap).
inline constexpr uint16_t kCapLength = 2;
inline constexpr uint16_t kCapType = 3;
inline constexpr uint16_t kCapBar = 4;
inline constexpr uint16_t kCapOffset = 8;
inline constexpr uint16_t kCapSize = 12;
inline constexpr size_t kCapBytes = 16;
inline constexpr uint16_t kNotifyCapMultiplier = 16;  // §4.1.4.4
inline constexpr uint16_t kPciCapData = 16;           // §4.1.4.9
inline constexpr size_t kLongCapBytes = 20;
inline constexpr uint8_t kCapCommon = 1;
inline constexpr uint8_t kCapNotify = 2;
inline constexpr uint8_t kCapIsr = 3;
inline constexpr uint8_t kCapDevice = 4;
inline constexpr uint8_t kCapPciAccess = 5;

// §4.1.4.3: the common configuration structure.
struct CommonConfig {
  Le32 device_feature_select;
  Le32 device_feature;
  Le32 driver_feature_select;
  Le32 driver_feature;
  Le16 config_msix_vector;
  Le16 num_queues;
  uint8_t device_status;
  uint8_t config_generation;
  Le16 queue_select;
  Le16 queue_size;
  Le16 queue_msix_vector;
  Le16 queue_enable;
  Le16 queue_notify_off;
  Le64 queue_desc;
  Le64 queue_driver;
  Le64 queue_device;
  Le16 queue_notify_data;
  Le16 queue_reset;
};
static_assert(sizeof(CommonConfig) == 60);

inline constexpr uint16_t kNoVector = 0xffff;

// §4.1.4.5: ISR status.
inline constexpr uint8_t kIsrQueue = 1;
inline constexpr uint8_t kIsrConfig = 2;

// §2.7.5, §2.8.13: descriptors. A packed one has `id` where a split one has
// `flags`, and `flags` where a split one has `next`.
struct SplitDescriptor {
  Le64 address;
  Le32 length;
  Le16 flags;
  Le16 next;
};
struct PackedDescriptor {
  Le64 address;
  Le32 length;
  Le16 id;
  Le16 flags;
};
static_assert(sizeof(SplitDescriptor) == 16);
static_assert(sizeof(PackedDescriptor) == 16);
inline constexpr size_t kDescriptorBytes = 16;
inline constexpr size_t kPackedFlagsOffset = 14;
inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;
inline constexpr uint16_t kPackedAvail = 1u << 7;
inline constexpr uint16_t kPackedUsed = 1u << 15;

// §2.7.6, §2.7.8: the split virtqueue's two rings.
inline constexpr size_t kAvailFlags = 0;
inline constexpr size_t kAvailIndex = 2;
inline constexpr size_t kAvailRing = 4;
inline constexpr size_t kUsedFlags = 0;
inline constexpr size_t kUsedIndex = 2;
inline constexpr size_t kUsedRing = 4;
inline constexpr size_t kUsedElementBytes = 8;
inline constexpr uint16_t kAvailNoInterrupt = 1;
inline constexpr uint16_t kUsedNoNotify = 1;
constexpr size_t AvailBytes(size_t size) { return 6 + 2 * size; }
constexpr size_t UsedBytes(size_t size) { return 6 + kUsedElementBytes * size; }
constexpr size_t UsedEvent(size_t size) { return kAvailRing + 2 * size; }
constexpr size_t AvailEvent(size_t size) {
  return kUsedRing + kUsedElementBytes * size;
}

// §2.8.14: the packed virtqueue's event suppression: 16 bits of offset and
// wrap counter, 16 bits of flags.
inline constexpr size_t kEventBytes = 4;
inline constexpr uint16_t kEventEnable = 0;
inline constexpr uint16_t kEventDisable = 1;
inline constexpr uint16_t kEventDescriptor = 2;
inline constexpr uint16_t kWrapBit = 1u << 15;

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_SPEC_H_
