// ReadFilters reads the seccomp filters of a traced process back from the
// kernel (PTRACE_SECCOMP_GET_FILTER). The process is stopped for a moment.
//
// TRUST    What it reads is the kernel's copy.
// ERRORS   An errno. EACCES, EPERM: the caller lacks CAP_SYS_ADMIN, or has
//          filters of its own. ETIME: the process does not stop.
// THREADS  The tracer's.

#ifndef BULKHEAD_SANDBOX_LIVE_FILTERS_H_
#define BULKHEAD_SANDBOX_LIVE_FILTERS_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <vector>

namespace bulkhead::sandbox {

// The oldest first. `detach`: the process is not traced any more afterwards.
// Otherwise it goes on, and a stop of another kind is left to HandleStops.
int ReadFilters(pid_t tracee, bool detach,
                std::vector<std::vector<sock_filter>>* filters);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_LIVE_FILTERS_H_
