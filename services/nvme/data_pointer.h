// MapData turns a command's data pointer (PRPs or an SGL) into host segments,
// so that a backend reads and writes guest RAM with no copy.
//
// TRUST    Entries and descriptors are the guest's, in memory that it may
//          rewrite meanwhile: each is copied out once. Lists may loop; what is
//          walked is bounded by the transfer's length (PRP) and by
//          kMaxSglDescriptors.
// ERRORS   A Status of the specification, and the byte of the command that is
//          to blame. kNeedMoreSegments is for the caller only.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §4.3 (PRP), §4.4 (SGL).

#ifndef BULKHEAD_SERVICES_NVME_DATA_POINTER_H_
#define BULKHEAD_SERVICES_NVME_DATA_POINTER_H_

#include <cstddef>
#include <cstdint>

#include "services/nvme/dma.h"
#include "services/nvme/spec.h"

namespace bulkhead::nvme {

// What a command ends with, and where its fault lies.
struct Outcome {
  static constexpr uint16_t kNoLocation = 0xffff;
  Status status = Status::kSuccess;
  uint16_t location = kNoLocation;

  bool ok() const { return status == Status::kSuccess; }
};

// Descriptors that one SGL may have. With 4 KiB pages, 1 MiB needs 257.
inline constexpr unsigned kMaxSglDescriptors = 2048;

struct Segments {
  iovec* first = nullptr;
  size_t capacity = 0;
  size_t count = 0;
  bool too_few = false;  // the data needs more than `capacity`
};

// Appends the first `length_bytes` of the command's data to `segments`.
// PRPs only (as admin commands use, §4.3): `sgl_allowed` false.
Outcome MapData(const Command& command, uint64_t length_bytes,
                unsigned page_bits, bool sgl_allowed, DmaDirection direction,
                const Dma& dma, Segments* segments);

// Copies between the segments, from byte `skip` on, and a buffer. Returns how
// many bytes there were.
size_t CopyToSegments(const Segments& segments, uint64_t skip, const void* from,
                      size_t size_bytes);
size_t CopyFromSegments(const Segments& segments, uint64_t skip, void* to,
                        size_t size_bytes);
// Whether the segments hold, from byte `skip` on, just these bytes.
bool SegmentsEqual(const Segments& segments, uint64_t skip, const void* bytes,
                   size_t size_bytes);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_DATA_POINTER_H_
