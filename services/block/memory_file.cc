#include "services/block/memory_file.h"

#include <errno.h>
#include <string.h>

#include <algorithm>

namespace bulkhead::block {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 31;

}  // namespace

ssize_t MemoryFile::Read(const iovec* segments, size_t count,
                         uint64_t offset_bytes, Wait wait) {
  if (wait == Wait::kNo && disk_->always_waits) return -EAGAIN;
  if (disk_->read_error != 0) return -disk_->read_error;
  std::lock_guard<std::mutex> lock(disk_->mutex);
  ssize_t moved = 0;
  for (size_t i = 0; i < count; ++i) {
    if (offset_bytes >= disk_->bytes.size()) break;
    const size_t n = std::min<uint64_t>(segments[i].iov_len,
                                        disk_->bytes.size() - offset_bytes);
    memcpy(segments[i].iov_base, &disk_->bytes[offset_bytes], n);
    offset_bytes += n;
    moved += static_cast<ssize_t>(n);
  }
  return moved;
}

ssize_t MemoryFile::Write(const iovec* segments, size_t count,
                          uint64_t offset_bytes, Wait wait) {
  if (wait == Wait::kNo && disk_->always_waits) return -EAGAIN;
  if (disk_->write_error != 0) return -disk_->write_error;
  const uint64_t bytes = TotalBytes(segments, count);
  if (offset_bytes > kMaxBytes || bytes > kMaxBytes - offset_bytes) {
    return -EFBIG;
  }
  if (offset_bytes + bytes > disk_->space) return -ENOSPC;
  std::lock_guard<std::mutex> lock(disk_->mutex);
  if (disk_->bytes.size() < offset_bytes + bytes) {
    disk_->bytes.resize(offset_bytes + bytes);
  }
  for (size_t i = 0; i < count; ++i) {
    memcpy(&disk_->bytes[offset_bytes], segments[i].iov_base,
           segments[i].iov_len);
    offset_bytes += segments[i].iov_len;
  }
  return static_cast<ssize_t>(bytes);
}

int MemoryFile::Sync() { return -disk_->sync_error; }

int MemoryFile::PunchHole(uint64_t offset_bytes, uint64_t length_bytes) {
  std::lock_guard<std::mutex> lock(disk_->mutex);
  if (offset_bytes >= disk_->bytes.size()) return 0;
  const size_t n =
      std::min<uint64_t>(length_bytes, disk_->bytes.size() - offset_bytes);
  memset(&disk_->bytes[offset_bytes], 0, n);
  return 0;
}

int MemoryFile::ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) {
  return PunchHole(offset_bytes, length_bytes);
}

int MemoryFile::Truncate(uint64_t size_bytes) {
  if (size_bytes > kMaxBytes) return -EFBIG;
  std::lock_guard<std::mutex> lock(disk_->mutex);
  disk_->bytes.resize(size_bytes);
  return 0;
}

int64_t MemoryFile::Size() {
  std::lock_guard<std::mutex> lock(disk_->mutex);
  return static_cast<int64_t>(disk_->bytes.size());
}

}  // namespace bulkhead::block
