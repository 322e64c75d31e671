// What can be said about a policy's rules without compiling them.
//
// TRUST    The policy has passed Check.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_RULES_H_
#define BULKHEAD_POLICY_RULES_H_

#include <cstdint>

#include "proto/policy.pb.h"

namespace bulkhead::policy {

enum class FilterPhase {
  // Every rule, except that a STEADY refusal waits for its phase. A program in
  // a TREE never locks itself down: this filter, with every rule, is for life.
  kLaunch,
  kSteady,  // STEADY rules
};

bool InPhase(const Policy& policy, const SyscallRule& rule, FilterPhase phase);

// Whether `value` passes one constraint.
bool Admits(const ArgumentConstraint& test, uint64_t value);

// True when every call that `narrow` matches is matched by `wide` as well.
bool Covers(const SyscallRule& wide, const SyscallRule& narrow);

// True when no call can match both. (False also when that cannot be told.)
bool Disjoint(const SyscallRule& a, const SyscallRule& b);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_RULES_H_
