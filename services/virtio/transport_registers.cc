// The registers: capabilities, common configuration, notification, ISR, the
// window in configuration space.

#include <cstddef>
#include <cstring>

#include "services/pci/spec.h"
#include "services/virtio/transport.h"

namespace bulkhead::virtio {
namespace {

#define FIELD(name) offsetof(CommonConfig, name)

// §6.1: features that make no sense without another.
bool AreConsistent(uint64_t features) {
  return (features & kFeatureVersion1) != 0;
}

uint64_t Cut(uint64_t value, unsigned size_bytes) {
  return size_bytes >= 8 ? value
                         : value & ((uint64_t{1} << (8 * size_bytes)) - 1);
}

// A 64-bit register, written whole or by halves (§4.1.3.1).
void Store64(uint64_t* to, uint64_t in_register, unsigned size_bytes,
             uint64_t value) {
  if (size_bytes == 8 && in_register == 0) {
    *to = value;
  } else if (size_bytes == 4 && in_register % 4 == 0) {
    const unsigned shift = static_cast<unsigned>(8 * in_register);
    *to = (*to & ~(uint64_t{0xffffffff} << shift)) | value << shift;
  }
}

}  // namespace

// §4.1.4.
void Transport::AddCapabilities() {
  AddCapability(kCapCommon, kCommonAt, kCapBytes);
  AddCapability(kCapNotify, kNotifyAt, kLongCapBytes);
  AddCapability(kCapIsr, kIsrAt, kCapBytes);
  AddCapability(kCapDevice, kDeviceAt, kCapBytes);
  AddCapability(kCapPciAccess, 0, kLongCapBytes);
}

void Transport::AddCapability(uint8_t type, uint32_t offset, size_t cap_bytes) {
  const uint16_t cap =
      config().AddCapability(pci::kCapabilityVendorSpecific, cap_bytes);
  const auto at = [cap](uint16_t field) {
    return static_cast<uint16_t>(cap + field);
  };
  config().Define8(at(kCapLength), static_cast<uint8_t>(cap_bytes));
  config().Define8(at(kCapType), type);
  if (type == kCapPciAccess) {
    // §4.1.4.9: the driver says where, and how many bytes.
    pci_access_ = cap;
    config().Define8(at(kCapBar), 0, 0xff);
    config().Define32(at(kCapOffset), 0, 0xffffffff);
    config().Define32(at(kCapSize), 0, 0xffffffff);
    config().Define32(at(kPciCapData), 0, 0xffffffff);
    return;
  }
  uint32_t size_bytes = kStructureBytes;
  if (type == kCapCommon) size_bytes = sizeof(CommonConfig);
  if (type == kCapIsr) size_bytes = 1;
  if (type == kCapNotify) size_bytes = kind_.queues * kNotifyMultiplier;
  if (type == kCapDevice) {
    size_bytes = static_cast<uint32_t>(kind_.config_size_bytes);
  }
  config().Define8(at(kCapBar), kStructuresBar);
  config().Define32(at(kCapOffset), offset);
  config().Define32(at(kCapSize), size_bytes);
  if (type == kCapNotify) {
    config().Define32(at(kNotifyCapMultiplier), kNotifyMultiplier);
  }
}

// ---- the window in configuration space (§4.1.4.9)

bool Transport::PciWindow(unsigned* bar, uint64_t* offset,
                          unsigned* size_bytes) const {
  const auto at = [this](uint16_t field) {
    return static_cast<uint16_t>(pci_access_ + field);
  };
  *bar = config().Get16(at(kCapBar)) & 0xff;
  *offset = config().Get32(at(kCapOffset));
  *size_bytes = config().Get32(at(kCapSize));
  return *bar == kStructuresBar &&
         (*size_bytes == 1 || *size_bytes == 2 || *size_bytes == 4) &&
         *offset % *size_bytes == 0 &&
         *offset <= kStructuresBarBytes - *size_bytes;
}

void Transport::OnConfigRead(uint64_t offset, unsigned size_bytes) {
  const auto data = static_cast<uint16_t>(pci_access_ + kPciCapData);
  unsigned bar;
  uint64_t at;
  unsigned bytes;
  if (offset >= data + 4u || offset + size_bytes <= data ||
      !PciWindow(&bar, &at, &bytes)) {
    return;
  }
  config().Set32(data, static_cast<uint32_t>(ReadBar(bar, at, bytes)));
}

void Transport::OnConfigWrite(uint64_t offset, unsigned size_bytes) {
  const auto data = static_cast<uint16_t>(pci_access_ + kPciCapData);
  unsigned bar;
  uint64_t at;
  unsigned bytes;
  if (offset >= data + 4u || offset + size_bytes <= data ||
      !PciWindow(&bar, &at, &bytes)) {
    return;
  }
  WriteBar(bar, at, bytes, Cut(config().Get32(data), bytes));
}

// ---- the BAR

uint64_t Transport::ReadBar(unsigned bar, uint64_t offset,
                            unsigned size_bytes) {
  if (bar != kStructuresBar) return 0;
  const uint64_t inside = offset % kStructureBytes;
  switch (offset - inside) {
    case kCommonAt:
      return ReadCommon(inside, size_bytes);
    case kIsrAt:
      return inside == 0 ? TakeIsr() : 0;
    case kDeviceAt: {
      const absl::Span<const uint8_t> bytes = device_config();
      uint64_t value = 0;
      for (unsigned i = 0; i < size_bytes && inside + i < bytes.size(); ++i) {
        value |= uint64_t{bytes[inside + i]} << (8 * i);
      }
      return value;
    }
    default:
      return 0;
  }
}

void Transport::WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                         uint64_t value) {
  if (bar != kStructuresBar) return;
  const uint64_t inside = offset % kStructureBytes;
  switch (offset - inside) {
    case kCommonAt:
      WriteCommon(inside, size_bytes, value);
      return;
    case kDeviceAt:
      if (!resetting_ && inside + size_bytes <= kind_.config_size_bytes) {
        WriteDeviceConfig(inside, size_bytes, value);
      }
      return;
    case kNotifyAt:
      Notified(inside, value);
      return;
    default:
      return;
  }
}

