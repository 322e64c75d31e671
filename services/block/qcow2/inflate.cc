#include "services/block/qcow2/inflate.h"

#include <zlib.h>
#include <zstd.h>

#include "services/block/qcow2/format.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr int kRawDeflate4KiB = -12;

class ZlibInflater final : public Inflater {
 public:
  ~ZlibInflater() override {
    if (ready_) inflateEnd(&stream_);
  }

  bool Init() {
    ready_ = inflateInit2(&stream_, kRawDeflate4KiB) == Z_OK;
    if (!ready_) return false;
    // The window is allocated when it is first needed: need it now.
    static constexpr uint8_t kStoredByte[] = {0x00, 0x01, 0x00,
                                              0xfe, 0xff, 0x00};
    uint8_t byte[1];
    stream_.next_in = const_cast<uint8_t*>(kStoredByte);
    stream_.avail_in = sizeof(kStoredByte);
    stream_.next_out = byte;
    stream_.avail_out = sizeof(byte);
    return inflate(&stream_, Z_SYNC_FLUSH) == Z_OK;
  }

  bool Inflate(absl::Span<const uint8_t> from,
               absl::Span<uint8_t> to) override {
    if (inflateReset(&stream_) != Z_OK) return false;
    stream_.next_in = const_cast<uint8_t*>(from.data());
    stream_.avail_in = static_cast<uInt>(from.size());
    stream_.next_out = to.data();
    stream_.avail_out = static_cast<uInt>(to.size());
    const int result = inflate(&stream_, Z_FINISH);
    // Writers may fill the cluster without ending the stream.
    return (result == Z_STREAM_END || result == Z_BUF_ERROR ||
            result == Z_OK) &&
           stream_.avail_out == 0;
  }

 private:
  z_stream stream_ = {};
  bool ready_ = false;
};

class ZstdInflater final : public Inflater {
 public:
  ~ZstdInflater() override { ZSTD_freeDCtx(context_); }

  bool Init() {
    context_ = ZSTD_createDCtx();
    return context_ != nullptr;
  }

  // The frame is followed by padding; one call on the frame alone needs no
  // window buffer.
  bool Inflate(absl::Span<const uint8_t> from,
               absl::Span<uint8_t> to) override {
    const size_t frame = ZSTD_findFrameCompressedSize(from.data(), from.size());
    if (ZSTD_isError(frame) != 0) return false;
    return ZSTD_decompressDCtx(context_, to.data(), to.size(), from.data(),
                               frame) == to.size();
  }

 private:
  ZSTD_DCtx* context_ = nullptr;
};

template <typename T>
std::unique_ptr<Inflater> Make() {
  auto inflater = std::make_unique<T>();
  if (!inflater->Init()) return nullptr;
  return inflater;
}

}  // namespace

std::unique_ptr<Inflater> Inflater::Create(uint8_t type) {
  if (type == kZstd) return Make<ZstdInflater>();
  return Make<ZlibInflater>();
}

}  // namespace bulkhead::block::qcow2
