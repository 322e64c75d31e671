// Report is a page about all policies that an auditor can file: what each
// process may ask the kernel and why, what it holds, how that was proven on
// this machine, and how it compares with others. One self-contained XHTML
// document: no script, nothing that is loaded from elsewhere.
//
// TRUST    Reviewed files and what was measured here.
// ERRORS   None; what goes wrong before is the caller's to tell.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_REPORT_H_
#define BULKHEAD_POLICY_REPORT_H_

#include <string>
#include <vector>

#include "policy/generate.h"
#include "policy/prove.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

struct ReportedPolicy {
  Policy policy;  // expanded
  Compiled compiled;
  Verdicts launch;
  Verdicts steady;
  bool locked = false;  // the lock file holds just this
};

struct ReportHead {
  std::string date;     // "2026-11-22 19:40 UTC"
  std::string version;  // of Bulkhead
  std::string kernel;   // "Linux 6.1.0 x86_64"
  std::string backend;  // "libseccomp 2.5.4"
};

std::string ReportPage(const ReportHead& head,
                       const std::vector<ReportedPolicy>& policies);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_REPORT_H_
