// AskLauncher asks the launcher of a running VM for the filters of its
// processes: a process has one tracer, who alone can read them back, and that
// is the launcher (launcher/user_socket.h).
//
// TRUST    The launcher is part of what is trusted; that it is the one who
//          answers is taken from the kernel (SO_PEERCRED), and what it says is
//          checked for form.
// ERRORS   Unavailable: no launcher listens or answers, with the reason.
//          PermissionDenied: it could not read them, in its words.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_ASK_LAUNCHER_H_
#define BULKHEAD_POLICY_ASK_LAUNCHER_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead::policy {

// The filters of `pid`, the oldest first, as its tracer `launcher` has them.
absl::StatusOr<std::vector<std::vector<sock_filter>>> AskLauncher(
    pid_t launcher, pid_t pid);

// The policy under which a launcher runs each of its processes, by process id;
// empty when it does not say.
std::map<pid_t, std::string> PoliciesOf(pid_t launcher);

// The launchers of running VMs of that name that this user can see.
std::vector<pid_t> LaunchersOf(const std::string& vm);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_ASK_LAUNCHER_H_
