// Proof shows that a filter's bytecode and the policy it was made from say the
// same about every possible call: 2^32 numbers and architectures, 2^64 values
// of each argument.
//
// A verdict, on either side, depends only on the answers to a finite list of
// questions about single 32-bit words ("is the number 47?", "is bit 2 of the
// third argument's low word set?"). For each word all combinations of answers
// that some value gives are found, with one value that gives them; both sides
// are then asked about every combination of those values that a verdict looks
// at. That is all there is, so agreement is proof, not a sample.
//
// TRUST    The filter has passed Validate, the policy Check.
// ERRORS   A difference is not an error: it is what is returned.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_PROOF_H_
#define BULKHEAD_POLICY_PROOF_H_

#include <cstdint>
#include <string>
#include <vector>

#include "policy/bpf_evaluator.h"
#include "policy/filter.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

struct ProofResult {
  uint64_t classes = 0;  // of calls, all told
  // In words; none: proven.
  std::vector<std::string> differences;
};

// What the policy's rules themselves say: SECCOMP_RET_*.
uint32_t Verdict(const Policy& policy, FilterPhase phase,
                 const seccomp_data& call);

// Ends after `most` differences.
ProofResult Prove(const Policy& policy, FilterPhase phase, Filter filter,
                  size_t most = 10);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_PROOF_H_
