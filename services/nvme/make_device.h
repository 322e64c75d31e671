// MakeDevice builds a controller with its namespaces from a service's
// configuration.
//
// TRUST    The configuration is the launcher's, and checked; images are not
//          trusted by the block backends that open them.
// ERRORS   InvalidArgument and what block::OpenBackends returns: they name the
//          field, the namespace or the image.
// THREADS  Set-up: backends start their workers here, before the lock-down.

#ifndef BULKHEAD_SERVICES_NVME_MAKE_DEVICE_H_
#define BULKHEAD_SERVICES_NVME_MAKE_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead {
class ServiceConfig;
}

namespace bulkhead::nvme {

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const ServiceConfig& config,
                                                   ServiceContext& context);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_MAKE_DEVICE_H_
