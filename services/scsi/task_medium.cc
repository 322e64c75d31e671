// How a task works on its medium: reads, writes, comparisons, and the
// operations that move no data to or from the initiator.

#include <algorithm>
#include <cstring>

#include "services/runtime/endian.h"
#include "services/scsi/task.h"

namespace bulkhead::scsi {
namespace {

// A long operation goes on in steps, so many in one turn of the loop: a guest
// cannot hold the service by asking for a whole disk.
constexpr uint64_t kMaxStepBytes = uint64_t{64} << 20;
constexpr unsigned kStepsPerTurn = 8;

// Pieces that reading ahead leaves for tasks that have none.
constexpr size_t kPiecesKeptBack = 8;

}  // namespace

// ---- READ ------------------------------------------------------------------

void ScsiTask::Read(MediumRange range) {
  ++unit_->statistics().reads;
  unit_->statistics().read_bytes += range.length_bytes;
  range_ = range;
  total_bytes_ = range.length_bytes;
  record_->moved_bytes = std::min(record_->moved_bytes, total_bytes_);
  // Run again, it goes on where the adapter is, in the middle of a block
  // perhaps.
  const uint64_t moved = record_->moved_bytes;
  issued_bytes_ = moved - moved % unit_->block_size_bytes();
  work_ = Work::kRead;
  if (moved == total_bytes_) return Finish(Status::kGood);
  if (!SubmitRead(&front_)) return Wait();
  front_size_ = back_size_;
  front_used_ = static_cast<size_t>(moved % unit_->block_size_bytes());
  ContinueRead();
}

// Sets back_size_ to what it asked for.
bool ScsiTask::SubmitRead(Operation** piece) {
  if (!Acquire(piece)) return false;
  const uint64_t bytes = std::min<uint64_t>(host_->pool().piece_bytes(),
                                            total_bytes_ - issued_bytes_);
  Prepare(*piece, block::Operation::kRead, range_.offset_bytes + issued_bytes_,
          bytes, (*piece)->buffer);
  back_size_ = static_cast<size_t>(bytes);
  issued_bytes_ += bytes;
  Submit(*piece);
  return true;
}

void ScsiTask::ContinueRead() {
  if (front_ != nullptr && front_used_ == front_size_) {
    Drop(&front_);
    std::swap(front_, back_);
    front_size_ = back_size_;
    front_used_ = 0;
  }
  if (record_->moved_bytes == total_bytes_) return Finish(Status::kGood);
  if (front_ == nullptr) {
    if (!SubmitRead(&front_)) return Wait();
    front_size_ = back_size_;
    front_used_ = 0;
  }
  if (back_ == nullptr && issued_bytes_ < total_bytes_ &&
      unit_->reads_ahead() && host_->MaySubmit() &&
      host_->pool().free_pieces() > kPiecesKeptBack) {
    SubmitRead(&back_);
  }
  if (front_->in_flight) return Busy();
  if (front_->request.status != block::IoStatus::kOk) {
    return FailIo(front_->request);
  }
  state_ = State::kDataIn;
}

// ---- WRITE -----------------------------------------------------------------

void ScsiTask::Write(MediumRange range, bool force_unit_access) {
  if (!CanResume(range.length_bytes)) return;
  ++unit_->statistics().writes;
  unit_->statistics().written_bytes += range.length_bytes;
  range_ = range;
  total_bytes_ = range.length_bytes;
  force_unit_access_ = force_unit_access;
  work_ = Work::kWrite;
  Drop(&front_);
  ContinueWrite();
}

void ScsiTask::ContinueWrite() {
  for (;;) {
    if (back_ != nullptr && !back_->in_flight) {
      if (back_->request.status != block::IoStatus::kOk) {
        return FailIo(back_->request);
      }
      record_->done_bytes += back_size_;
      Drop(&back_);
    }
    if (record_->done_bytes >= total_bytes_) {
      // One flush at the end costs less than durable pieces.
      if (force_unit_access_ && total_bytes_ > host_->pool().piece_bytes()) {
        return Flush();
      }
      return Finish(Status::kGood);
    }
    if (front_ == nullptr) {
      const uint64_t left = total_bytes_ - record_->moved_bytes;
      if (left == 0) return Busy();  // until the last piece is written
      if (!Acquire(&front_)) return back_ != nullptr ? Busy() : Wait();
      front_size_ = static_cast<size_t>(
          std::min<uint64_t>(host_->pool().piece_bytes(), left));
      front_used_ = 0;
    }
    if (front_used_ < front_size_) {
      state_ = State::kDataOut;
      return;
    }
    if (back_ != nullptr) return Busy();
    if (!host_->MaySubmit()) return Yield();
    Prepare(front_, block::Operation::kWrite,
            range_.offset_bytes + record_->moved_bytes - front_size_,
            front_size_, front_->buffer);
    front_->request.force_unit_access =
        force_unit_access_ && total_bytes_ <= host_->pool().piece_bytes();
    std::swap(front_, back_);
    back_size_ = front_size_;
    Submit(back_);
  }
}

// ---- Steps: operations that need nothing of the initiator
// --------------------

bool ScsiTask::FinishStep(const Operation* operation) {
  if (!step_under_way_) return true;
  if (operation->in_flight) {
    Busy();
    return false;
  }
  step_under_way_ = false;
  if (operation->request.status != block::IoStatus::kOk) {
    FailIo(operation->request);
    return false;
  }
  record_->done_bytes += step_bytes_;
  return true;
}

void ScsiTask::BeginStep(Operation* operation, uint64_t bytes) {
  step_bytes_ = bytes;
  step_under_way_ = true;
  Submit(operation);
}

void ScsiTask::Flush() {
  ++unit_->statistics().flushes;
  step_under_way_ = false;
  work_ = Work::kFlush;
  Drop(&front_);
  ContinueFlush();
}

void ScsiTask::ContinueFlush() {
  if (!step_under_way_) {
    if (!AcquirePlain()) return Wait();
    Prepare(plain_, block::Operation::kFlush, 0, 0, nullptr);
    BeginStep(plain_, 0);
  }
  if (FinishStep(plain_)) Finish(Status::kGood);
}

void ScsiTask::Verify(MediumRange range) {
  unit_->statistics().verified_bytes += range.length_bytes;
  range_ = range;
  work_ = Work::kVerify;
  record_->done_bytes = std::min(record_->done_bytes, range.length_bytes);
  ContinueVerify();
}

void ScsiTask::ContinueVerify() {
  for (unsigned steps = 0;; ++steps) {
    if (!FinishStep(front_)) return;
    const uint64_t left = range_.length_bytes - record_->done_bytes;
    if (left == 0) return Finish(Status::kGood);
    if (steps == kStepsPerTurn || !host_->MaySubmit()) return Yield();
    const uint64_t bytes =
        std::min<uint64_t>(host_->pool().piece_bytes(), left);
    Prepare(front_, block::Operation::kRead,
            range_.offset_bytes + record_->done_bytes, bytes, front_->buffer);
    BeginStep(front_, bytes);
  }
}

void ScsiTask::WriteZeroes(MediumRange range, bool may_unmap) {
  unit_->statistics().unmapped_bytes += may_unmap ? range.length_bytes : 0;
  range_ = range;
  may_unmap_ = may_unmap;
  work_ = Work::kWriteZeroes;
  record_->done_bytes = std::min(record_->done_bytes, range.length_bytes);
  Drop(&front_);
  ContinueWriteZeroes();
}

void ScsiTask::ContinueWriteZeroes() {
  for (unsigned steps = 0;; ++steps) {
    if (!FinishStep(plain_)) return;
    const uint64_t left = range_.length_bytes - record_->done_bytes;
    if (left == 0) return Finish(Status::kGood);
    if (!AcquirePlain()) return Wait();
    if (steps == kStepsPerTurn || !host_->MaySubmit()) return Yield();
    const uint64_t bytes = std::min(kMaxStepBytes, left);
    Prepare(plain_, block::Operation::kWriteZeroes,
            range_.offset_bytes + record_->done_bytes, bytes, nullptr);
    plain_->request.may_unmap = may_unmap_;
    BeginStep(plain_, bytes);
  }
}

void ScsiTask::WritePattern(MediumRange range) {
  unit_->statistics().written_bytes += range.length_bytes;
  range_ = range;
  work_ = Work::kWritePattern;
  record_->done_bytes = 0;
  const size_t block = unit_->block_size_bytes();
  const uint64_t filled =
      std::min<uint64_t>(host_->pool().piece_bytes(), range.length_bytes);
  for (size_t at = block; at + block <= filled; at += block) {
    std::memcpy(front_->buffer + at, front_->buffer, block);
  }
  ContinueWritePattern();
}

void ScsiTask::ContinueWritePattern() {
  for (unsigned steps = 0;; ++steps) {
    if (!FinishStep(front_)) return;
    const uint64_t left = range_.length_bytes - record_->done_bytes;
    if (left == 0) return Finish(Status::kGood);
    if (steps == kStepsPerTurn || !host_->MaySubmit()) return Yield();
    const uint64_t bytes =
        std::min<uint64_t>(host_->pool().piece_bytes(), left);
    Prepare(front_, block::Operation::kWrite,
            range_.offset_bytes + record_->done_bytes, bytes, front_->buffer);
    BeginStep(front_, bytes);
  }
}

void ScsiTask::Unmap(size_t descriptor_count) {
  descriptor_count_ = descriptor_count;
  next_descriptor_ = 0;
  range_ = {};
  record_->done_bytes = 0;
  work_ = Work::kUnmap;
  ContinueUnmap();
}

// SBC-3 §5.28.2: the next block descriptor that names any blocks.
bool ScsiTask::NextUnmapRange() {
  const uint64_t block = unit_->block_size_bytes();
  while (next_descriptor_ < descriptor_count_) {
    const uint8_t* descriptor = front_->buffer + 8 + 16 * next_descriptor_++;
    range_ = {.offset_bytes = LoadBe64(descriptor) * block,
              .length_bytes = LoadBe32(descriptor + 8) * block};
    record_->done_bytes = 0;
    unit_->statistics().unmapped_bytes += range_.length_bytes;
    if (range_.length_bytes > 0) return true;
  }
  return false;
}

void ScsiTask::ContinueUnmap() {
  for (unsigned steps = 0;; ++steps) {
    if (!FinishStep(plain_)) return;
    if (record_->done_bytes == range_.length_bytes && !NextUnmapRange()) {
      return Finish(Status::kGood);
    }
    if (!AcquirePlain()) return Wait();
    if (steps == kStepsPerTurn || !host_->MaySubmit()) return Yield();
    const uint64_t bytes =
        std::min(kMaxStepBytes, range_.length_bytes - record_->done_bytes);
    const bool zeroes = unit_->unmapped_reads_zero();
    Prepare(
        plain_,
        zeroes ? block::Operation::kWriteZeroes : block::Operation::kDiscard,
        range_.offset_bytes + record_->done_bytes, bytes, nullptr);
    plain_->request.may_unmap = zeroes;
    BeginStep(plain_, bytes);
  }
}

// ---- Comparisons
// ------------------------------------------------------------- One piece
// serves: data-out in its first half, the medium's in its second. So two such
// tasks never wait for a second buffer that the other one holds.

uint64_t ScsiTask::max_compare_and_write_bytes() const {
  return host_->pool().piece_bytes() / 4;
}

void ScsiTask::VerifyBytes(MediumRange range) {
  if (!CanResume(range.length_bytes)) return;
  unit_->statistics().verified_bytes += range.length_bytes;
  range_ = range;
  total_bytes_ = range.length_bytes;
  comparison_ = Comparison::kVerify;
  work_ = Work::kCompare;
  ContinueCompare();
}

void ScsiTask::WriteAndVerify(MediumRange range) {
  if (!CanResume(range.length_bytes)) return;
  ++unit_->statistics().writes;
  unit_->statistics().written_bytes += range.length_bytes;
  unit_->statistics().verified_bytes += range.length_bytes;
  range_ = range;
  total_bytes_ = range.length_bytes;
  comparison_ = Comparison::kWriteThenVerify;
  work_ = Work::kCompare;
  ContinueCompare();
}

void ScsiTask::CompareAndWrite(MediumRange range, bool force_unit_access) {
  if (!CanResume(2 * range.length_bytes)) return;
  range_ = range;
  total_bytes_ = 2 * range.length_bytes;
  force_unit_access_ = force_unit_access;
  comparison_ = Comparison::kThenWrite;
  work_ = Work::kCompare;
  ContinueCompare();
}

void ScsiTask::ContinueCompare() {
  while (FinishStep(front_)) {
    switch (stage_) {
      case Stage::kFill:
        if (front_used_ < front_size_ || front_size_ == 0)
          return FillComparison();
        if (!host_->MaySubmit()) return Yield();
        if (comparison_ == Comparison::kWriteThenVerify) {
          BeginComparisonStep(Stage::kWriteFirst, block::Operation::kWrite,
                              front_->buffer);
        } else {
          BeginComparisonStep(Stage::kReadBack, block::Operation::kRead,
                              SecondHalf());
        }
        break;
      case Stage::kWriteFirst:
        if (!host_->MaySubmit()) return Yield();
        BeginComparisonStep(Stage::kReadBack, block::Operation::kRead,
                            SecondHalf());
        break;
      case Stage::kReadBack:
        if (!SameAsMedium()) return;
        if (comparison_ == Comparison::kThenWrite) {
          if (!host_->MaySubmit()) return Yield();
          BeginComparisonStep(Stage::kWriteLast, block::Operation::kWrite,
                              front_->buffer + ComparedBytes());
          break;
        }
        [[fallthrough]];
      case Stage::kWriteLast:
        record_->done_bytes += front_size_;
        if (record_->done_bytes == total_bytes_) return Finish(Status::kGood);
        stage_ = Stage::kFill;
        front_size_ = front_used_ = 0;
        break;
    }
  }
}

void ScsiTask::FillComparison() {
  if (front_size_ == 0) {
    front_size_ = static_cast<size_t>(std::min<uint64_t>(
        host_->pool().piece_bytes() / 2, total_bytes_ - record_->moved_bytes));
  }
  state_ = State::kDataOut;
}

uint8_t* ScsiTask::SecondHalf() {
  return front_->buffer + host_->pool().piece_bytes() / 2;
}

// Of the data-out at hand: what the medium is compared with.
size_t ScsiTask::ComparedBytes() const {
  return comparison_ == Comparison::kThenWrite ? front_size_ / 2 : front_size_;
}

void ScsiTask::BeginComparisonStep(Stage stage, block::Operation kind,
                                   uint8_t* bytes) {
  stage_ = stage;
  Prepare(front_, kind, range_.offset_bytes + record_->done_bytes,
          ComparedBytes(), bytes);
  front_->request.force_unit_access =
      kind == block::Operation::kWrite && force_unit_access_;
  BeginStep(front_, 0);
}

// SBC-3 §5.2: INFORMATION is the offset of the first byte that differs, in the
// command's data-out.
bool ScsiTask::SameAsMedium() {
  const uint8_t* const given = front_->buffer;
  const auto [differs, unused] =
      std::mismatch(given, given + ComparedBytes(), SecondHalf());
  if (differs == given + ComparedBytes()) return true;
  ++unit_->statistics().verify_errors;
  Fail(MakeSense(SenseKey::kMiscompare, SenseCode::kMiscompareDuringVerify,
                 record_->done_bytes + static_cast<uint64_t>(differs - given)));
  return false;
}

}  // namespace bulkhead::scsi
