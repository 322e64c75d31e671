#include "services/block/file_queue.h"

#include <errno.h>
#include <limits.h>

#include <algorithm>

#include "proto/clock.h"

namespace bulkhead::block {
namespace {

// More than this is copied by a worker, while the loop serves others.
constexpr uint64_t kMaxInlineBytes = 1 << 20;
constexpr uint64_t kSlowWriteNs = 1'000'000;
constexpr uint64_t kAvoidanceNs = 50'000'000;

int ReadAll(const FileWork& work) {
  FileIo& file = *work.file;
  SegmentCursor cursor(work.segments, work.segment_count);
  constexpr size_t kAtOnce = 64;
  iovec piece[kAtOnce];
  uint64_t done = 0;
  while (done < work.length_bytes) {
    uint64_t bytes = 0;
    const size_t n =
        cursor.Peek(piece, kAtOnce, work.length_bytes - done, &bytes);
    if (n == 0) return EINVAL;
    const ssize_t moved =
        file.Read(piece, n, work.offset_bytes + done, Wait::kYes);
    if (moved < 0) return static_cast<int>(-moved);
    if (moved == 0) {
      if (work.length_bytes - done > work.may_miss_bytes) return EIO;
      FillWithZeroes(work.segments, work.segment_count, done,
                     work.length_bytes - done);
      return 0;
    }
    cursor.Skip(static_cast<uint64_t>(moved));
    done += static_cast<uint64_t>(moved);
  }
  return 0;
}

int Zero(const FileWork& work) {
  int error = -EOPNOTSUPP;
  if (work.operation == FileOperation::kPunchZeroes) {
    error = work.file->PunchHole(work.offset_bytes, work.length_bytes);
  }
  if (error == -EOPNOTSUPP || error == -ENOSYS) {
    error = WriteZeroes(*work.file, work.offset_bytes, work.length_bytes);
  }
  if (error == 0 && work.durable) error = work.file->Sync();
  return -error;
}

// To its end, waiting where it must.
int Run(const FileWork& work) {
  FileIo& file = *work.file;
  switch (work.operation) {
    case FileOperation::kRead:
      return ReadAll(work);
    case FileOperation::kWrite:
    case FileOperation::kDurableWrite: {
      int error = WriteFully(file, work.segments, work.segment_count,
                             work.offset_bytes);
      if (error == 0 && work.operation == FileOperation::kDurableWrite) {
        error = file.Sync();
      }
      return -error;
    }
    case FileOperation::kSync:
      return -file.Sync();
    case FileOperation::kPunchHole: {
      const int error = file.PunchHole(work.offset_bytes, work.length_bytes);
      return error == -EOPNOTSUPP || error == -ENOSYS ? 0 : -error;
    }
    case FileOperation::kWriteZeroes:
    case FileOperation::kPunchZeroes:
      return Zero(work);
  }
  return EINVAL;
}

void RunOnWorker(Work* work) {
  auto* file_work = static_cast<FileWork*>(work);
  file_work->error = Run(*file_work);
}

void DoneOnLoop(Work* work) {
  auto* file_work = static_cast<FileWork*>(work);
  file_work->finished(file_work);
}

// What the ring did only in part, a worker does from the start: the bytes are
// the same, or the guest is changing them under our hands.
void DoneInRing(Work* work) {
  auto* file_work = static_cast<FileWork*>(work);
  const int64_t wanted = file_work->operation == FileOperation::kSync
                             ? 0
                             : static_cast<int64_t>(file_work->length_bytes);
  if (work->result == wanted ||
      (work->result < 0 && work->result != -EAGAIN && work->result != -EINTR)) {
    file_work->error = work->result == wanted ? 0 : -work->result;
    if (file_work->error != 0 && file_work->operation == FileOperation::kSync) {
      file_work->file->NoteFailedSync(work->result);
    }
    file_work->finished(file_work);
    return;
  }
  work->run = RunOnWorker;
  work->done = DoneOnLoop;
  file_work->pool->Post(work);
}

}  // namespace

bool FileQueue::Start(FileWork* work) {
  if (pool_->threads() == 0 ||
      (work->file->never_waits() && work->length_bytes <= kMaxInlineBytes)) {
    work->error = Run(*work);
    return true;
  }
  const bool is_read = work->operation == FileOperation::kRead;
  const bool is_write = work->operation == FileOperation::kWrite;
  const bool is_direct = work->file->is_direct();
  // The first of a batch had to wait: the others go the same way, together.
  if (is_read && pool_->ring() != nullptr && pool_->ring()->collects() &&
      TryRing(work)) {
    return false;
  }
  if (!is_direct && (is_read || is_write) &&
      work->length_bytes <= kMaxInlineBytes && work->segment_count <= IOV_MAX) {
    const ssize_t moved =
        is_read ? work->file->Read(work->segments, work->segment_count,
                                   work->offset_bytes, Wait::kNo)
                : work->file->Write(work->segments, work->segment_count,
                                    work->offset_bytes, Wait::kNo);
    if (moved == static_cast<ssize_t>(work->length_bytes)) {
      work->error = 0;
      return true;
    }
    // What was moved already is moved again: the bytes are the same, or are
    // being changed by the guest under our hands.
    if (moved < 0 && moved != -EAGAIN) {
      work->error = static_cast<int>(-moved);
      return true;
    }
    if (is_write && MayWriteInline()) {
      RunTimed(work);
      return true;
    }
  }
  if (TryRing(work)) return false;
  work->run = RunOnWorker;
  work->done = DoneOnLoop;
  pool_->Post(work);
  return false;
}

bool FileQueue::TryRing(FileWork* work) {
  if (pool_->ring() == nullptr || work->segment_count > IOV_MAX) return false;
  RingOperation operation;
  switch (work->operation) {
    case FileOperation::kRead:
      operation = RingOperation::kRead;
      break;
    case FileOperation::kWrite:
      operation = RingOperation::kWrite;
      break;
    case FileOperation::kSync:
      operation = RingOperation::kSync;
      break;
    default:
      return false;
  }
  const bool is_sync = operation == RingOperation::kSync;
  const int file = work->file->ring_file(
      work->segments, is_sync ? 0 : work->segment_count, work->offset_bytes);
  if (file < 0) return false;
  work->pool = pool_;
  work->done = DoneInRing;
  return pool_->SubmitToRing(work, operation, file, work->segments,
                             is_sync ? 0 : work->segment_count,
                             work->offset_bytes);
}

bool FileQueue::MayWriteInline() const {
  return avoid_inline_writes_until_ns_ == 0 ||
         MonotonicNow() >= avoid_inline_writes_until_ns_;
}

void FileQueue::RunTimed(FileWork* work) {
  const uint64_t start = MonotonicNow();
  work->error = Run(*work);
  const uint64_t end = MonotonicNow();
  avoid_inline_writes_until_ns_ =
      end - start > kSlowWriteNs ? end + kAvoidanceNs : 0;
}

}  // namespace bulkhead::block
