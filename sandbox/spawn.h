// Prepare and Spawn are PrepareJail and Release for those who speak to people:
// what fails has words, and the host's setting that explains it. Not linked
// into the launcher.
//
// TRUST    As PrepareJail.
// ERRORS   InvalidArgument: the description. FailedPrecondition: this host
//          refuses (the message names the sysctl, the AppArmor rule or the
//          missing feature and what to do about it); Internal names the step
//          that failed and its errno. No process is left behind by an error.
// THREADS  As PrepareJail.

#ifndef BULKHEAD_SANDBOX_SPAWN_H_
#define BULKHEAD_SANDBOX_SPAWN_H_

#include <vector>

#include "absl/status/statusor.h"
#include "sandbox/jail.h"

namespace bulkhead::sandbox {

struct Process {
  pid_t pid = -1;
  int pidfd = -1;  // the caller's to close
  // Watched for violations: call HandleStops (sandbox/violation.h) on SIGCHLD.
  bool watched = false;
  std::vector<Report> unavailable;
};

// In its jail, and waiting to be released.
absl::StatusOr<JailedChild> Prepare(const JailSpec& spec);

// Running its program.
absl::StatusOr<Process> Spawn(const JailSpec& spec);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_SPAWN_H_
