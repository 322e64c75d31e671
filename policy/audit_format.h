// The findings of an audit as people and programs read them.
//
// TRUST    What is observed may hold any byte: JSON forms replace what is no
//          text, the table shows it as it is.
// ERRORS   None.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_AUDIT_FORMAT_H_
#define BULKHEAD_POLICY_AUDIT_FORMAT_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "policy/audit.h"

namespace bulkhead::policy {

struct AuditedProcess {
  pid_t pid;
  std::string policy;
  std::vector<Finding> findings;
};

struct AuditCounts {
  int ok = 0;
  int drifted = 0;
  int unread = 0;
};

AuditCounts Count(const std::vector<AuditedProcess>& processes);

// A table and a line that sums it up.
std::string AuditText(const std::vector<AuditedProcess>& processes);
// An array, one object for each finding.
std::string AuditJson(const std::vector<AuditedProcess>& processes);
// SARIF 2.1.0: one result for each finding, of kind "pass", "fail" or "open"
// (not read); one rule for each kind of check.
std::string AuditSarif(const std::vector<AuditedProcess>& processes);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_AUDIT_FORMAT_H_
