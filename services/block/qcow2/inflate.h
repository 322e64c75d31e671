// Inflater takes zstd clusters apart (zlib ones are libqcow's: decoder.h), with
// memory taken once: nothing is allocated per cluster, so it works in a process
// that cannot ask for more.
//
// TRUST    The compressed bytes are hostile. Output never exceeds the buffer.
// ERRORS   false: the bytes are no compressed cluster of that size.
// THREADS  One at a time per Inflater.
// SPEC     qcow2.txt "Compressed Clusters": one zstd frame.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"

struct ZSTD_DCtx_s;

namespace bulkhead::block::qcow2 {

class Inflater {
 public:
  // nullptr: out of memory.
  static std::unique_ptr<Inflater> CreateZstd();
  ~Inflater();

  // Fills all of `to`. `from` may have padding at its end.
  bool Inflate(absl::Span<const uint8_t> from, absl::Span<uint8_t> to);

 private:
  Inflater() = default;

  ZSTD_DCtx_s* context_ = nullptr;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_
