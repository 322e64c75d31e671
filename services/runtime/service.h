// RunService is ServiceMain without what belongs to a process of its own: the
// fixed fds, the seccomp filter, the exit. Tests run services with it.
//
// TRUST    The launcher's frames are checked as ServiceMain says.
// ERRORS   Whatever ends the service other than the launcher's closing the
//          control channel. It has been sent to the launcher as a Fault.
// THREADS  The calling thread is the service's loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_SERVICE_H_
#define BULKHEAD_SERVICES_RUNTIME_SERVICE_H_

#include <functional>

#include "absl/status/status.h"
#include "services/runtime/service_main.h"

namespace bulkhead {

struct ServiceEnvironment {
  int shim_fd = -1;     // taken over
  int control_fd = -1;  // taken over
  int ram_fd = -1;      // the caller's
  int log_fd = -1;      // the caller's

  // A process that is nothing but this service: guest RAM stays mapped for its
  // life (mseal).
  bool own_process = false;
  // The last step of set-up.
  std::function<absl::Status(const ServiceConfig& config)> lock_down;
  // Called when a service that was locked down ends, after the device (whose
  // images are closed) and before anything else is taken down. A process ends
  // itself here: taking down needs more system calls than its policy has. May
  // be empty.
  std::function<void(const absl::Status&)> ended;
};

absl::Status RunService(const ServiceEnvironment& environment,
                        const char* model, const DeviceFactory& factory);

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_SERVICE_H_
