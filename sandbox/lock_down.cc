#include "sandbox/lock_down.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/str_cat.h"

// The linker's own marks of a static program: its first byte, and the end of
// code and constant data that no one writes after RELRO.
extern "C" {
extern const char __executable_start[] __attribute__((weak));
extern const char __etext[] __attribute__((weak));
}

namespace bulkhead::sandbox {
namespace {

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

absl::Status Failed(const char* step) {
  return absl::InternalError(
      absl::StrCat("lock-down: ", step, ": ", strerror(errno)));
}

// Code can then not be unmapped or replaced even by what the launch filter
// still allows to a thread at this moment. A kernel before 6.10 has no such
// call, and the steady filter refuses mmap, munmap and mprotect anyway.
void SealCode() {
  if (__executable_start == nullptr || __etext == nullptr) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start =
      reinterpret_cast<uintptr_t>(__executable_start) & ~(page - 1);
  const auto end =
      (reinterpret_cast<uintptr_t>(__etext) + page - 1) & ~(page - 1);
  syscall(SYS_mseal, start, end - start, 0);
}

}  // namespace

absl::Status LockDown(const CompiledPolicy& policy) {
  // What the launcher has done for us. A program that is started by hand has
  // none of it and must not believe that it is in a jail.
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
    return absl::FailedPreconditionError(
        "lock-down: no_new_privs is not set: not started by the launcher");
  }
  if (prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER) {
    return absl::FailedPreconditionError(
        "lock-down: no launch filter: not started by the launcher");
  }
  // An exec makes a process dumpable again, so this is done here.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return Failed("PR_SET_DUMPABLE");
  SealCode();

  const sock_fprog program = {
      .len = static_cast<unsigned short>(policy.steady_filter.size()),
      .filter = const_cast<sock_filter*>(policy.steady_filter.data()),
  };
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                              SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (result > 0) {
    return absl::InternalError(
        absl::StrCat("lock-down: thread ", result, " has filters of its own"));
  }
  if (result < 0) return Failed("seccomp");
  return absl::OkStatus();
}

}  // namespace bulkhead::sandbox
