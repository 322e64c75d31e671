// Oracle asks the running kernel what it makes of a filter, for any call of any
// interface, without letting the call happen: in a child, a first filter
// answers every call with a certain errno, and the filter in question is
// stacked on it. A call that the second one allows comes back with that errno,
// one that it refuses with its own, and one that it kills is death.
//
// TRUST    The filter may say anything; nothing is executed but `seccomp`
// itself
//          with one certain pointer.
// ERRORS   Internal: the kernel refuses filters, or a child fails.
// THREADS  The caller is single-threaded (fork).

#ifndef BULKHEAD_POLICY_ORACLE_H_
#define BULKHEAD_POLICY_ORACLE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/bpf_evaluator.h"

namespace bulkhead::policy {

enum class Interface { kX86_64, kX32, kI386 };

struct Probe {
  Interface interface = Interface::kX86_64;
  uint32_t number = 0;  // without the x32 bit
  uint64_t args[6] = {};
};

struct Answer {
  enum Kind {
    kAllowed,
    kRefused,
    kKilled,
    // The call reached the kernel past the filter, or the CPU has no such
    // interface: neither allowed nor killed by a filter.
    kOther,
  };
  Kind kind = kOther;
  int detail = 0;  // kRefused: errno; kOther: the signal that ended it
};

absl::StatusOr<std::vector<Answer>> AskKernel(Filter filter,
                                              const std::vector<Probe>& probes);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_ORACLE_H_
