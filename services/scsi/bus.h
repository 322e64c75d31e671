// MakeBus makes the targets and logical units behind one adapter.
//
// TRUST    `units` comes from the launcher and is checked; what the bus then
//          gets from its adapter is the guest's (target.h).
// ERRORS   InvalidArgument names the unit and its field.
// THREADS  The service's loop.

#ifndef BULKHEAD_SERVICES_SCSI_BUS_H_
#define BULKHEAD_SERVICES_SCSI_BUS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "services/scsi/logical_unit.h"
#include "services/scsi/target.h"

namespace bulkhead::scsi {

// Units' backends stay the caller's, outlive the bus, and are polled by it. A
// bus may be destroyed only when it is idle: a backend would complete into it.
absl::StatusOr<std::unique_ptr<Bus>> MakeBus(absl::Span<const UnitConfig> units,
                                             const BusOptions& options = {});

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_BUS_H_
