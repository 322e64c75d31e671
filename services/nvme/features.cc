#include "services/nvme/features.h"

#include <algorithm>

namespace bulkhead::nvme {
namespace {

// §5.13.1, CDW10.SEL.
constexpr uint32_t kSelectCurrent = 0;
constexpr uint32_t kSelectSaved = 2;
constexpr uint32_t kSelectCapabilities = 3;

// Bits of the capabilities that SEL 3 asks for.
constexpr uint32_t kChangeable = 1u << 2;
constexpr uint32_t kNamespaceSpecific = 1u << 1;

constexpr uint32_t kErrorRecoveryTimeMask = 0xffff;
constexpr uint32_t kDeallocatedErrors = 1u << 16;  // DULBE

// The features' values are of the controller.
bool IsNamespaceSpecific(Feature feature) {
  return feature == Feature::kErrorRecovery;
}

}  // namespace

// False: there is no such feature.
bool Features::Value(const FeatureState& state, Feature feature,
                     uint32_t selector, uint32_t* value) {
  switch (feature) {
    case Feature::kArbitration:
      *value = state.arbitration;
      return true;
    case Feature::kPowerManagement:
      *value = 0;  // there is one power state
      return true;
    case Feature::kTemperatureThreshold: {
      // Only the composite temperature has thresholds that are ever reached.
      const bool composite = (selector >> 16 & 0xf) == 0;
      const bool under = (selector >> 20 & 3) == 1;
      *value = under ? (composite ? state.temperature_under : 0)
                     : (composite ? state.temperature_over : 0xffff);
      return true;
    }
    case Feature::kErrorRecovery:
      *value = state.error_recovery;
      return true;
    case Feature::kVolatileWriteCache:
      *value = state.write_cache;
      return true;
    case Feature::kNumberOfQueues:
      *value = (state.io_submission_queues - 1) |
               (state.io_completion_queues - 1) << 16;
      return true;
    case Feature::kInterruptCoalescing:
      *value = state.coalescing;
      return true;
    case Feature::kInterruptVector: {
      const uint32_t vector = selector & 0xffff;
      *value = vector;
      if (vector >= kVectors) return false;
      if (state.coalescing_disabled[vector] != 0) *value |= 1u << 16;
      return true;
    }
    case Feature::kWriteAtomicity:
      *value = state.write_atomicity;
      return true;
    case Feature::kAsyncEvents:
      *value = state.async_events;
      return true;
  }
  return false;
}

Outcome Features::Get(const Command& command, uint32_t* result) const {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t select = command.cdw10 >> 8 & 7;
  if (select > kSelectCapabilities)
    return {Status::kInvalidField, kAtCdw10 + 1};
  const FeatureState defaults;
  // Nothing is saved: what would be is the default.
  const FeatureState& from = select == kSelectCurrent ? state_ : defaults;
  static_assert(kSelectSaved == 2);
  if (!Value(from, feature, command.cdw11, result)) {
    return {Status::kInvalidField, kAtCdw10};
  }
  if (select == kSelectCapabilities) {
    *result =
        kChangeable | (IsNamespaceSpecific(feature) ? kNamespaceSpecific : 0);
  }
  return {};
}

Outcome Features::SetTemperature(uint32_t value) {
  const uint32_t sensor = value >> 16 & 0xf;
  const uint32_t type = value >> 20 & 3;
  if (type > 1) return {Status::kInvalidField, kAtCdw11 + 2};
  // 1-8 are sensors that this controller lacks; 15 is all of them.
  if (sensor != 0 && sensor != 0xf) {
    return {Status::kInvalidField, kAtCdw11 + 2};
  }
  (type == 0 ? state_.temperature_over : state_.temperature_under) =
      value & 0xffff;
  return {};
}

// §5.21.1.7: once, before queues are made.
Outcome Features::SetNumberOfQueues(uint32_t value, bool queues_exist,
                                    uint32_t* result) {
  const uint32_t submission = value & 0xffff;
  const uint32_t completion = value >> 16;
  if (queues_exist) return {Status::kCommandSequenceError, kAtCdw10};
  if (submission == 0xffff || completion == 0xffff) {
    return {Status::kInvalidField, kAtCdw11};
  }
  state_.io_submission_queues = std::min(submission + 1, kMaxIoQueues);
  state_.io_completion_queues = std::min(completion + 1, kMaxIoQueues);
  *result = (state_.io_submission_queues - 1) |
            (state_.io_completion_queues - 1) << 16;
  return {};
}

Outcome Features::Set(const Command& command, bool queues_exist,
                      uint32_t* result) {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t value = command.cdw11;
  uint32_t present;
  if (!Value(state_, feature, value, &present)) {
    return {Status::kInvalidField,
            feature == Feature::kInterruptVector ? kAtCdw11 : kAtCdw10};
  }
  if ((command.cdw10 >> 31) != 0) {
    return {Status::kFeatureNotSaveable, kAtCdw10 + 3};
  }
  if (command.nsid != 0 && command.nsid != 0xffffffff &&
      !IsNamespaceSpecific(feature)) {
    return {Status::kFeatureNotNamespaceSpecific, kAtNsid};
  }
  switch (feature) {
    case Feature::kArbitration:
      state_.arbitration = value & 0xffffff07;
      return {};
    case Feature::kPowerManagement:
      if ((value & 0x1f) == 0) return {};
      return {Status::kInvalidField, kAtCdw11};
    case Feature::kTemperatureThreshold:
      return SetTemperature(value);
    case Feature::kErrorRecovery:
      // NSFEAT says that deallocated blocks give no errors.
      if ((value & kDeallocatedErrors) != 0) {
        return {Status::kInvalidField, kAtCdw11 + 2};
      }
      state_.error_recovery = value & kErrorRecoveryTimeMask;
      return {};
    case Feature::kVolatileWriteCache:
      state_.write_cache = value & 1;
      return {};
    case Feature::kNumberOfQueues:
      return SetNumberOfQueues(value, queues_exist, result);
    case Feature::kInterruptCoalescing:
      state_.coalescing = value & 0xffff;
      return {};
    case Feature::kInterruptVector:
      state_.coalescing_disabled[value & 0xffff] = (value >> 16 & 1) != 0;
      return {};
    case Feature::kWriteAtomicity:
      state_.write_atomicity = value & 1;
      return {};
    case Feature::kAsyncEvents:
      state_.async_events =
          value & (kCriticalTemperature | kNamespaceAttributeNotices);
      return {};
  }
  return {Status::kInvalidField, kAtCdw10};
}

}  // namespace bulkhead::nvme
