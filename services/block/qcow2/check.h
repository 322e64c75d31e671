// Check counts for itself who refers to which cluster, and compares that with
// what the image's refcounts say.
//
// TRUST    The image is hostile: every table is bounded before it is read, and
//          each is walked once.
// ERRORS   InvalidArgument: the image cannot be walked (not qcow2, a table out
//          of bounds); ResourceExhausted: it would take more memory or more
//          reading than the budget allows.
// THREADS  Blocking; nobody else may write the file meanwhile.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_CHECK_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/qcow2/header.h"

namespace bulkhead::block::qcow2 {

// What walking an image may take: a hostile one could name the same tables in
// thousands of snapshots, or claim to be of any size.
struct CheckBudget {
  uint64_t clusters = 0;     // of the file; four bytes of memory each
  uint64_t table_bytes = 0;  // read, all tables together
};
// Before an image is served: seconds at the most.
inline constexpr CheckBudget kSetUpBudget = {uint64_t{1} << 24,
                                             uint64_t{1} << 30};
// By a tool that somebody waits for.
inline constexpr CheckBudget kToolBudget = {uint64_t{1} << 27,
                                            uint64_t{1} << 36};

struct CheckReport {
  // An entry points to nowhere, a cluster is used more often than it is
  // counted, or a COPIED flag lies: data may be or get lost.
  uint64_t corruptions = 0;
  uint64_t leaks = 0;  // clusters counted more often than used
  uint64_t data_clusters = 0;
  uint64_t compressed_clusters = 0;
  std::string first_problem;  // in words; empty if there is none

  void Corruption(std::string what);
};

absl::StatusOr<CheckReport> Check(FileIo& file, const CheckBudget& budget);

// How often each cluster of the file is used; `report` takes what is wrong
// with the entries themselves.
absl::StatusOr<std::vector<uint32_t>> CountUses(FileIo& file,
                                                const Header& header,
                                                const CheckBudget& budget,
                                                CheckReport* report);

// Writes every refcount anew and clears the dirty bit: for an image that was
// written with lazy refcounts and not closed. Nothing may use it.
absl::Status RebuildRefcounts(FileIo& file, Header* header,
                              const CheckBudget& budget);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_CHECK_H_
