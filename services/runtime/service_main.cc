#include "services/runtime/service_main.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "proto/service_fds.h"
#include "proto/service_policy.h"
#include "sandbox/heap.h"
#include "sandbox/lock_down.h"
#include "services/runtime/log.h"
#include "services/runtime/service.h"

namespace bulkhead {
namespace {

// For what is allocated after the lock-down: answers with many fields, error
// messages. A frame of 64 KiB parses into at most some 2 MiB.
constexpr size_t kHeapReserveBytes = 8 << 20;

absl::Status CheckChannel(int fd, const char* name) {
  int type = 0;
  socklen_t size_bytes = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size_bytes) != 0 ||
      type != SOCK_SEQPACKET) {
    return absl::FailedPreconditionError(absl::StrCat(
        "descriptor ", fd, " (", name,
        ") is not a SOCK_SEQPACKET socket: a service is started by the "
        "launcher"));
  }
  return absl::OkStatus();
}

absl::Status CheckFds() {
  if (absl::Status status = CheckChannel(kChannelFd, "the shim's channel");
      !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckChannel(kControlFd, "the control channel");
      !status.ok()) {
    return status;
  }
  for (const int fd : {kRamFd, kStateFd}) {
    if (fcntl(fd, F_GETFD) < 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("descriptor ", fd, " is missing"));
    }
  }
  return absl::OkStatus();
}

const sandbox::CompiledPolicy* PolicyFor(const ServicePolicies& policies,
                                         const ServiceConfig& config) {
  switch (VariantOf(config)) {
    case PolicyVariant::kNbd:
      return policies.nbd;
    case PolicyVariant::kUring:
      return policies.uring;
    case PolicyVariant::kPlain:
      break;
  }
  return policies.plain;
}

absl::Status FinishSetUp(const ServicePolicies& policies,
                         const ServiceConfig& config) {
  const sandbox::CompiledPolicy* policy = PolicyFor(policies, config);
  if (policy == nullptr) {
    return absl::UnimplementedError(
        "this device has no policy for such a disk (nbd, io_uring)");
  }
  if (!sandbox::ReserveHeap(kHeapReserveBytes)) {
    return absl::ResourceExhaustedError("no room for the heap");
  }
  return sandbox::LockDown(*policy);
}

// Beyond the device, nothing is taken down piece by piece: that would need
// system calls which the policy does not allow, and the kernel does it anyway.
[[noreturn]] void End(const absl::Status& status) {
  if (!status.ok()) Log(kLogFd).WriteAlways(std::string(status.message()));
  _exit(status.ok() ? EXIT_SUCCESS : EXIT_FAILURE);
}

}  // namespace

int ServiceMain(const char* model, const ServicePolicies& policies,
                const DeviceFactory& factory) {
  sandbox::ConfigureHeap();
  if (absl::Status status = CheckFds(); !status.ok()) End(status);
  const ServiceEnvironment environment = {
      .shim_fd = kChannelFd,
      .control_fd = kControlFd,
      .ram_fd = kRamFd,
      .log_fd = kLogFd,
      .own_process = true,
      .lock_down =
          [&policies](const ServiceConfig& config) {
            return FinishSetUp(policies, config);
          },
      .ended = End,
  };
  End(RunService(environment, model, factory));
}

}  // namespace bulkhead
