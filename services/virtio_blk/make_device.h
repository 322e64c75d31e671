// MakeDevice builds a virtio block device from a service's configuration.
//
// TRUST    The configuration is the launcher's, and checked; the image is not
//          trusted by the block backend that opens it.
// ERRORS   InvalidArgument and what block::OpenBackends returns: they name the
//          field or the image.
// THREADS  Set-up: the backend starts its workers here, before the lock-down.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_MAKE_DEVICE_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_MAKE_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead {
class ServiceConfig;
}

namespace bulkhead::virtio_blk {

absl::StatusOr<std::unique_ptr<bulkhead::Device>> MakeDevice(
    const ServiceConfig& config, ServiceContext& context);

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_MAKE_DEVICE_H_
