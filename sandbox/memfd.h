// A memfd that may be sealed and can never be executed.
//
// TRUST    `name` is for people who look at /proc.
// ERRORS   -1, with errno.
// THREADS  Any.

#ifndef BULKHEAD_SANDBOX_MEMFD_H_
#define BULKHEAD_SANDBOX_MEMFD_H_

#include <errno.h>
#include <sys/mman.h>

namespace bulkhead::sandbox {

inline int OpenMemfd(const char* name) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  constexpr unsigned kNoExecSeal = 0x0008;  // MFD_NOEXEC_SEAL, Linux 6.3
  const int fd = memfd_create(name, kFlags | kNoExecSeal);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create(name, kFlags);
}

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_MEMFD_H_
