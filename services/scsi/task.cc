#include "services/scsi/task.h"

#include <algorithm>
#include <cstring>

namespace bulkhead::scsi {

void ScsiTask::Init(TaskHost* host, TaskState* record) {
  host_ = host;
  record_ = record;
}

void ScsiTask::Attach(LogicalUnit* unit) {
  unit_ = unit;
  state_ = State::kBusy;
  work_ = Work::kStart;
  stage_ = Stage::kFill;
  exclusive_ = false;
  resumed_ = false;
  force_unit_access_ = may_unmap_ = step_under_way_ = false;
  front_ = back_ = plain_ = nullptr;
  front_size_ = front_used_ = back_size_ = 0;
  range_ = {};
  total_bytes_ = issued_bytes_ = step_bytes_ = 0;
  descriptor_count_ = next_descriptor_ = 0;
  use_ = nullptr;
  sense_size_ = 0;
  set_next = set_previous = nullptr;
  if (record_->phase == TaskPhase::kFinished) SetOutcome(record_->status);
}

void ScsiTask::Enable() {
  record_->phase = TaskPhase::kRunning;
  Continue();
}

void ScsiTask::Continue() {
  switch (work_) {
    case Work::kNone:
      return;
    case Work::kStart:
      if (!Acquire(&front_)) return Wait();
      return host_->RunCommand(this);
    case Work::kReply:
      return ContinueReply();
    case Work::kReceive:
      return ContinueReceive();
    case Work::kRead:
      return ContinueRead();
    case Work::kWrite:
      return ContinueWrite();
    case Work::kVerify:
      return ContinueVerify();
    case Work::kCompare:
      return ContinueCompare();
    case Work::kFlush:
      return ContinueFlush();
    case Work::kWriteZeroes:
      return ContinueWriteZeroes();
    case Work::kWritePattern:
      return ContinueWritePattern();
    case Work::kUnmap:
      return ContinueUnmap();
  }
}

absl::Span<uint8_t> ScsiTask::buffer() {
  if (state_ != State::kDataIn && state_ != State::kDataOut) return {};
  return {front_->buffer + front_used_, front_size_ - front_used_};
}

void ScsiTask::Advance(size_t bytes) {
  const size_t moved = std::min(bytes, buffer().size());
  if (moved == 0) return;
  front_used_ += moved;
  record_->moved_bytes += moved;
  if (front_used_ == front_size_) Continue();
}

void ScsiTask::EndData() {
  if (state_ == State::kDataIn) return Finish(Status::kGood);
  if (state_ != State::kDataOut) return;
  // Half of a command's data is no command (SAM-5 §5.4.3): what was written of
  // it stays, and the initiator is told.
  Fail(MakeSense(SenseKey::kAbortedCommand, SenseCode::kDataPhaseError));
}

uint64_t ScsiTask::remaining_bytes() const {
  if (state_ == State::kStatus) return 0;
  return total_bytes_ - std::min(total_bytes_, record_->moved_bytes);
}

void ScsiTask::Release() { host_->Released(this); }

void ScsiTask::Abort() {
  for (Operation* operation : {front_, back_, plain_}) {
    if (operation == nullptr || !operation->in_flight) continue;
    if (operation->request.operation != block::Operation::kRead &&
        operation->request.operation != block::Operation::kFlush) {
      host_->Orphaned(operation);
    }
  }
  DropAll();
  work_ = Work::kNone;
  state_ = State::kBusy;
}

void ScsiTask::Terminate(Status status) {
  Abort();
  Finish(status);
}

void ScsiTask::Terminate(const Sense& sense) {
  Abort();
  Fail(sense);
}

void ScsiTask::Finish(Status status) {
  DropAll();
  record_->phase = TaskPhase::kFinished;
  SetOutcome(status);
  host_->Finished(this);
}

void ScsiTask::Fail(const Sense& sense) {
  record_->sense = sense;
  ++unit_->statistics().check_conditions;
  if (!unit_->options().autosense) unit_->KeepSense(sense);
  Finish(Status::kCheckCondition);
}

void ScsiTask::SetOutcome(Status status) {
  record_->status = status;
  work_ = Work::kNone;
  state_ = State::kStatus;
  sense_size_ = 0;
  if (status == Status::kCheckCondition) {
    sense_size_ =
        EncodeSense(record_->sense, unit_->state().mode.descriptor_sense,
                    absl::MakeSpan(sense_bytes_));
  }
}

uint8_t* ScsiTask::reply() {
  std::memset(front_->buffer, 0, kMaxReplyBytes);
  return front_->buffer;
}

void ScsiTask::Reply(size_t size_bytes, uint64_t allocation_length) {
  front_size_ = static_cast<size_t>(std::min<uint64_t>(
      std::min(size_bytes, kMaxReplyBytes), allocation_length));
  total_bytes_ = front_size_;
  front_used_ = static_cast<size_t>(
      std::min<uint64_t>(record_->moved_bytes, front_size_));
  work_ = Work::kReply;
  ContinueReply();
}

void ScsiTask::ContinueReply() {
  if (front_used_ == front_size_) return Finish(Status::kGood);
  state_ = State::kDataIn;
}

void ScsiTask::Receive(size_t size_bytes, UseParameters use) {
  if (!FailUnless(!resumed_ || record_->moved_bytes == 0)) return;
  front_size_ = std::min(size_bytes, host_->pool().piece_bytes());
  total_bytes_ = front_size_;
  use_ = use;
  work_ = Work::kReceive;
  ContinueReceive();
}

void ScsiTask::ContinueReceive() {
  if (front_used_ < front_size_) {
    state_ = State::kDataOut;
    return;
  }
  Busy();
  use_(*this, absl::MakeConstSpan(front_->buffer, front_size_));
}

void ScsiTask::Yield() {
  Busy();
  host_->Yield(this);
}

void ScsiTask::Wait() {
  Busy();
  host_->WaitForRelease(this);
}

bool ScsiTask::FailUnless(bool whole) {
  if (whole) return true;
  Fail(MakeSense(SenseKey::kAbortedCommand, SenseCode::kNoAdditionalSense));
  return false;
}

bool ScsiTask::Acquire(Operation** piece) {
  if (*piece != nullptr) return true;
  if (!host_->MaySubmit()) return false;
  *piece = host_->pool().AcquirePiece();
  return *piece != nullptr;
}

bool ScsiTask::AcquirePlain() {
  if (plain_ != nullptr) return true;
  if (!host_->MaySubmit()) return false;
  plain_ = host_->pool().AcquirePlain();
  return plain_ != nullptr;
}

void ScsiTask::Drop(Operation** operation) {
  if (*operation == nullptr) return;
  if ((*operation)->in_flight) {
    (*operation)->task = nullptr;  // released when it completes
  } else {
    host_->pool().Release(*operation);
  }
  *operation = nullptr;
}

void ScsiTask::DropAll() {
  Drop(&front_);
  Drop(&back_);
  Drop(&plain_);
}

void ScsiTask::Prepare(Operation* operation, block::Operation kind,
                       uint64_t offset, uint64_t length, uint8_t* bytes) {
  operation->task = this;
  operation->unit = unit_;
  operation->segment = {.iov_base = bytes,
                        .iov_len = static_cast<size_t>(length)};
  block::Request& request = operation->request;
  request.operation = kind;
  request.force_unit_access = false;
  request.may_unmap = false;
  request.status = block::IoStatus::kOk;
  request.offset_bytes = offset;
  request.length_bytes = length;
  request.segments = bytes != nullptr ? &operation->segment : nullptr;
  request.segment_count = bytes != nullptr ? 1 : 0;
}

void ScsiTask::FailIo(const block::Request& request) {
  const bool read = request.operation == block::Operation::kRead;
  UnitStatistics& statistics = unit_->statistics();
  if (work_ == Work::kVerify || work_ == Work::kCompare) {
    ++statistics.verify_errors;
  } else {
    ++(read ? statistics.read_errors : statistics.write_errors);
  }
  const uint64_t lba = request.offset_bytes / unit_->block_size_bytes();
  switch (request.status) {
    case block::IoStatus::kReadOnly:
      return Fail(
          MakeSense(SenseKey::kDataProtect, SenseCode::kWriteProtected));
    case block::IoStatus::kNoSpace:
      return Fail(MakeSense(SenseKey::kDataProtect,
                            SenseCode::kSpaceAllocationFailed, lba));
    case block::IoStatus::kOk:
    case block::IoStatus::kInvalid:
    case block::IoStatus::kUnavailable:
      return Fail(MakeSense(SenseKey::kHardwareError,
                            SenseCode::kInternalTargetFailure));
    case block::IoStatus::kCorrupt:
    case block::IoStatus::kIoError:
      break;
  }
  if (request.operation == block::Operation::kFlush) {
    // Which blocks were lost is not known.
    return Fail(MakeSense(SenseKey::kMediumError, SenseCode::kWriteError));
  }
  Fail(MakeSense(
      SenseKey::kMediumError,
      read ? SenseCode::kUnrecoveredReadError : SenseCode::kWriteError, lba));
}

}  // namespace bulkhead::scsi
