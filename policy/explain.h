// Explain says of one system call what a policy says of it, in words: the rule
// that allows it, or the one that came nearest, what is different, and what to
// do about it.
//
// TRUST    The call is a hostile process's: its numbers are compared and shown.
// ERRORS   None.
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_EXPLAIN_H_
#define BULKHEAD_POLICY_EXPLAIN_H_

#include <cstdint>
#include <string>

#include "policy/rules.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

struct Call {
  std::string syscall;         // its name on the interface it came by
  std::string abi = "x86_64";  // or "x32", "i386"
  uint64_t args[6] = {};
};

struct Explanation {
  bool allowed = false;
  std::string rule;        // "fcntl(arg1 = F_GETFL), SET_UP: WHY"; or ""
  std::string difference;  // "arg1 is 4, not 3 (F_GETFL)"
  std::string advice;      // what to do
};

Explanation Explain(const Policy& policy, FilterPhase phase, const Call& call);

// "mmap(arg2 = PROT_READ, arg3 = MAP_SHARED), STEADY: The shadow page ..."
std::string RuleText(const SyscallRule& rule);
// "(arg2 = PROT_READ, arg3 = MAP_SHARED)", or "".
std::string ConstraintsText(const SyscallRule& rule);

// policy/NAME.textproto as it was compiled in; empty: there is none.
Policy CompiledInPolicy(const std::string& name);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_EXPLAIN_H_
