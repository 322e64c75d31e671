// ServiceMain is the whole life of a service process:
//
//   1. checks the fds it was given (proto/service_fds.h),
//   2. receives Configure on the control channel,
//   3. builds the device (which opens its backends and starts its workers),
//   4. locks itself down: the steady seccomp filter of its policy,
//   5. sends Ready, shakes hands with the shim, and serves until the control
//      channel closes.
//
// A device's main.cc is a factory and one call of this.
//
// TRUST    Everything that comes from the channels and the images is hostile;
//          the launcher's Configure is believed.
// ERRORS   The exit status, and a Fault frame that says why.
// THREADS  Called once, from main.

#ifndef BULKHEAD_SERVICES_RUNTIME_SERVICE_MAIN_H_
#define BULKHEAD_SERVICES_RUNTIME_SERVICE_MAIN_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead {

class ServiceConfig;
namespace sandbox {
struct CompiledPolicy;
}

// An error is sent to the launcher as a Fault, for the user: it names the
// field, the image or the limit, and what would be right.
using DeviceFactory = std::function<absl::StatusOr<std::unique_ptr<Device>>(
    const ServiceConfig& config, ServiceContext& context)>;

// The policies that a service may run under; which one its configuration
// decides (proto/service_policy.h).
struct ServicePolicies {
  // NOLINTNEXTLINE(google-explicit-constructor): the usual case.
  ServicePolicies(const sandbox::CompiledPolicy& plain) : plain(&plain) {}
  ServicePolicies(const sandbox::CompiledPolicy& plain,
                  const sandbox::CompiledPolicy& nbd,
                  const sandbox::CompiledPolicy& uring)
      : plain(&plain), nbd(&nbd), uring(&uring) {}

  const sandbox::CompiledPolicy* plain;
  const sandbox::CompiledPolicy* nbd = nullptr;
  const sandbox::CompiledPolicy* uring = nullptr;
};

int ServiceMain(const char* model, const ServicePolicies& policies,
                const DeviceFactory& factory);

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_SERVICE_MAIN_H_
