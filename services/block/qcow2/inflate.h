// Inflater takes compressed clusters apart, with memory taken once: nothing is
// allocated per cluster, so it works in a process that cannot ask for more.
//
// TRUST    The compressed bytes are hostile. Output never exceeds the buffer.
// ERRORS   false: the bytes are no compressed cluster of that size.
// THREADS  One at a time per Inflater.
// SPEC     qcow2.txt "Compressed Clusters": raw deflate with a 4 KiB window,
//          or one zstd frame.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"

namespace bulkhead::block::qcow2 {

class Inflater {
 public:
  // `type` is kZlib or kZstd. nullptr: out of memory.
  static std::unique_ptr<Inflater> Create(uint8_t type);
  virtual ~Inflater() = default;

  // Fills all of `to`. `from` may have padding at its end.
  virtual bool Inflate(absl::Span<const uint8_t> from,
                       absl::Span<uint8_t> to) = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATE_H_
