// MemoryFile is a file in memory, for tests: it can fail on demand, say that a
// call would wait, and run out of space.
//
// THREADS  Safe for concurrent calls.

#ifndef BULKHEAD_SERVICES_BLOCK_MEMORY_FILE_H_
#define BULKHEAD_SERVICES_BLOCK_MEMORY_FILE_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "services/block/file_io.h"

namespace bulkhead::block {

// What outlives the FileIo that an engine owns.
struct MemoryDisk {
  std::mutex mutex;
  std::string bytes;
  // Bytes beyond which nothing can be written: -ENOSPC.
  std::atomic<uint64_t> space{~uint64_t{0}};
  std::atomic<int> write_error{0};  // errno of every write, when not 0
  std::atomic<int> sync_error{0};
  std::atomic<int> read_error{0};
  // Calls that must not wait answer -EAGAIN, so that workers are used.
  std::atomic<bool> always_waits{false};
};

class MemoryFile : public FileIo {
 public:
  explicit MemoryFile(std::shared_ptr<MemoryDisk> disk)
      : disk_(std::move(disk)) {}

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override;
  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override;
  int Sync() override;
  int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) override;
  int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) override;
  int Truncate(uint64_t size_bytes) override;
  int64_t Size() override;
  bool never_waits() const override { return !disk_->always_waits; }
  bool is_sparse() const override { return true; }

 private:
  const std::shared_ptr<MemoryDisk> disk_;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_MEMORY_FILE_H_
