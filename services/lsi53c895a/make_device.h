// MakeDevice builds an adapter with its disks from a service's configuration.
//
// TRUST    The configuration is the launcher's, and checked; images are not
//          trusted by the block backends that open them.
// ERRORS   InvalidArgument and what block::Open and scsi::MakeBus return: they
//          name the field, the unit or the image.
// THREADS  Set-up: backends start their workers here, before the lock-down.

#ifndef BULKHEAD_SERVICES_LSI53C895A_MAKE_DEVICE_H_
#define BULKHEAD_SERVICES_LSI53C895A_MAKE_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead {
class ServiceConfig;
}

namespace bulkhead::lsi53c895a {

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const ServiceConfig& config,
                                                   ServiceContext& context);

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_MAKE_DEVICE_H_
