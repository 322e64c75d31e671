// Source reads policy/NAME.textproto with what it includes, and keeps for each
// part of the expanded policy the file and line that it came from, so that
// every message can name them.
//
// TRUST    Policy files are ours; a mistake in one must not pass silently.
// ERRORS   InvalidArgument: "FILE:LINE: FIELD: what is wrong; what to do".
// THREADS  Compatible.

#ifndef BULKHEAD_POLICY_SOURCE_H_
#define BULKHEAD_POLICY_SOURCE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {

struct Location {
  std::string file;
  int line = 0;  // from 1
};

struct Source {
  Policy policy;   // expanded: no includes left
  Location where;  // of the file itself
  // One for each element of the field of that name in `policy`.
  std::vector<Location> rule;
  std::vector<Location> fd;
  std::vector<Location> rlimit;
};

// Parses `text` as `file` and what it includes, which are looked for beside it.
absl::StatusOr<Source> LoadPolicy(const std::string& path);

// For tests and tools that have the text at hand. No includes.
absl::StatusOr<Source> ParsePolicy(const std::string& text,
                                   const std::string& name);

// "policy/shim.textproto:12: rule (openat): MESSAGE"
absl::Status ErrorAt(const Location& where, const std::string& field,
                     const std::string& message);

// The expanded policy in text format, as the file that is locked and counted.
std::string ToText(const Policy& policy);

}  // namespace bulkhead::policy

#endif  // BULKHEAD_POLICY_SOURCE_H_
