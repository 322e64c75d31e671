// FileQueue decides where a file operation runs: at once on the loop when it
// will not wait (the page cache has the data, or takes it), on a worker
// otherwise.
//
// Reads are tried with RWF_NOWAIT. Writes too; where the filesystem cannot
// (ext4, for buffered writes), they go to the page cache from the loop for as
// long as that is quick: one that took longer than kSlowWrite (the kernel was
// writing back) sends those of the next moments to the workers.
//
// TRUST    Offsets and lengths are the engine's. Segments may be guest memory.
// ERRORS   FileWork::error: 0 or a positive errno.
// THREADS  The loop. An operation never outlives its FileWork.

#ifndef BULKHEAD_SERVICES_BLOCK_FILE_QUEUE_H_
#define BULKHEAD_SERVICES_BLOCK_FILE_QUEUE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "services/block/file_io.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {

enum class FileOperation : uint8_t {
  kRead,  // a file that ends early: zeroes, see may_miss_bytes
  kWrite,
  kDurableWrite,  // with a sync
  kSync,
  kPunchHole,  // 0 also where the file cannot
  kWriteZeroes,
  kPunchZeroes,  // as kWriteZeroes, freeing the space where possible
};

struct FileWork : Work {
  FileIo* file = nullptr;
  FileOperation operation = FileOperation::kRead;
  bool durable = false;  // kWriteZeroes, kPunchZeroes: followed by a sync
  int error = 0;
  const iovec* segments = nullptr;
  size_t segment_count = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  // kRead: so many bytes at the end the file may lack; they read as zeroes.
  uint64_t may_miss_bytes = 0;
  void* owner = nullptr;
  WorkerPool* pool = nullptr;                  // the queue's
  void (*finished)(FileWork* work) = nullptr;  // only if Start said false
};

class FileQueue {
 public:
  explicit FileQueue(WorkerPool* pool) : pool_(pool) {}

  // true: done, `error` is set and `finished` is not called.
  bool Start(FileWork* work);

 private:
  bool TryRing(FileWork* work);
  bool MayWriteInline() const;
  void RunTimed(FileWork* work);

  WorkerPool* const pool_;
  uint64_t avoid_inline_writes_until_ns_ = 0;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_FILE_QUEUE_H_
