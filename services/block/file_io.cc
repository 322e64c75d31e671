#include "services/block/file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/block/direct_file.h"
#include "services/block/mapped_file.h"
#include "services/block/ring.h"

namespace bulkhead::block {
namespace {

constexpr size_t kSegmentsAtOnce = 64;

class PosixFile final : public FileIo {
 public:
  PosixFile(int fd, bool never_waits, bool is_sparse, int ring_file)
      : fd_(fd),
        never_waits_(never_waits),
        is_sparse_(is_sparse),
        ring_file_(ring_file) {}

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override {
    return Transfer(preadv2, read_without_waiting_, segments, count,
                    offset_bytes, wait);
  }

  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override {
    return Transfer(pwritev2, write_without_waiting_, segments, count,
                    offset_bytes, wait);
  }

  int Sync() override {
    if (const int error = failed_sync_.load(std::memory_order_relaxed);
        error != 0) {
      return error;
    }
    if (fdatasync(fd_) == 0) return 0;
    const int error = -errno;
    NoteFailedSync(error);
    return error;
  }
  void NoteFailedSync(int error) override {
    failed_sync_.store(error, std::memory_order_relaxed);
  }

  int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) override {
    return Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_bytes,
                    length_bytes);
  }

  int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) override {
    // Without KEEP_SIZE, so that the kernel holds it to the largest file that
    // the process may make: what lies behind a file's end is disk space, too.
    return Allocate(FALLOC_FL_ZERO_RANGE, offset_bytes, length_bytes);
  }

  int Truncate(uint64_t size_bytes) override {
    return ftruncate(fd_, static_cast<off_t>(size_bytes)) == 0 ? 0 : -errno;
  }

  // A block device too tells its size this way, without an ioctl.
  int64_t Size() override {
    const off_t end = lseek(fd_, 0, SEEK_END);
    return end >= 0 ? end : -errno;
  }

  bool never_waits() const override { return never_waits_; }
  bool is_sparse() const override { return is_sparse_; }
  int ring_file(const iovec*, size_t, uint64_t) const override {
    return failed_sync_.load(std::memory_order_relaxed) == 0 ? ring_file_ : -1;
  }

 private:
  template <typename Call>
  ssize_t Transfer(Call call, std::atomic<bool>& without_waiting,
                   const iovec* segments, size_t count, uint64_t offset_bytes,
                   Wait wait) {
    const off_t offset = static_cast<off_t>(offset_bytes);
    const bool may_wait = wait == Wait::kYes || never_waits_;
    if (!may_wait && !without_waiting.load(std::memory_order_relaxed)) {
      return -EAGAIN;
    }
    for (;;) {
      const ssize_t moved = call(fd_, segments, static_cast<int>(count), offset,
                                 may_wait ? 0 : RWF_NOWAIT);
      if (moved >= 0) return moved;
      if (errno == EINTR) continue;
      if (!may_wait && errno == EOPNOTSUPP) {
        without_waiting.store(false, std::memory_order_relaxed);
        return -EAGAIN;
      }
      return -errno;
    }
  }

  int Allocate(int mode, uint64_t offset_bytes, uint64_t length_bytes) {
    for (;;) {
      if (fallocate(fd_, mode, static_cast<off_t>(offset_bytes),
                    static_cast<off_t>(length_bytes)) == 0) {
        return 0;
      }
      if (errno != EINTR) return -errno;
    }
  }

  const int fd_;
  const bool never_waits_;
  const bool is_sparse_;
  const int ring_file_;
  std::atomic<bool> read_without_waiting_{true};
  std::atomic<bool> write_without_waiting_{true};
  std::atomic<int> failed_sync_{0};
};

// Offset and length as fallocate takes them, or the zeroes themselves.
int WriteLiteralZeroes(FileIo& file, uint64_t offset_bytes,
                       uint64_t length_bytes) {
  static constexpr size_t kPage = 64 << 10;
  alignas(4096) static const uint8_t kZeroes[kPage] = {};
  iovec segments[kSegmentsAtOnce];
  while (length_bytes > 0) {
    size_t count = 0;
    uint64_t bytes = 0;
    while (count < kSegmentsAtOnce && bytes < length_bytes) {
      const size_t n = std::min<uint64_t>(kPage, length_bytes - bytes);
      segments[count++] = {const_cast<uint8_t*>(kZeroes), n};
      bytes += n;
    }
    if (const int error = WriteFully(file, segments, count, offset_bytes);
        error != 0) {
      return error;
    }
    offset_bytes += bytes;
    length_bytes -= bytes;
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileIo>> MakePosixFile(
    int fd, const PosixFileOptions& options) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("fstat of fd ", fd));
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return absl::InvalidArgumentError("neither a file nor a block device");
  }
  struct statfs filesystem = {};
  const bool in_memory =
      S_ISREG(status.st_mode) && fstatfs(fd, &filesystem) == 0 &&
      (filesystem.f_type == TMPFS_MAGIC || filesystem.f_type == RAMFS_MAGIC);
  auto file = std::make_unique<PosixFile>(
      fd, in_memory, S_ISREG(status.st_mode),
      options.ring != nullptr ? options.ring->AddFile(fd) : -1);
  const uint32_t alignment = options.direct_alignment_bytes;
  if (alignment == 0) {
    if (!in_memory || !options.map_memory) return file;
    return MakeMappedFile(
        std::move(file), fd, static_cast<uint64_t>(status.st_size),
        options.map_stores ? Stores::kMapped : Stores::kSystemCalls);
  }
  if ((alignment & (alignment - 1)) != 0 || alignment > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat("an alignment of ", alignment, " bytes is not possible"));
  }
  if (options.whole_blocks && S_ISREG(status.st_mode) &&
      status.st_size % alignment != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("direct: its size is not a multiple of ", alignment,
                     " bytes; qemu-img resize makes it one"));
  }
  return MakeDirectFile(std::move(file), alignment);
}

