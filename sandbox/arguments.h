// The arguments of a system call in words, for reports.

#ifndef BULKHEAD_SANDBOX_ARGUMENTS_H_
#define BULKHEAD_SANDBOX_ARGUMENTS_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"

namespace bulkhead::sandbox {

// `read_string` gives the escaped string at an address, or "". An unknown call
// shows six hexadecimal numbers.
std::string DescribeArguments(
    const std::string& syscall, const uint64_t (&args)[6],
    absl::FunctionRef<std::string(uint64_t)> read_string);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_ARGUMENTS_H_
