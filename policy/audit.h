// Audit compares a running process with its policy: what the kernel says of it,
// read from /proc and, where this machine allows, its filters read back from
// the kernel instruction by instruction.
//
// TRUST    The process may be taken over; nothing that it says is asked.
// ERRORS   None: what cannot be read is a finding of its own, with the reason.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_AUDIT_H_
#define BULKHEAD_POLICY_AUDIT_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "sandbox/compiled_policy.h"

namespace bulkhead::policy {

struct Finding {
  enum Result { kOk, kDrift, kUnread };
  Result result;
  std::string check;  // "capabilities"
  std::string expected;
  std::string observed;  // or why it could not be read
};

struct AuditSubject {
  pid_t pid;
  const sandbox::CompiledPolicy* policy;
};

// The VM that a process belongs to: with its other processes it may share no
// namespace and no image that is written to, and they have the same guest RAM.
struct AuditContext {
  std::vector<AuditSubject> processes;
  pid_t launcher = 0;  // 0: not known
};

std::vector<Finding> AuditProcess(pid_t pid,
                                  const sandbox::CompiledPolicy& policy,
                                  const AuditContext& context);

// The one process without a policy: that it has started nothing but
// `processes`.
std::vector<Finding> AuditLauncher(const AuditContext& context);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_AUDIT_H_
