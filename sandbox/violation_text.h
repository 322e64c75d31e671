// A violation in words, for reports. The launcher does without: it hands on
// what it has read.
//
// TRUST    Arguments and strings are the dying process's own: strings come out
//          escaped.
// ERRORS   None: what has no name is a number.
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SANDBOX_VIOLATION_TEXT_H_
#define BULKHEAD_SANDBOX_VIOLATION_TEXT_H_

#include <string>

#include "sandbox/violation.h"

namespace bulkhead::sandbox {

// "openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY, 0)"
std::string DescribeViolation(const Violation& violation);

// "openat", or "syscall 1234".
std::string SyscallOf(const Violation& violation);

// "x86_64", "x32", "i386"
const char* NameOf(Violation::Abi abi);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_VIOLATION_TEXT_H_