// §4.1.5.2: the queue's index, with NOTIFICATION_DATA in the low 16 bits (the
// rest repeats what the ring says). The turn that follows looks at every queue;
// what this message does is to wake the loop.
void Transport::Notified(uint64_t offset, uint64_t value) {
  ++counters_.notifications;
  const uint64_t index = value & 0xffff;
  if (index >= kind_.queues || offset != index * kNotifyMultiplier) {
    ++counters_.bad_notifications;
  }
}

// ---- common configuration (§4.1.4.3)

Transport::QueueSlot* Transport::Selected() {
  return state_.queue_select < kind_.queues ? &slots_[state_.queue_select]
                                            : nullptr;
}

uint64_t Transport::ReadCommon(uint64_t offset, unsigned size_bytes) {
  CommonConfig common = {};
  common.device_feature_select = state_.device_feature_select;
  common.driver_feature_select = state_.driver_feature_select;
  if (state_.device_feature_select < 2) {
    common.device_feature =
        static_cast<uint32_t>(offered_ >> (32 * state_.device_feature_select));
  }
  if (state_.driver_feature_select < 2) {
    common.driver_feature = static_cast<uint32_t>(
        state_.driver_features >> (32 * state_.driver_feature_select));
  }
  common.config_msix_vector = state_.config_vector;
  common.num_queues = static_cast<uint16_t>(kind_.queues);
  common.device_status = state_.status;
  common.config_generation = state_.config_generation;
  common.queue_select = state_.queue_select;
  if (const QueueSlot* slot = Selected(); slot != nullptr) {
    const QueueState& queue = slot->queue.state();
    common.queue_size = queue.size;
    common.queue_msix_vector = queue.vector;
    common.queue_enable = queue.enabled;
    common.queue_notify_off = state_.queue_select;
    common.queue_desc = queue.descriptors;
    common.queue_driver = queue.driver;
    common.queue_device = queue.device;
    common.queue_notify_data = state_.queue_select;
    common.queue_reset = slot->resetting ? 1 : 0;
  } else {
    common.queue_msix_vector = kNoVector;
  }
  if (offset >= sizeof common) return 0;
  uint64_t value = 0;
  std::memcpy(&value, reinterpret_cast<const uint8_t*>(&common) + offset,
              std::min<uint64_t>(size_bytes, sizeof common - offset));
  return value;
}

