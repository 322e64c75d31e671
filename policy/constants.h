// The values of the kernel's constants that policies name, so that a name in a
// policy is proven to be the number beside it.
//
// TRUST    None: a table.
// ERRORS   Nothing for a name that is not in the table.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_CONSTANTS_H_
#define BULKHEAD_POLICY_CONSTANTS_H_

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::policy {

// "PROT_READ|PROT_WRITE" is 3. Nothing for a name that is not in the table.
std::optional<uint64_t> ConstantValue(const std::string& expression);

// RLIMIT_* and F_SEAL_*, by name.
std::optional<uint64_t> ResourceNumber(const std::string& name);
std::optional<uint64_t> SealValue(const std::string& name);
// "user", "mount", ... to CLONE_NEW*.
std::optional<uint64_t> NamespaceFlag(const std::string& name);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_CONSTANTS_H_
