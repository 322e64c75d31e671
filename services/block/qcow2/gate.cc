#include "services/block/qcow2/gate.h"

#include <libdeflate.h>
#include <string.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

// A sanitizer watches its own heap; there, blocks come from it.
#if defined(__SANITIZE_ADDRESS__)
#define BULKHEAD_WATCHED_HEAP 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BULKHEAD_WATCHED_HEAP 1
#endif
#endif

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kHeaderBytes = 16;  // keeps malloc's alignment
constexpr unsigned kSmallestClass = 5;

thread_local Gate* current = nullptr;

#ifdef BULKHEAD_WATCHED_HEAP
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif

unsigned ClassOf(size_t bytes) {
  return std::max<unsigned>(
      kSmallestClass,
      static_cast<unsigned>(std::bit_width(std::max<size_t>(bytes, 1) - 1)));
}

}  // namespace

Gate::Gate(size_t bytes)
    : bytes_(bytes),
      memory_(new uint8_t[bytes]),
      decompressor_(libdeflate_alloc_decompressor()) {}

Gate::~Gate() { libdeflate_free_decompressor(decompressor_); }

Gate* Gate::Current() { return current; }

Gate::Entered::Entered(Gate* gate) : before_(current) { current = gate; }
Gate::Entered::~Entered() { current = before_; }

void* Gate::Allocate(size_t bytes) {
  const unsigned size_class = ClassOf(bytes);
  if (bytes > bytes_ || size_class >= kClasses) {
    exhausted_ = true;
    return nullptr;
  }
  uint8_t* block = nullptr;
  const size_t whole = (size_t{1} << size_class) + kHeaderBytes;
  if (kWatched) {
    block = static_cast<uint8_t*>(malloc(bytes + kHeaderBytes));
    if (block == nullptr) return nullptr;
    block += kHeaderBytes;
  } else if (free_[size_class] != nullptr) {
    block = reinterpret_cast<uint8_t*>(free_[size_class]);
    free_[size_class] = free_[size_class]->next;
  } else if (whole <= bytes_ - used_) {
    block = memory_.get() + used_ + kHeaderBytes;
    used_ += whole;
  } else {
    exhausted_ = true;
    return nullptr;
  }
  const uint64_t header[2] = {bytes, size_class};
  memcpy(block - kHeaderBytes, header, sizeof(header));
  return block;
}

void Gate::Free(void* block) {
  if (block == nullptr) return;
  uint64_t header[2];
  memcpy(header, static_cast<uint8_t*>(block) - kHeaderBytes, sizeof(header));
  if (kWatched) {
    free(static_cast<uint8_t*>(block) - kHeaderBytes);
    return;
  }
  auto* spare = static_cast<Spare*>(block);
  spare->next = free_[header[1]];
  free_[header[1]] = spare;
}

size_t Gate::SizeOf(const void* block) {
  uint64_t header[2];
  memcpy(header, static_cast<const uint8_t*>(block) - kHeaderBytes,
         sizeof(header));
  return header[0];
}

bool Gate::InflateFast(const uint8_t* from, size_t from_bytes, uint8_t* to,
                       size_t to_bytes) {
  return decompressor_ != nullptr &&
         libdeflate_deflate_decompress(decompressor_, from, from_bytes, to,
                                       to_bytes, nullptr) == LIBDEFLATE_SUCCESS;
}

void Gate::Reset() {
  used_ = 0;
  free_.fill(nullptr);
}

}  // namespace bulkhead::block::qcow2

// ---- What libqcow calls

using bulkhead::block::qcow2::Gate;

extern "C" {

void* bulkhead_qcow_malloc(size_t bytes) {
  Gate* gate = Gate::Current();
  return gate != nullptr ? gate->Allocate(bytes) : nullptr;
}

void bulkhead_qcow_free(void* block) {
  Gate* gate = Gate::Current();
  if (gate != nullptr) gate->Free(block);
}

void* bulkhead_qcow_calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return nullptr;
  void* block = bulkhead_qcow_malloc(bytes);
  if (block != nullptr) memset(block, 0, bytes);
  return block;
}

void* bulkhead_qcow_realloc(void* block, size_t bytes) {
  if (block == nullptr) return bulkhead_qcow_malloc(bytes);
  void* moved = bulkhead_qcow_malloc(bytes);
  if (moved == nullptr) return nullptr;
  memcpy(moved, block, std::min(bytes, Gate::SizeOf(block)));
  bulkhead_qcow_free(block);
  return moved;
}

static voidpf ZlibAllocate(voidpf, uInt items, uInt size) {
  return bulkhead_qcow_calloc(items, size);
}
static void ZlibFree(voidpf, voidpf block) { bulkhead_qcow_free(block); }

int bulkhead_qcow_inflateInit2_(z_streamp stream, int window_bits,
                                const char* version, int stream_size) {
  stream->zalloc = ZlibAllocate;
  stream->zfree = ZlibFree;
  return inflateInit2_(stream, window_bits, version, stream_size);
}

// A stream that fills the cluster and goes on is taken, as QEMU takes it; one
// that ends before is noted.
int bulkhead_qcow_inflate(z_streamp stream, int flush) {
  Gate* gate = Gate::Current();
  if (gate != nullptr && flush == Z_FINISH && stream->total_out == 0 &&
      gate->InflateFast(stream->next_in, stream->avail_in, stream->next_out,
                        stream->avail_out)) {
    stream->total_out = stream->avail_out;
    stream->avail_out = 0;
    return Z_STREAM_END;
  }
  const int result = inflate(stream, flush);
  if (stream->avail_out != 0) {
    if (gate != nullptr) gate->set_inflated_short();
    return result;
  }
  return result == Z_BUF_ERROR ? Z_STREAM_END : result;
}

int bulkhead_qcow_inflateEnd(z_streamp stream) { return inflateEnd(stream); }

}  // extern "C"
