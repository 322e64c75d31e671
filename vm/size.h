// Sizes as people write them: "512MiB", "1GiB", "64K" (K, M, G, T are binary,
// as in QEMU), "4096".
//
// TRUST    The user's own words.
// ERRORS   ParseSize: false, and *bytes is as it was.
// THREADS  Any.

#ifndef BULKHEAD_VM_SIZE_H_
#define BULKHEAD_VM_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace bulkhead::vm {

// False: not a size, or more than 2^63 - 1 bytes.
bool ParseSize(absl::string_view text, uint64_t* bytes);

// The shortest exact form: "512MiB", "1536KiB", "513B".
std::string FormatSize(uint64_t bytes);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_SIZE_H_
