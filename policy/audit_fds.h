// AuditFds compares what a process holds with its policy's fd table: number,
// kind, access, seals, how many of each, and what they point at.
//
// TRUST    As audit.h.
// ERRORS   None: what cannot be read is a finding.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_AUDIT_FDS_H_
#define BULKHEAD_POLICY_AUDIT_FDS_H_

#include <vector>

#include "policy/audit.h"

namespace bulkhead::policy {

std::vector<Finding> AuditFds(pid_t pid, const sandbox::CompiledPolicy& policy,
                              const AuditContext& context);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_AUDIT_FDS_H_
