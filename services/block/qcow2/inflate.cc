#include "services/block/qcow2/inflate.h"

#include <zstd.h>

namespace bulkhead::block::qcow2 {

std::unique_ptr<Inflater> Inflater::CreateZstd() {
  std::unique_ptr<Inflater> inflater(new Inflater);
  inflater->context_ = ZSTD_createDCtx();
  if (inflater->context_ == nullptr) return nullptr;
  return inflater;
}

Inflater::~Inflater() { ZSTD_freeDCtx(context_); }

// The frame is followed by padding; one call on the frame alone needs no
// window buffer.
bool Inflater::Inflate(absl::Span<const uint8_t> from, absl::Span<uint8_t> to) {
  const size_t frame = ZSTD_findFrameCompressedSize(from.data(), from.size());
  if (ZSTD_isError(frame) != 0) return false;
  return ZSTD_decompressDCtx(context_, to.data(), to.size(), from.data(),
                             frame) == to.size();
}

}  // namespace bulkhead::block::qcow2
