// Check refuses a policy that says too much, too little, or something other
// than it seems to say: unknown calls, rules without a why, duplicates, rules
// that another one makes meaningless, and everything that no service may have.
//
// TRUST    A policy is a reviewed file; its mistakes are its author's.
// ERRORS   InvalidArgument: one line for each mistake, with its file and line
//          and what would be right.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_CHECK_H_
#define BULKHEAD_POLICY_CHECK_H_

#include "absl/status/status.h"
#include "policy/source.h"

namespace bulkhead::policy {

absl::Status Check(const Source& source);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_CHECK_H_
