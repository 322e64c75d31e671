#include "services/runtime/testing/toy_device.h"

#include <algorithm>
#include <cstring>

#include "proto/frame.pb.h"

namespace bulkhead {

ToyDevice::ToyDevice(ServiceContext& context) : context_(context) { Publish(); }

void ToyDevice::Describe(DeviceDescription* description) const {
  const auto add = [description](uint32_t index, uint64_t size_bytes,
                                 bool writable) {
    Region* region = description->add_regions();
    region->set_index(index);
    region->set_size_bytes(size_bytes);
    region->set_readable(true);
    region->set_writable(writable);
  };
  add(kRegisters, kRegionBytes, true);
  add(kReadOnlyRegion, 16, false);
  add(kDoorbellRegion, 8192, true);
  for (const uint64_t offset : {kScratch, kStores}) {
    ShadowRange* range = description->add_shadows();
    range->set_region(kRegisters);
    range->set_offset(offset);
    range->set_size_bytes(8);
    range->set_shadow_offset(offset);
  }
  Doorbell* doorbell = description->add_doorbells();
  doorbell->set_region(kDoorbellRegion);
  doorbell->set_offset(kDoorbellOffset);
  doorbell->set_size_bytes(4096);
  description->set_intx_pin(1);
  description->set_msix_vectors(kMsixVectors);
}

uint64_t ToyDevice::ReadRegion(uint32_t region, uint64_t offset,
                               unsigned size_bytes) {
  if (region != kRegisters) return 0x5a;
  uint64_t value = 0;
  switch (offset & ~uint64_t{7}) {
    case kScratch:
      value = state_.scratch;
      break;
    case kStores:
      value = state_.stores;
      break;
    case kFaults:
      value = state_.faults;
      break;
    case kRang:
      value = state_.rang;
      break;
    default:
      break;
  }
  value >>= 8 * (offset & 7);
  return size_bytes >= 8 ? value
                         : value & ((uint64_t{1} << (8 * size_bytes)) - 1);
}

void ToyDevice::WriteRegion(uint32_t region, uint64_t offset,
                            unsigned /*size_bytes*/, uint64_t value) {
  if (region != kRegisters) return;
  ++state_.stores;
  switch (offset) {
    case kScratch:
      state_.scratch = value;
      break;
    case kIntx:
      state_.level = value & 1;
      break;
    case kCopyTo:
      if (!context_.memory().Write({value}, &state_.scratch, 8)) {
        ++state_.faults;
      }
      break;
    case kMsix:
      context_.interrupts().TriggerMsix(static_cast<uint32_t>(value));
      break;
    case kTimer:
      timer_ = context_.Now() + std::min<uint64_t>(value, 1'000'000'000);
      break;
    case kWork:
      busy_turns_ = std::min<uint64_t>(value, 1'000'000);
      break;
    case kFail:
      context_.Fail("the toy\nis broken");
    default:
      break;
  }
  Publish();
}

void ToyDevice::Publish() {
  uint8_t* image = context_.shadow_image().data();
  std::memcpy(image + kScratch, &state_.scratch, 8);
  std::memcpy(image + kStores, &state_.stores, 8);
  context_.interrupts().SetIntxLevel(state_.level != 0);
}

void ToyDevice::Reset() {
  state_ = {};
  timer_ = kNoDeadline;
  busy_turns_ = 0;
  Publish();
}

Turn ToyDevice::Run(Nanoseconds now) {
  const absl::Span<uint8_t> doorbell = context_.doorbell(0);
  if (!doorbell.empty()) state_.rang = doorbell[0];
  if (now >= timer_) {
    timer_ = kNoDeadline;
    context_.interrupts().TriggerMsix(1);
  }
  if (busy_turns_ > 0) --busy_turns_;
  // The doorbell is looked at once in a while, since nobody announces it.
  return {.busy = busy_turns_ > 0,
          .deadline = std::min(timer_, now + 1'000'000)};
}

absl::Span<const std::byte> ToyDevice::State() const {
  return {reinterpret_cast<const std::byte*>(&state_), sizeof state_};
}

bool ToyDevice::LoadState(absl::Span<const std::byte> state) {
  Saved loaded;
  if (state.size() != sizeof loaded) return false;
  std::memcpy(&loaded, state.data(), sizeof loaded);
  if (loaded.level > 1) return false;
  state_ = loaded;
  Publish();
  return true;
}

void ToyDevice::ReportStatistics(Statistics* statistics) const {
  const auto count = [statistics](const char* name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  count("toy_quiesces", quiesces_);
  count("toy_resumes", resumes_);
}

}  // namespace bulkhead
