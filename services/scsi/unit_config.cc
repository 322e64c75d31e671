#include "services/scsi/unit_config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace bulkhead::scsi {
namespace {

constexpr size_t kMaxSerial = 20;

// What a guest finds its disks again by must not change from boot to boot, nor
// be the same for two of them: the device's name and the unit's numbers. The
// end of a long name is kept, which is where names differ.
std::string DerivedSerial(absl::string_view device,
                          const ScsiLogicalUnit& unit) {
  const std::string numbers = absl::StrCat("-", unit.target(), "-", unit.lun());
  std::string name(device);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c < ' ' || c > '~'; }, '_');
  const size_t room = kMaxSerial - std::min(kMaxSerial, numbers.size());
  if (name.size() > room) name = name.substr(name.size() - room);
  return absl::StrCat(name, numbers);
}

absl::Status Wrong(const ScsiLogicalUnit& unit, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("target ", unit.target(), " lun ", unit.lun(), ": ", what));
}

}  // namespace

absl::StatusOr<std::vector<UnitConfig>> UnitsFromConfig(
    absl::string_view device,
    const google::protobuf::RepeatedPtrField<ScsiLogicalUnit>& units,
    absl::Span<const std::unique_ptr<block::Backend>> backends) {
  std::vector<UnitConfig> configs;
  std::vector<bool> used(backends.size());
  for (const ScsiLogicalUnit& unit : units) {
    if (unit.target() >= kMaxTargets || unit.lun() >= kMaxLuns) {
      return Wrong(unit, "target is 0 to 15 and lun 0 to 7");
    }
    if (unit.backend() >= backends.size()) {
      return Wrong(unit, absl::StrCat("backend ", unit.backend(), " of ",
                                      backends.size()));
    }
    if (used[unit.backend()]) {
      return Wrong(unit, "its backend belongs to another unit already");
    }
    used[unit.backend()] = true;
    UnitConfig config = {.target = unit.target(),
                         .lun = unit.lun(),
                         .kind = unit.kind() == ScsiLogicalUnit::CDROM
                                     ? UnitKind::kCdrom
                                     : UnitKind::kDisk,
                         .block_size_bytes = unit.block_size_bytes(),
                         .serial = unit.serial(),
                         .vendor = unit.vendor(),
                         .product = unit.product(),
                         .wwn = unit.wwn(),
                         .backend = backends[unit.backend()].get()};
    if (config.serial.empty()) config.serial = DerivedSerial(device, unit);
    const absl::Status status = CheckUnit(&config);
    if (!status.ok()) return status;
    configs.push_back(std::move(config));
  }
  return configs;
}

}  // namespace bulkhead::scsi
