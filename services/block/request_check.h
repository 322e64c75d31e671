// CheckRequest is the gate of every backend: what passes lies inside the disk,
// is aligned, and its segments hold exactly what it says.
//
// TRUST    Offsets and lengths come from a guest.
// ERRORS   kOk, or what the request ends with.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_BLOCK_REQUEST_CHECK_H_
#define BULKHEAD_SERVICES_BLOCK_REQUEST_CHECK_H_

#include <errno.h>

#include "services/block/backend.h"

namespace bulkhead::block {

inline constexpr uint64_t kSectorBytes = 512;

inline IoStatus CheckRequest(const Request& request, const Geometry& geometry) {
  if (request.operation == Operation::kFlush) return IoStatus::kOk;
  if (request.offset_bytes % kSectorBytes != 0 ||
      request.length_bytes % kSectorBytes != 0 ||
      request.offset_bytes > geometry.capacity_bytes ||
      request.length_bytes > geometry.capacity_bytes - request.offset_bytes) {
    return IoStatus::kInvalid;
  }
  const bool moves_data = request.operation == Operation::kRead ||
                          request.operation == Operation::kWrite;
  if (moves_data) {
    if (request.segment_count > kMaxSegments) return IoStatus::kInvalid;
    uint64_t total = 0;
    for (size_t i = 0; i < request.segment_count; ++i) {
      // Each may be no longer than all: the sum cannot wrap.
      if (request.segments[i].iov_len > request.length_bytes) {
        return IoStatus::kInvalid;
      }
      total += request.segments[i].iov_len;
    }
    if (total != request.length_bytes) return IoStatus::kInvalid;
  }
  if (request.operation != Operation::kRead && geometry.read_only) {
    return IoStatus::kReadOnly;
  }
  return IoStatus::kOk;
}

// What a guest is told of a host's errno.
inline IoStatus StatusOfErrno(int error) {
  switch (error) {
    case 0:
      return IoStatus::kOk;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return IoStatus::kNoSpace;
    default:
      return IoStatus::kIoError;
  }
}

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_REQUEST_CHECK_H_
