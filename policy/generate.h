// Generate turns a checked policy into the files that programs and people use.
//
// TRUST    The policy is a reviewed file.
// ERRORS   InvalidArgument: what Check found; Internal: what libseccomp
//          refused.
// THREADS  Any.

#ifndef BULKHEAD_POLICY_GENERATE_H_
#define BULKHEAD_POLICY_GENERATE_H_

#include <linux/filter.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/source.h"

namespace bulkhead::policy {

struct Compiled {
  std::vector<sock_filter> launch;
  std::vector<sock_filter> steady;
};

// Checks the policy and builds both filters.
absl::StatusOr<Compiled> Compile(const Source& source);

// "lsi53c895a" -> "Lsi53c895a", "virtio_blk" -> "VirtioBlk".
std::string FunctionName(const std::string& policy_name);

// Declares and defines `const sandbox::CompiledPolicy& FunctionName()`.
// `header_path` is what the source includes.
std::string HeaderText(const Policy& policy, const std::string& header_path);
std::string SourceText(const Policy& policy, const Compiled& compiled,
                       const std::string& header_path);

// Both filters, readable.
std::string ListingText(const Policy& policy, const Compiled& compiled);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_GENERATE_H_
