// LiveFilters reads the seccomp filters of a running process back from the
// kernel (PTRACE_SECCOMP_GET_FILTER). The process is stopped for a moment.
//
// TRUST    What it reads is the kernel's copy.
// ERRORS   PermissionDenied: the caller is not its tracer and cannot become
//          it, lacks CAP_SYS_ADMIN, or is filtered itself; the message says
//          which.
// THREADS  The tracer's thread, if there is a tracer.

#ifndef BULKHEAD_POLICY_LIVE_FILTERS_H_
#define BULKHEAD_POLICY_LIVE_FILTERS_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead::policy {

// The oldest first. The caller may already be the tracer of `pid`.
absl::StatusOr<std::vector<std::vector<sock_filter>>> ReadLiveFilters(
    pid_t pid);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_LIVE_FILTERS_H_
