// LockDown is the last step of a process's set-up: from here on it can do only
// what its policy's steady filter allows.
//
// TRUST    Called by the process itself, before the first byte that a guest
//          wrote is looked at.
// ERRORS   Internal: the kernel refused the filter. The caller must exit.
// THREADS  All threads get the filter (SECCOMP_FILTER_FLAG_TSYNC).

#ifndef BULKHEAD_SANDBOX_LOCK_DOWN_H_
#define BULKHEAD_SANDBOX_LOCK_DOWN_H_

#include "absl/status/status.h"
#include "sandbox/compiled_policy.h"

namespace bulkhead::sandbox {

absl::Status LockDown(const CompiledPolicy& policy);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_LOCK_DOWN_H_
