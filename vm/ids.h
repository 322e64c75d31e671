// Ids of its own for each VM that root starts: a block of 64, out of a range
// that no account uses. A block is reserved by a lock on its byte of
// /run/bulkhead.ids, which lasts until the last process that holds the fd ends:
// the launcher.
//
// TRUST    The file is root's, mode 0600.
// ERRORS   UserError: the file cannot be made, the range is used up.
// THREADS  Any.

#ifndef BULKHEAD_VM_IDS_H_
#define BULKHEAD_VM_IDS_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "base/fd.h"

namespace bulkhead::vm {

inline constexpr uid_t kDefaultFirstId = 0x42480000;
inline constexpr uid_t kIdsOfOneVm = 64;
inline constexpr int kMostVms = 1024;
inline constexpr char kIdsFile[] = "/run/bulkhead.ids";

struct IdBlock {
  uid_t first;
  Fd lock;
};

// The first free block of the range that begins at `range_first`.
absl::StatusOr<IdBlock> ReserveIds(uid_t range_first, const std::string& file);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_IDS_H_
