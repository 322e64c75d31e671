#include "services/block/direct_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace bulkhead::block {
namespace {

constexpr size_t kBufferBytes = 256 << 10;

class DirectFile final : public FileIo {
 public:
  DirectFile(std::unique_ptr<FileIo> file, uint32_t alignment)
      : file_(std::move(file)),
        alignment_(alignment),
        buffer_(static_cast<uint8_t*>(
            aligned_alloc(std::max<size_t>(alignment, 4096), kBufferBytes))) {}
  ~DirectFile() override { free(buffer_); }

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override {
    if (wait == Wait::kNo) return -EAGAIN;
    if (IsAligned(segments, count, offset_bytes)) {
      return file_->Read(segments, count, offset_bytes, Wait::kYes);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t start = offset_bytes & ~uint64_t{alignment_ - 1};
    const uint64_t skip = offset_bytes - start;
    const uint64_t wanted =
        std::min<uint64_t>(TotalBytes(segments, count), kBufferBytes - skip);
    const ssize_t got = ReadBlocks(start, RoundUp(skip + wanted));
    if (got < 0) return got;
    if (static_cast<uint64_t>(got) <= skip) return 0;
    const uint64_t bytes = std::min<uint64_t>(got - skip, wanted);
    CopyOut(segments, count, buffer_ + skip, bytes);
    return static_cast<ssize_t>(bytes);
  }

  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override {
    if (wait == Wait::kNo) return -EAGAIN;
    if (IsAligned(segments, count, offset_bytes)) {
      return file_->Write(segments, count, offset_bytes, Wait::kYes);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t start = offset_bytes & ~uint64_t{alignment_ - 1};
    const uint64_t skip = offset_bytes - start;
    const uint64_t bytes =
        std::min<uint64_t>(TotalBytes(segments, count), kBufferBytes - skip);
    const uint64_t length = RoundUp(skip + bytes);
    if (const int error = FillEdges(start, skip, bytes, length); error != 0) {
      return error;
    }
    CopyIn(segments, count, buffer_ + skip, bytes);
    const iovec whole = {buffer_, length};
    const int error = WriteFully(*file_, &whole, 1, start);
    return error != 0 ? error : static_cast<ssize_t>(bytes);
  }

  int Sync() override { return file_->Sync(); }
  void NoteFailedSync(int error) override { file_->NoteFailedSync(error); }
  int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) override {
    return file_->PunchHole(offset_bytes, length_bytes);
  }
  int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) override {
    return file_->ZeroRange(offset_bytes, length_bytes);
  }
  int Truncate(uint64_t size_bytes) override {
    return file_->Truncate(size_bytes);
  }
  int64_t Size() override { return file_->Size(); }
  bool never_waits() const override { return false; }
  bool is_sparse() const override { return file_->is_sparse(); }
  uint32_t direct_bytes() const override { return alignment_; }
  int ring_file(const iovec* segments, size_t count,
                uint64_t offset_bytes) const override {
    return IsAligned(segments, count, offset_bytes)
               ? file_->ring_file(segments, count, offset_bytes)
               : -1;
  }

 private:
  uint64_t RoundUp(uint64_t bytes) const {
    return (bytes + alignment_ - 1) & ~uint64_t{alignment_ - 1};
  }

  bool IsAligned(const iovec* segments, size_t count,
                 uint64_t offset_bytes) const {
    uint64_t bits = offset_bytes;
    for (size_t i = 0; i < count; ++i) {
      bits |= reinterpret_cast<uintptr_t>(segments[i].iov_base) |
              segments[i].iov_len;
    }
    return (bits & (alignment_ - 1)) == 0;
  }

  // Into the buffer; fewer bytes at the end of the file.
  ssize_t ReadBlocks(uint64_t start, uint64_t length) {
    uint64_t done = 0;
    while (done < length) {
      const iovec rest = {buffer_ + done, length - done};
      const ssize_t got = file_->Read(&rest, 1, start + done, Wait::kYes);
      if (got < 0) return got;
      done += static_cast<uint64_t>(got);
      if (got == 0 || done % alignment_ != 0) break;
    }
    return static_cast<ssize_t>(done);
  }

  // What is before and after the bytes in their first and last block.
  int FillEdges(uint64_t start, uint64_t skip, uint64_t bytes,
                uint64_t length) {
    if (skip == 0 && bytes == length) return 0;
    memset(buffer_, 0, length);
    const ssize_t got = ReadBlocks(start, length);
    return got < 0 ? static_cast<int>(got) : 0;
  }

  static void CopyOut(const iovec* segments, size_t count, const uint8_t* from,
                      uint64_t bytes) {
    for (size_t i = 0; i < count && bytes > 0; ++i) {
      const size_t n = std::min<uint64_t>(segments[i].iov_len, bytes);
      memcpy(segments[i].iov_base, from, n);
      from += n;
      bytes -= n;
    }
  }
  static void CopyIn(const iovec* segments, size_t count, uint8_t* to,
                     uint64_t bytes) {
    for (size_t i = 0; i < count && bytes > 0; ++i) {
      const size_t n = std::min<uint64_t>(segments[i].iov_len, bytes);
      memcpy(to, segments[i].iov_base, n);
      to += n;
      bytes -= n;
    }
  }

  const std::unique_ptr<FileIo> file_;
  const uint32_t alignment_;
  uint8_t* const buffer_;
  std::mutex mutex_;
};

}  // namespace

std::unique_ptr<FileIo> MakeDirectFile(std::unique_ptr<FileIo> file,
                                       uint32_t alignment_bytes) {
  return std::make_unique<DirectFile>(std::move(file), alignment_bytes);
}

}  // namespace bulkhead::block
