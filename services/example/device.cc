#include "services/example/device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "proto/frame.pb.h"
#include "services/example/spec.h"

namespace bulkhead::example {
namespace {

// One turn reads at most this much: a guest's long request holds nobody up.
constexpr uint32_t kBytesPerTurn = 64 << 10;

pci::Layout MakeLayout() {
  pci::Layout layout;
  layout.vendor_id = kVendorId;
  layout.device_id = kDeviceId;
  layout.class_code = kClassCode;
  layout.interrupt_pin = 1;
  layout.bars[kRegistersBar] = {pci::Bar::Kind::kMemory32, kRegistersBytes};
  return layout;
}

}  // namespace

Device::Device(ServiceContext& context)
    : Function(context, state_.pci, MakeLayout()) {
  PowerOn();
}

uint64_t Device::ReadBar(unsigned, uint64_t offset, unsigned) {
  switch (offset) {
    case kId:
      return kIdValue;
    case kStatus:
      return state_.status;
    case kSource:
      return state_.source;
    case kLength:
      return state_.length;
    case kSum:
      return state_.sum;
    default:
      return 0;
  }
}

void Device::WriteBar(unsigned, uint64_t offset, unsigned, uint64_t value) {
  switch (offset) {
    case kStatus:
      SetStatus(state_.status & ~static_cast<uint32_t>(value));
      return;
    case kSource:
      state_.source = value;
      return;
    case kLength:
      state_.length = static_cast<uint32_t>(value);
      return;
    case kStart:
      // A store only sets state; Run does the work.
      state_.next = state_.source;
      state_.left = state_.length;
      state_.sum = 0;
      if (state_.left == 0) SetStatus(state_.status | kStatusDone);
      return;
    default:
      return;
  }
}

void Device::SetStatus(uint32_t status) {
  state_.status = status;
  SetInterrupt(status != 0);
}

Turn Device::Run(Nanoseconds) {
  uint32_t budget = kBytesPerTurn;
  while (state_.left > 0 && budget > 0) {
    std::array<uint8_t, 4096> bytes;
    const uint32_t n = std::min<uint32_t>({state_.left, budget, sizeof bytes});
    if (!DmaRead({state_.next}, bytes.data(), n)) {
      ++faults_;
      state_.left = 0;
      SetStatus(state_.status | kStatusFault);
      return {};
    }
    for (uint32_t i = 0; i < n; ++i) state_.sum += bytes[i];
    state_.next += n;
    state_.left -= n;
    budget -= n;
    if (state_.left == 0) {
      ++sums_;
      SetStatus(state_.status | kStatusDone);
    }
  }
  return {.busy = state_.left > 0};
}

void Device::ResetDevice() {
  state_.source = state_.next = 0;
  state_.left = state_.length = state_.sum = 0;
  SetStatus(0);
}

absl::Span<const std::byte> Device::State() const {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&state_),
                             sizeof state_);
}

bool Device::LoadState(absl::Span<const std::byte> state) {
  if (state.size() != sizeof state_) return false;
  const auto saved = std::make_unique<SavedState>();
  std::memcpy(static_cast<void*>(saved.get()), state.data(), state.size());
  if ((saved->status & ~(kStatusDone | kStatusFault)) != 0) return false;
  if (!RestoreFunction(saved->pci)) return false;
  const pci::FunctionState function = state_.pci;
  state_ = *saved;
  state_.pci = function;
  SetStatus(state_.status);
  return true;
}

void Device::ReportStatistics(Statistics* statistics) const {
  const auto add = [statistics](const char* name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  add("example_sums", sums_);
  add("example_faults", faults_);
}

}  // namespace bulkhead::example
