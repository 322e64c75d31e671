// Memory that several processes share: memfds, sealed so that none of them can
// take it away from another.
//
// TRUST    What is copied is not looked at.
// ERRORS   Internal, with the call that failed and its errno.
// THREADS  Any.

#ifndef BULKHEAD_VM_MEMORY_H_
#define BULKHEAD_VM_MEMORY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace bulkhead::vm {

// `bytes` of zeroes that can be written, and neither shrink nor grow nor be
// executed.
absl::StatusOr<Fd> MakeMemory(const std::string& name, uint64_t bytes);

// What can be read from `file`, copied, and open to read; nobody can change it
// any more.
absl::StatusOr<Fd> MakeSealedCopy(const std::string& name, int file);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_MEMORY_H_
