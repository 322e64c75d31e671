#include "services/scsi/logical_unit.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace bulkhead::scsi {
namespace {

constexpr SenseCode kAttentionCodes[] = {
    SenseCode::kPowerOnOccurred,
    SenseCode::kScsiBusResetOccurred,
    SenseCode::kBusDeviceResetFunctionOccurred,
    SenseCode::kMediumMayHaveChanged,
    SenseCode::kCapacityDataHasChanged,
    SenseCode::kModeParametersChanged,
};
static_assert(std::size(kAttentionCodes) ==
              static_cast<size_t>(UnitAttention::kCount));

constexpr uint8_t BitOf(UnitAttention attention) {
  return static_cast<uint8_t>(1u << static_cast<unsigned>(attention));
}

constexpr uint8_t kResetAttentions = BitOf(UnitAttention::kPowerOn) |
                                     BitOf(UnitAttention::kBusReset) |
                                     BitOf(UnitAttention::kDeviceReset);

bool IsText(const std::string& text, size_t most) {
  return text.size() <= most &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= ' ' && c <= '~'; });
}

// An NAA locally assigned designator (SPC-4 §7.8.6.6.4): a hash (FNV-1a) of
// what tells this unit from others.
uint64_t DerivedWwn(const UnitConfig& unit) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](const std::string& text) {
    for (const char c : text) {
      hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    }
    hash *= 0x100000001b3;
  };
  add(unit.vendor);
  add(unit.product);
  add(unit.serial);
  return uint64_t{3} << 60 | hash >> 4;
}

absl::Status Wrong(const UnitConfig& unit, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("target ", unit.target, " lun ", unit.lun, ": ", what));
}

}  // namespace

absl::Status CheckUnit(UnitConfig* unit) {
  const bool disk = unit->kind == UnitKind::kDisk;
  if (unit->target >= kMaxTargets) return Wrong(*unit, "target is 0 to 15");
  if (unit->lun >= kMaxLuns) return Wrong(*unit, "lun is 0 to 7");
  if (!disk && unit->kind != UnitKind::kCdrom) {
    return Wrong(*unit, "kind is a disk or a CD-ROM");
  }
  if (unit->block_size_bytes == 0) unit->block_size_bytes = disk ? 512 : 2048;
  if (disk && unit->block_size_bytes != 512 && unit->block_size_bytes != 4096) {
    return Wrong(*unit, "block_size_bytes of a disk is 512 or 4096");
  }
  if (!disk && unit->block_size_bytes != 2048) {
    return Wrong(*unit, "block_size_bytes of a CD-ROM is 2048");
  }
  if (!IsText(unit->serial, 20)) {
    return Wrong(*unit, "serial is at most 20 printable ASCII characters");
  }
  if (!IsText(unit->vendor, 8)) {
    return Wrong(*unit, "vendor is at most 8 printable ASCII characters");
  }
  if (!IsText(unit->product, 16)) {
    return Wrong(*unit, "product is at most 16 printable ASCII characters");
  }
  if (disk && unit->backend == nullptr)
    return Wrong(*unit, "a disk needs an image");
  if (unit->backend != nullptr &&
      unit->backend->geometry().capacity_bytes < unit->block_size_bytes) {
    return Wrong(*unit, "the image is smaller than one block");
  }
  if (unit->vendor.empty()) unit->vendor = "BULKHEAD";
  if (unit->product.empty()) unit->product = disk ? "DISK" : "CD-ROM";
  if (unit->wwn == 0 && !unit->serial.empty()) unit->wwn = DerivedWwn(*unit);
  return absl::OkStatus();
}

LogicalUnit::LogicalUnit(const UnitConfig& config, const BusOptions& options,
                         UnitState* state)
    : config_(config), options_(options), state_(state) {
  if (backend() != nullptr) {
    block_count_ =
        backend()->geometry().capacity_bytes / config_.block_size_bytes;
    reads_ahead_ = backend()->event_fd() >= 0;
  }
  *state_ = {.kind = config_.kind,
             .block_size_bytes = config_.block_size_bytes,
             .block_count = block_count_};
  if (kind() != UnitKind::kAbsent) Reset(UnitAttention::kPowerOn);
}

bool LogicalUnit::read_only() const {
  return kind() == UnitKind::kCdrom || backend() == nullptr ||
         backend()->geometry().read_only;
}

bool LogicalUnit::can_unmap() const {
  return kind() == UnitKind::kDisk && !read_only() &&
         (backend()->geometry().can_discard ||
          backend()->geometry().can_write_zeroes);
}

bool LogicalUnit::unmapped_reads_zero() const {
  return can_unmap() && backend()->geometry().can_write_zeroes;
}

bool LogicalUnit::has_medium() const {
  return backend() != nullptr && !state_->tray_open;
}

// SBC-3 §4.5: a disk whose capacity has changed says so.
void LogicalUnit::FollowBackend() {
  if (kind() != UnitKind::kDisk) return;
  const uint64_t blocks =
      backend()->geometry().capacity_bytes / config_.block_size_bytes;
  if (blocks == block_count_) return;
  block_count_ = blocks;
  state_->block_count = blocks;
  RaiseUnitAttention(UnitAttention::kCapacityChanged);
}

void LogicalUnit::RaiseUnitAttention(UnitAttention attention) {
  // A reset's condition takes the place of all that was before (SAM-5 §5.14.5).
  if ((BitOf(attention) & kResetAttentions) != 0) state_->unit_attentions = 0;
  state_->unit_attentions |= BitOf(attention);
}

std::optional<Sense> LogicalUnit::TakeUnitAttention() {
  for (unsigned i = 0; i < std::size(kAttentionCodes); ++i) {
    const uint8_t bit = BitOf(static_cast<UnitAttention>(i));
    if ((state_->unit_attentions & bit) == 0) continue;
    state_->unit_attentions &= static_cast<uint8_t>(~bit);
    return MakeSense(SenseKey::kUnitAttention, kAttentionCodes[i]);
  }
  return std::nullopt;
}

void LogicalUnit::KeepSense(const Sense& sense) {
  auto& kept = state_->pending_sense;
  uint8_t& count = state_->pending_sense_count;
  if (count == kMaxPendingSense) {
    std::copy(kept.begin() + 1, kept.end(), kept.begin());
    --count;
  }
  kept[count++] = sense;
}

std::optional<Sense> LogicalUnit::TakeKeptSense() {
  auto& kept = state_->pending_sense;
  uint8_t& count = state_->pending_sense_count;
  if (count == 0) return std::nullopt;
  const Sense sense = kept[0];
  std::copy(kept.begin() + 1, kept.begin() + count, kept.begin());
  --count;
  return sense;
}

void LogicalUnit::Reset(UnitAttention why) {
  if (kind() == UnitKind::kAbsent) return;
  state_->mode = {};
  state_->stopped = false;
  state_->prevented = false;
  state_->reserved = false;
  state_->pending_sense_count = 0;
  RaiseUnitAttention(why);
  ApplyMode();
}

void LogicalUnit::ApplyMode() {
  if (backend() != nullptr && kind() == UnitKind::kDisk) {
    backend()->SetWriteCache(state_->mode.write_cache_enabled);
  }
}

}  // namespace bulkhead::scsi
