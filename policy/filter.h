// Filter makes the bytecode of one phase of a policy, with libseccomp: the
// architecture is checked first, x32 and i386 are killed, what no rule allows
// is killed, and hot calls are compared first. The same policy and the same
// libseccomp give the same bytes.
//
// TRUST    The policy has passed Check.
// ERRORS   Internal: libseccomp refused a rule; the message names it.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_FILTER_H_
#define BULKHEAD_POLICY_FILTER_H_

#include <linux/filter.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/rules.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

absl::StatusOr<std::vector<sock_filter>> BuildFilter(const Policy& policy,
                                                     FilterPhase phase);

// "libseccomp 2.5.4"
std::string FilterBackend();

// One line for each instruction, jumps as line numbers, calls by name.
std::string Disassemble(const std::vector<sock_filter>& filter);

// Of the bytes of the filters, one after the other; hexadecimal.
std::string FilterHash(const std::vector<sock_filter>& launch,
                       const std::vector<sock_filter>& steady);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_FILTER_H_
