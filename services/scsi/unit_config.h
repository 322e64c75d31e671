// UnitsFromConfig reads the logical units of an adapter out of its service
// configuration.
//
// TRUST    The configuration is the launcher's, and checked.
// ERRORS   InvalidArgument names the unit and its field.
// THREADS  Set-up.

#ifndef BULKHEAD_SERVICES_SCSI_UNIT_CONFIG_H_
#define BULKHEAD_SERVICES_SCSI_UNIT_CONFIG_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/service_config.pb.h"
#include "services/block/backend.h"
#include "services/scsi/logical_unit.h"

namespace bulkhead::scsi {

// `device` tells units of different adapters apart: it stands in for the serial
// number of a unit that has none. A backend serves one unit.
absl::StatusOr<std::vector<UnitConfig>> UnitsFromConfig(
    absl::string_view device,
    const google::protobuf::RepeatedPtrField<ScsiLogicalUnit>& units,
    absl::Span<const std::unique_ptr<block::Backend>> backends);

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_UNIT_CONFIG_H_
