// AuditRoot compares a process's mounts with its policy: the root, what can be
// written to, and which devices can be opened.
//
// TRUST    /proc of a process that may be hostile.
// ERRORS   What cannot be read is a finding of its own.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_AUDIT_ROOT_H_
#define BULKHEAD_POLICY_AUDIT_ROOT_H_

#include <sys/types.h>

#include <vector>

#include "policy/audit.h"

namespace bulkhead::policy {

std::vector<Finding> AuditRoot(pid_t pid,
                               const sandbox::CompiledPolicy& policy);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_AUDIT_ROOT_H_
