// The names of x86_64's system calls, from libseccomp's table and a short list
// of calls younger than the oldest libseccomp that we build with.
//
// TRUST    None: tables.
// ERRORS   -1 or "" for what has no number or name.
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SANDBOX_SYSCALLS_H_
#define BULKHEAD_SANDBOX_SYSCALLS_H_

#include <cstdint>
#include <string>

namespace bulkhead::sandbox {

// -1: x86_64 has no such call.
int SyscallNumber(const std::string& name);

// "openat", or "syscall 1234" for a number without a name.
std::string SyscallName(int number, bool i386 = false);

// A call with a nearly equal name, for messages; "" when nothing is near.
std::string NearestSyscall(const std::string& name);

// No x86_64 kernel that we know of has a call at or beyond this number.
inline constexpr int kSyscallLimit = 512;

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_SYSCALLS_H_
