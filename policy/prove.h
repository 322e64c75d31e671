// Prove puts one phase of one policy before both judges: the proof over its
// bytecode, and the running kernel for every number of every interface and the
// edges of every argument constraint.
//
// TRUST    The policy has passed Check.
// ERRORS   A disagreement is not an error: it is what is returned.
// THREADS  One: the oracle forks.

#ifndef BULKHEAD_POLICY_PROVE_H_
#define BULKHEAD_POLICY_PROVE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/filter.h"
#include "policy/oracle.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

struct Verdicts {
  uint64_t classes = 0;  // proven
  uint64_t probes = 0;   // asked of the kernel
  uint64_t allowed = 0;
  uint64_t refused = 0;
  uint64_t killed = 0;
  // Where the kernel itself steps past any filter, or has no such interface.
  std::vector<std::string> exceptions;
  // Where policy and bytecode, or policy and kernel, disagree. Empty: proven.
  std::vector<std::string> differences;
};

// Every number below the limit for the three interfaces, and for each rule with
// arguments, values that are just inside and just outside.
std::vector<Probe> MakeProbes(const Policy& policy);

absl::StatusOr<Verdicts> ProveBoth(const Policy& policy, FilterPhase phase,
                                   Filter filter);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_PROVE_H_
