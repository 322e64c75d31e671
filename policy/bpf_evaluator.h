// BpfEvaluator runs a seccomp filter without a process: what the kernel would
// return for one call. It is written from the description of classic BPF alone
// and shares no code with what makes filters.
//
// TRUST    The filter is checked before it runs; it cannot loop.
// ERRORS   A filter that the kernel would refuse, or that has an instruction
//          that ours never contain, is InvalidArgument.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_BPF_EVALUATOR_H_
#define BULKHEAD_POLICY_BPF_EVALUATOR_H_

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace bulkhead::policy {

using Filter = absl::Span<const sock_filter>;

// Jumps stay inside and go forward only (so there is no loop), loads stay in
// seccomp_data, and every path ends in a return.
absl::Status Validate(Filter filter);

// SECCOMP_RET_*. The filter is valid.
uint32_t Evaluate(Filter filter, const seccomp_data& call);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_BPF_EVALUATOR_H_