void SegmentCursor::Skip(uint64_t bytes) {
  while (index_ < count_ && bytes >= segments_[index_].iov_len - skipped_) {
    bytes -= segments_[index_].iov_len - skipped_;
    ++index_;
    skipped_ = 0;
  }
  if (index_ < count_) skipped_ += bytes;
}

size_t SegmentCursor::Peek(iovec* to, size_t capacity, uint64_t max_bytes,
                           uint64_t* bytes) const {
  size_t used = 0;
  uint64_t total = 0;
  size_t skip = skipped_;
  for (size_t i = index_; i < count_ && used < capacity && total < max_bytes;
       ++i) {
    const size_t length =
        std::min<uint64_t>(segments_[i].iov_len - skip, max_bytes - total);
    if (length > 0) {
      to[used++] = {static_cast<uint8_t*>(segments_[i].iov_base) + skip,
                    length};
      total += length;
    }
    skip = 0;
  }
  *bytes = total;
  return used;
}

uint64_t TotalBytes(const iovec* segments, size_t count) {
  uint64_t total = 0;
  for (size_t i = 0; i < count; ++i) total += segments[i].iov_len;
  return total;
}

void FillWithZeroes(const iovec* segments, size_t count, uint64_t from_byte,
                    uint64_t bytes) {
  SegmentCursor cursor(segments, count);
  cursor.Skip(from_byte);
  while (bytes > 0 && !cursor.at_end()) {
    iovec piece;
    uint64_t length = 0;
    if (cursor.Peek(&piece, 1, bytes, &length) == 0) return;
    memset(piece.iov_base, 0, piece.iov_len);
    cursor.Skip(length);
    bytes -= length;
  }
}

int ReadFully(FileIo& file, const iovec* segments, size_t count,
              uint64_t offset_bytes, BeyondEnd beyond) {
  SegmentCursor cursor(segments, count);
  iovec piece[kSegmentsAtOnce];
  uint64_t done = 0;
  while (!cursor.at_end()) {
    uint64_t bytes = 0;
    const size_t n = cursor.Peek(piece, kSegmentsAtOnce, ~uint64_t{0}, &bytes);
    if (n == 0) return 0;
    const ssize_t moved = file.Read(piece, n, offset_bytes + done, Wait::kYes);
    if (moved < 0) return static_cast<int>(moved);
    if (moved == 0) {
      if (beyond == BeyondEnd::kFails) return -ENODATA;
      FillWithZeroes(segments, count, done, ~uint64_t{0});
      return 0;
    }
    cursor.Skip(static_cast<uint64_t>(moved));
    done += static_cast<uint64_t>(moved);
  }
  return 0;
}

int WriteFully(FileIo& file, const iovec* segments, size_t count,
               uint64_t offset_bytes) {
  SegmentCursor cursor(segments, count);
  iovec piece[kSegmentsAtOnce];
  while (!cursor.at_end()) {
    uint64_t bytes = 0;
    const size_t n = cursor.Peek(piece, kSegmentsAtOnce, ~uint64_t{0}, &bytes);
    if (n == 0) return 0;
    const ssize_t moved = file.Write(piece, n, offset_bytes, Wait::kYes);
    if (moved < 0) return static_cast<int>(moved);
    if (moved == 0) return -EIO;
    cursor.Skip(static_cast<uint64_t>(moved));
    offset_bytes += static_cast<uint64_t>(moved);
  }
  return 0;
}

int ReadBytes(FileIo& file, void* to, size_t size_bytes, uint64_t offset_bytes,
              BeyondEnd beyond) {
  const iovec segment = {to, size_bytes};
  return ReadFully(file, &segment, 1, offset_bytes, beyond);
}

int WriteBytes(FileIo& file, const void* from, size_t size_bytes,
               uint64_t offset_bytes) {
  const iovec segment = {const_cast<void*>(from), size_bytes};
  return WriteFully(file, &segment, 1, offset_bytes);
}

int WriteZeroes(FileIo& file, uint64_t offset_bytes, uint64_t length_bytes) {
  if (length_bytes == 0) return 0;
  const int error = file.ZeroRange(offset_bytes, length_bytes);
  if (error != -EOPNOTSUPP && error != -ENOSYS) return error;
  return WriteLiteralZeroes(file, offset_bytes, length_bytes);
}

}  // namespace bulkhead::block
