// CompiledPolicy is what the policy compiler makes of policy/NAME.textproto at
// build time: constant data, linked into the launcher and into the process it
// is for. `#include "policy/lsi53c895a.h"` declares
// `bulkhead::policy::Lsi53c895a()`.
//
// TRUST    Constant data, compiled in.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_SANDBOX_COMPILED_POLICY_H_
#define BULKHEAD_SANDBOX_COMPILED_POLICY_H_

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace bulkhead::sandbox {

// The number that a program's fd has while it is executed. A policy allows
// execveat of it and of nothing else, and that very exec closes it.
inline constexpr int kProgramFd = 120;

struct CompiledLimit {
  int resource;  // RLIMIT_*
  const char* name;
  uint64_t value;
};

struct CompiledFd {
  const char* name;
  int first;
  int max_count;
  uint8_t kind;    // FdRule::Kind
  uint8_t access;  // FdRule::Access
  bool received;
  uint32_t seals;  // F_SEAL_*, or 0
};

struct CompiledPolicy {
  const char* name;
  // Installed by the launcher's child right before exec.
  absl::Span<const sock_filter> launch_filter;
  // Installed by the process itself when it is set up; stacked on the first.
  absl::Span<const sock_filter> steady_filter;
  absl::Span<const CompiledLimit> limits;
  absl::Span<const CompiledFd> fds;
  uint32_t clone_flags;  // CLONE_NEW* of the jail's namespaces
  bool empty_root;
  bool memory_deny_write_execute;
  absl::Span<const char* const> device_nodes;  // that its root may show
  const char* sha256;                          // of both filters, hexadecimal
};

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_COMPILED_POLICY_H_
