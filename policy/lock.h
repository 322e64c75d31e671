// Lock makes and compares policy/NAME.lock: the expanded policy, its numbers
// and the hash of its bytecode, as they were when somebody last looked.
//
// TRUST    A lock is a reviewed file.
// ERRORS   InvalidArgument: a lock file that does not parse.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_LOCK_H_
#define BULKHEAD_POLICY_LOCK_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/generate.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

// With the bytecode of this machine's libseccomp.
PolicyLock MakeLock(const Policy& policy, const Compiled& compiled);

std::string LockText(const PolicyLock& lock);
absl::StatusOr<PolicyLock> ParseLock(const std::string& text,
                                     const std::string& name);

// `now` with what `before` knows of other libseccomps, where that still holds.
PolicyLock Renew(const PolicyLock& before, const PolicyLock& now);

struct Change {
  enum Effect { kWidens, kNarrows, kWords };
  Effect effect;
  std::string text;  // "steady: futex is now allowed with any arguments"
};

// From `before` to `now`, as a reviewer must see it. Empty: nothing changed.
std::vector<Change> Compare(const PolicyLock& before, const PolicyLock& now);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_LOCK_H_
