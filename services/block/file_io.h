// FileIo is the file beneath an image, as positioned reads and writes. It is
// the seam under the engines: the real file, a file in memory, one that
// records what is written, one that fails on purpose.
//
// TRUST    The bytes are hostile; offsets and lengths are the engine's, which
//          has checked them.
// ERRORS   A negative errno, as the kernel gives it. -EAGAIN from a call that
//          must not wait: nothing, or not all, was there without waiting.
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SERVICES_BLOCK_FILE_IO_H_
#define BULKHEAD_SERVICES_BLOCK_FILE_IO_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace bulkhead::block {

enum class Wait : bool { kNo, kYes };

class FileIo {
 public:
  virtual ~FileIo() = default;

  // Bytes moved, perhaps fewer than asked (0: end of file), or -errno. At most
  // IOV_MAX segments.
  virtual ssize_t Read(const iovec* segments, size_t count,
                       uint64_t offset_bytes, Wait wait) = 0;
  virtual ssize_t Write(const iovec* segments, size_t count,
                        uint64_t offset_bytes, Wait wait) = 0;

  // Everything written before is on stable storage after. Where it failed once
  // it fails for ever: a kernel forgets what it could not write, and tells of
  // it once.
  virtual int Sync() = 0;
  // A sync that somebody else has made of the file (the ring) has failed.
  virtual void NoteFailedSync(int /*error*/) {}
  // The range reads as zeroes, and takes no space.
  virtual int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // The range reads as zeroes, and keeps its space.
  virtual int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  virtual int Truncate(uint64_t size_bytes) = 0;

  // The size now, or -errno.
  virtual int64_t Size() = 0;

  // No call ever waits for a device (memory, tmpfs).
  virtual bool never_waits() const = 0;
  // Bytes never written read as zeroes, and can be made to again.
  virtual bool is_sparse() const = 0;
  // Past the page cache: the file takes whole blocks of so many bytes, and
  // every call waits for the device. 0: through it.
  virtual uint32_t direct_bytes() const { return 0; }
  bool is_direct() const { return direct_bytes() != 0; }
  // Its number in the ring, for this transfer; -1: not through the ring.
  virtual int ring_file(const iovec* /*segments*/, size_t /*count*/,
                        uint64_t /*offset_bytes*/) const {
    return -1;
  }
};

class Ring;

struct PosixFileOptions {
  // With direct_alignment_bytes: refuses a file that ends within such a block.
  // Writing to its end would make it longer.
  bool whole_blocks = false;
  Ring* ring = nullptr;  // outlives the file
  // Opened with O_DIRECT, which demands this alignment; 0: it was not.
  uint32_t direct_alignment_bytes = 0;
  // What lies in memory (tmpfs) is read through a mapping (mapped_file.h), and
  // perhaps written: then a killed process may leave a sector half written.
  bool map_memory = false;
  bool map_stores = false;
};

// The file behind `fd`, which stays the caller's. Regular files and block
// devices. Set-up.
absl::StatusOr<std::unique_ptr<FileIo>> MakePosixFile(
    int fd, const PosixFileOptions& options = {});

// ---- Whole transfers: they repeat short ones and any number of segments.

// 0 or -errno. Bytes beyond the end of the file are zeroes when `pad` says so,
// and -ENODATA otherwise.
enum class BeyondEnd : bool { kFails, kReadsZeroes };
int ReadFully(FileIo& file, const iovec* segments, size_t count,
              uint64_t offset_bytes, BeyondEnd beyond);
int WriteFully(FileIo& file, const iovec* segments, size_t count,
               uint64_t offset_bytes);
// One buffer.
int ReadBytes(FileIo& file, void* to, size_t size_bytes, uint64_t offset_bytes,
              BeyondEnd beyond);
int WriteBytes(FileIo& file, const void* from, size_t size_bytes,
               uint64_t offset_bytes);
// Writes zeroes, however the file does it.
int WriteZeroes(FileIo& file, uint64_t offset_bytes, uint64_t length_bytes);

// A walk over segments.
class SegmentCursor {
 public:
  SegmentCursor(const iovec* segments, size_t count)
      : segments_(segments), count_(count) {}

  void Skip(uint64_t bytes);
  // The next segments, at most `capacity` of them and `max_bytes` bytes,
  // without moving; returns how many and adds up their bytes.
  size_t Peek(iovec* to, size_t capacity, uint64_t max_bytes,
              uint64_t* bytes) const;
  bool at_end() const { return index_ >= count_; }

 private:
  const iovec* segments_;
  size_t count_;
  size_t index_ = 0;
  size_t skipped_ = 0;  // of segments_[index_]
};

uint64_t TotalBytes(const iovec* segments, size_t count);
void FillWithZeroes(const iovec* segments, size_t count, uint64_t from_byte,
                    uint64_t bytes);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_FILE_IO_H_
