// LiveFilters reads the seccomp filters of a running process back for an
// auditor (sandbox/live_filters.h), with words for what goes wrong.
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

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace bulkhead::policy {

// The oldest first. The caller may already be the tracer of `pid`.
absl::StatusOr<std::vector<std::vector<sock_filter>>> ReadLiveFilters(
    pid_t pid);

// What an errno of sandbox::ReadFilters means.
std::string WhyUnread(int error);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_LIVE_FILTERS_H_
