// What the device is: features, configuration, state.

#include "services/virtio_blk/device.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "proto/frame.pb.h"
#include "services/block/drain.h"

namespace bulkhead::virtio_blk {
namespace {

// A request that takes longer has lost its storage for good.
constexpr Nanoseconds kDrainAtMost = 30'000'000'000;

}  // namespace

virtio::DeviceKind Device::MakeKind(const block::Geometry& geometry,
                                    unsigned groups, const Options& options) {
  uint64_t features =
      virtio::kFeatureIndirect | virtio::kFeatureEventIndex |
      virtio::kFeatureNotificationData | virtio::kFeatureRingReset |
      kFeatureSizeMax | kFeatureSegMax | kFeatureGeometry | kFeatureBlockSize |
      kFeatureTopology | kFeatureFlush | kFeatureConfigWce | kFeatureMultiQueue;
  if (options.packed) features |= virtio::kFeaturePacked;
  if (options.in_order) features |= virtio::kFeatureInOrder;
  if (geometry.read_only) {
    features |= kFeatureReadOnly;
  } else {
    if (geometry.can_discard) features |= kFeatureDiscard;
    if (geometry.can_write_zeroes) features |= kFeatureWriteZeroes;
  }
  return {.device_type = kDeviceType,
          .class_code = kClassCode,
          .queues = options.queues,
          .groups = groups,
          .queue_size = options.queue_size,
          .features = features,
          .config_size_bytes = sizeof(Config)};
}

Device::Device(ServiceContext& context,
               std::vector<std::unique_ptr<block::Backend>> backends,
               const Options& options)
    : Transport(context, state_.transport,
                MakeKind(backends.front()->geometry(),
                         static_cast<unsigned>(backends.size()), options)),
      options_(options),
      groups_(new Group[backends.size()]),
      group_count_(static_cast<unsigned>(backends.size())) {
  for (unsigned g = 0; g < group_count_; ++g) {
    Group& group = groups_[g];
    group.backend = std::move(backends[g]);
    group.slots.reset(new Slot[block::kMaxInFlight]);
    group.segments.reset(
        new iovec[block::kMaxInFlight * virtio::kMaxChainSegments]);
    for (size_t i = block::kMaxInFlight; i-- > 0;) {
      Slot& slot = group.slots[i];
      slot.device = this;
      slot.group = &group;
      slot.chain.segments = &group.segments[i * virtio::kMaxChainSegments];
      slot.request.owner = &slot;
      slot.request.done = OnDone;
      slot.next = group.free;
      group.free = &slot;
    }
  }
  state_.writeback = 1;
  FillConfig();
  PowerOn();
  Start();
}

void Device::FillConfig() {
  const block::Geometry& geometry = this->geometry();
  const uint32_t block = options_.block_size_bytes;
  const uint64_t sectors = geometry.capacity_bytes / kSectorBytes;
  config_.capacity = sectors;
  config_.size_max = kSizeMax;
  config_.seg_max = options_.queue_size - 2u;  // header and status
  static_assert(uint64_t{virtio::kMaxQueueSize} * kSizeMax <= kMaxDataBytes);
  config_.heads = 16;
  config_.sectors = 63;
  config_.cylinders =
      static_cast<uint16_t>(std::min<uint64_t>(sectors / (16 * 63), 0xffff));
  config_.blk_size = block;
  const uint32_t optimal = std::max(geometry.optimal_bytes, block);
  config_.physical_block_exp =
      static_cast<uint8_t>(std::bit_width(std::max(4096u, block) / block) - 1);
  config_.min_io_size = 1;
  config_.opt_io_size = optimal / block;
  config_.num_queues = static_cast<uint16_t>(options_.queues);
  config_.max_discard_sectors = kMaxDiscardSectors;
  config_.max_discard_seg = kMaxRanges;
  config_.discard_sector_alignment =
      std::max(geometry.discard_granularity_bytes, block) / kSectorBytes;
  config_.max_write_zeroes_sectors = kMaxWriteZeroesSectors;
  config_.max_write_zeroes_seg = kMaxRanges;
  config_.write_zeroes_may_unmap = geometry.can_discard ? 1 : 0;
  config_.writeback = state_.writeback;
}

// §5.2.4: capacity may change at run time; the driver hears of it.
bool Device::WantsRest() {
  return geometry().capacity_bytes / kSectorBytes != config_.capacity;
}

void Device::AtRest() {
  for (unsigned g = 1; g < group_count_; ++g) {
    groups_[g].backend->Follow(geometry());
  }
  config_.capacity = geometry().capacity_bytes / kSectorBytes;
  ConfigChanged();
}

absl::Span<const uint8_t> Device::device_config() const {
  return {reinterpret_cast<const uint8_t*>(&config_), sizeof config_};
}

// §5.2.5: the cache mode, when CONFIG_WCE is agreed on; all else is read-only.
void Device::WriteDeviceConfig(uint64_t offset, unsigned size_bytes,
                               uint64_t value) {
  if (offset != offsetof(Config, writeback) || size_bytes != 1 ||
      (features() & kFeatureConfigWce) == 0) {
    return;
  }
  state_.writeback = config_.writeback = value != 0 ? 1 : 0;
  SetWriteCache(value != 0);
}

void Device::SetWriteCache(bool enabled) {
  for (unsigned g = 0; g < group_count_; ++g) {
    groups_[g].backend->SetWriteCache(enabled);
  }
}

// §5.2.5.2: a driver that can neither flush nor switch the cache gets
// write-through.
void Device::FeaturesChanged(uint64_t features) {
  const bool cache =
      features == 0 || (features & (kFeatureFlush | kFeatureConfigWce)) != 0;
  state_.writeback = config_.writeback = cache ? 1 : 0;
  SetWriteCache(cache);
}

bool Device::Poll(unsigned group) {
  Group& polled = groups_[group];
  const size_t before = polled.in_flight;
  polled.backend->Poll();
  return polled.in_flight != before;
}

size_t Device::in_flight() const {
  size_t sum = 0;
  for (unsigned g = 0; g < group_count_; ++g) sum += groups_[g].in_flight;
  return sum;
}

void Device::DropHeld() {
  for (unsigned g = 0; g < group_count_; ++g) groups_[g].backend->DropHeld();
}

void Device::Drain() {
  const Nanoseconds until = context().Now() + kDrainAtMost;
  for (unsigned g = 0; g < group_count_; ++g) {
    if (!block::Drain(*groups_[g].backend, until)) {
      context().Fail("the storage does not end its requests");
    }
  }
}

absl::Span<const std::byte> Device::State() const {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&state_),
                             sizeof state_);
}

bool Device::LoadState(absl::Span<const std::byte> state) {
  if (state.size() != sizeof state_) return false;
  const auto saved = std::make_unique<SavedState>();
  std::memcpy(static_cast<void*>(saved.get()), state.data(), state.size());
  if (saved->writeback > 1 || !RestoreTransport(saved->transport)) return false;
  state_.writeback = config_.writeback = saved->writeback;
  SetWriteCache(saved->writeback != 0);
  return true;
}

void Device::ReportStatistics(Statistics* statistics) const {
  Transport::ReportStatistics(statistics);
  const auto add = [statistics](const char* name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  uint64_t failed = 0;
  uint64_t refused = 0;
  for (unsigned g = 0; g < group_count_; ++g) {
    failed += groups_[g].failed_requests;
    refused += groups_[g].refused_requests;
    groups_[g].backend->ReportStatistics(statistics);
  }
  add("virtio_blk_failed_requests", failed);
  add("virtio_blk_refused_requests", refused);
}

}  // namespace bulkhead::virtio_blk
