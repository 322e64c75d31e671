// What every disk asks before it grows, and how it tells that it could not.
//
// TRUST    The size is the user's.
// ERRORS   As growth.h says.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_BLOCK_GROWTH_CHECK_H_
#define BULKHEAD_SERVICES_BLOCK_GROWTH_CHECK_H_

#include <errno.h>
#include <string.h>

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/block/backend.h"
#include "services/block/request_check.h"

namespace bulkhead::block {

inline absl::Status CheckGrowth(uint64_t size_bytes, const Geometry& geometry) {
  if (size_bytes % kSectorBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(size_bytes, " bytes are not a multiple of 512"));
  }
  if (size_bytes > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return absl::InvalidArgumentError("no file can be so long");
  }
  if (size_bytes <= geometry.capacity_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the disk has ", geometry.capacity_bytes,
                     " bytes; it can only become longer"));
  }
  return absl::OkStatus();
}

// Of what the host said: 0 or -errno.
inline absl::Status GrowthStatus(int error) {
  switch (-error) {
    case 0:
      return absl::OkStatus();
    case ENODATA:
      return absl::FailedPreconditionError(
          "its file is shorter, and read-only here");
    case EINVAL:
      return absl::FailedPreconditionError(
          "its device is shorter: make that longer first");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(
          absl::StrCat("its file cannot grow: ", strerror(-error)));
    default:
      return absl::InternalError(
          absl::StrCat("growing its file: ", strerror(-error)));
  }
}

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_GROWTH_CHECK_H_