void Transport::WriteCommon(uint64_t offset, unsigned size_bytes,
                            uint64_t value) {
  const auto word = static_cast<uint32_t>(value);
  const auto half = static_cast<uint16_t>(value);
  if (offset == FIELD(device_status)) {
    SetStatus(static_cast<uint8_t>(value));
    return;
  }
  if (resetting_) return;
  switch (offset) {
    case FIELD(device_feature_select):
      if (size_bytes == 4) state_.device_feature_select = word;
      return;
    case FIELD(driver_feature_select):
      if (size_bytes == 4) state_.driver_feature_select = word;
      return;
    case FIELD(driver_feature): {
      // §2.2.2: not any more once they are agreed on.
      const uint32_t select = state_.driver_feature_select;
      if (size_bytes != 4 || select > 1 ||
          (state_.status & kStatusFeaturesOk) != 0) {
        return;
      }
      Store64(&state_.driver_features, 4 * select, 4, word);
      return;
    }
    case FIELD(config_msix_vector):
      if (size_bytes == 2) {
        state_.config_vector = half <= kind_.queues ? half : kNoVector;
      }
      return;
    case FIELD(queue_select):
      if (size_bytes == 2) state_.queue_select = half;
      return;
    default:
      WriteQueueField(offset, size_bytes, value);
  }
}

void Transport::WriteQueueField(uint64_t offset, unsigned size_bytes,
                                uint64_t value) {
  QueueSlot* slot = Selected();
  if (slot == nullptr || slot->resetting) return;
  QueueState& queue = slot->queue.state();
  const auto half = static_cast<uint16_t>(value);
  if (offset == FIELD(queue_msix_vector) && size_bytes == 2) {
    queue.vector = half <= kind_.queues ? half : kNoVector;
    return;
  }
  if (offset == FIELD(queue_reset) && size_bytes == 2) {
    if (half == 1 && (features() & kFeatureRingReset) != 0) {
      slot->resetting = any_resetting_ = true;
      FinishResets();
    }
    return;
  }
  // §4.1.4.3.2: an enabled queue stays as it is.
  if (queue.enabled != 0) return;
  if (offset == FIELD(queue_size) && size_bytes == 2) {
    if (half <= kind_.queue_size) queue.size = half;
  } else if (offset == FIELD(queue_enable) && size_bytes == 2) {
    if (half == 1 && !EnableQueue(slot->queue)) FailDevice();
  } else if (offset >= FIELD(queue_desc) && offset < FIELD(queue_driver)) {
    Store64(&queue.descriptors, offset - FIELD(queue_desc), size_bytes, value);
  } else if (offset >= FIELD(queue_driver) && offset < FIELD(queue_device)) {
    Store64(&queue.driver, offset - FIELD(queue_driver), size_bytes, value);
  } else if (offset >= FIELD(queue_device) &&
             offset < FIELD(queue_notify_data)) {
    Store64(&queue.device, offset - FIELD(queue_device), size_bytes, value);
  }
}

bool Transport::EnableQueue(Queue& queue) {
  // §3.1.1: queues are set up after the features are agreed on.
  if ((state_.status & kStatusFeaturesOk) == 0) return true;
  return queue.Enable(features());
}

// §2.1.1, §3.1.1: bits are only ever added, until 0 resets the device.
void Transport::SetStatus(uint8_t value) {
  if (value == 0) {
    BeginReset();
    return;
  }
  if (resetting_) return;
  state_.status |= value & (kStatusAcknowledge | kStatusDriver | kStatusFailed);
  if ((value & kStatusFeaturesOk) != 0 &&
      (state_.status & kStatusFeaturesOk) == 0) {
    AcceptFeatures();
  }
  if ((value & kStatusDriverOk) != 0 &&
      (state_.status & kStatusFeaturesOk) != 0) {
    state_.status |= kStatusDriverOk;
  }
}

// §2.2.2: FEATURES_OK stays off when the driver wants what was not offered.
void Transport::AcceptFeatures() {
  if ((state_.driver_features & ~offered_) != 0 ||
      !AreConsistent(state_.driver_features)) {
    return;
  }
  state_.status |= kStatusFeaturesOk;
  FeaturesChanged(state_.driver_features);
}

}  // namespace bulkhead::virtio
