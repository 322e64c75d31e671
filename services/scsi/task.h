// ScsiTask carries one command from its CDB to its status: it gathers or gives
// the command's data piece by piece, and works at the backend in between.
//
// A command's function (commands.h) looks at the CDB once and sets the task on
// one of the ways below; Continue then moves it on whenever something has
// happened: the adapter moved bytes, the backend completed, a buffer is free.
//
// TRUST    The CDB and parameter data are the guest's; ranges given to the
//          medium functions have been checked against the capacity.
// ERRORS   A backend's failure becomes sense data.
// THREADS  The service's loop.
// SPEC     SAM-5 §8 (tasks), SBC-3 §4 and §5 (the medium).

#ifndef BULKHEAD_SERVICES_SCSI_TASK_H_
#define BULKHEAD_SERVICES_SCSI_TASK_H_

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "services/scsi/logical_unit.h"
#include "services/scsi/operation_pool.h"
#include "services/scsi/state.h"
#include "services/scsi/target.h"

namespace bulkhead::scsi {

struct CommandDescription;
class ScsiTask;

// What a task asks of its bus.
class TaskHost {
 public:
  virtual ~TaskHost() = default;

  virtual OperationPool& pool() = 0;
  // False while paused: the task yields.
  virtual bool MaySubmit() const = 0;
  virtual void Submit(Operation* operation) = 0;
  // An operation that is under way, and changes the medium, has lost its task.
  virtual void Orphaned(Operation* operation) = 0;
  // Run the command's function, having got the buffer that it needs.
  virtual void RunCommand(ScsiTask* task) = 0;
  // Calls Continue again: in the next Poll; after something was released.
  virtual void Yield(ScsiTask* task) = 0;
  virtual void WaitForRelease(ScsiTask* task) = 0;
  virtual void Finished(ScsiTask* task) = 0;
  virtual void Released(ScsiTask* task) = 0;
};

// The largest reply of a command that does not read the medium.
inline constexpr size_t kMaxReplyBytes = 8192;

struct MediumRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

class ScsiTask final : public Task {
 public:
  using UseParameters = void (*)(ScsiTask& task,
                                 absl::Span<const uint8_t> parameters);

  // Task.
  State state() const override { return state_; }
  const Command& command() const override { return record_->command; }
  absl::Span<uint8_t> buffer() override;
  void Advance(size_t bytes) override;
  void EndData() override;
  uint64_t remaining_bytes() const override;
  Status status() const override { return record_->status; }
  absl::Span<const uint8_t> sense() const override {
    return absl::MakeConstSpan(sense_bytes_).first(sense_size_);
  }
  void Release() override;

  // For the bus.
  void Init(TaskHost* host, TaskState* record);
  // Takes over the command in the record: dormant, running again, or finished.
  void Attach(LogicalUnit* unit);
  void Enable();    // dormant -> running
  void Continue();  // something has happened
  void Abort();     // drops everything; in-flight operations are orphaned
  // Ends it from outside: an overlapped command.
  void Terminate(Status status);
  void Terminate(const Sense& sense);
  TaskState& record() { return *record_; }
  const TaskState& record() const { return *record_; }
  // The row of the command table, found when the task starts; nullptr: there
  // is none. `opcode_known`: there is one with another service action.
  const CommandDescription* description() const { return description_; }
  bool opcode_known() const { return opcode_known_; }
  void Describe(const CommandDescription* description, bool opcode_known) {
    description_ = description;
    opcode_known_ = opcode_known;
  }
  bool exclusive() const { return exclusive_; }
  void set_exclusive(bool exclusive) { exclusive_ = exclusive; }
  // The record comes from a saved state: the command runs a second time.
  bool resumed() const { return resumed_; }
  void set_resumed(bool resumed) { resumed_ = resumed; }

  // For commands. Each of these is the last thing that a command's function
  // does.
  LogicalUnit& unit() { return *unit_; }
  const uint8_t* cdb() const { return record_->command.cdb.data(); }
  void Finish(Status status);
  void Fail(const Sense& sense);
  // kMaxReplyBytes of zeroes to compose a reply in.
  uint8_t* reply();
  void Reply(size_t size_bytes, uint64_t allocation_length);
  // Gathers `size_bytes` (> 0, at most a piece), then calls `use`.
  void Receive(size_t size_bytes, UseParameters use);
  void Read(MediumRange range);
  void Write(MediumRange range, bool force_unit_access);
  void Verify(MediumRange range);       // reads, gives nothing
  void VerifyBytes(MediumRange range);  // compares with data-out
  void WriteAndVerify(MediumRange range);
  // Data-out is what must be there and what shall be there. The range is at
  // most max_compare_and_write_bytes().
  void CompareAndWrite(MediumRange range, bool force_unit_access);
  uint64_t max_compare_and_write_bytes() const;
  void Flush();
  void WriteZeroes(MediumRange range, bool may_unmap);
  // From Receive's `use` only: repeats the one block that was received.
  void WritePattern(MediumRange range);
  // From Receive's `use` only: the block descriptors that begin at byte 8 of
  // the parameters, which have been checked.
  void Unmap(size_t descriptor_count);

  // Links of the task set and of the bus's queues.
  ScsiTask* set_next = nullptr;
  ScsiTask* set_previous = nullptr;
  ScsiTask* queue_next = nullptr;
  bool queued = false;

 private:
  enum class Work : uint8_t {
    kNone,
    kStart,  // wants a buffer, then its command's function
    kReply,
    kReceive,
    kRead,
    kWrite,
    kVerify,
    kCompare,
    kFlush,
    kWriteZeroes,
    kWritePattern,
    kUnmap,
  };
  enum class Comparison : uint8_t { kVerify, kWriteThenVerify, kThenWrite };
  enum class Stage : uint8_t { kFill, kWriteFirst, kReadBack, kWriteLast };

  void Busy() { state_ = State::kBusy; }
  void Yield();
  void Wait();
  // Nothing of the command was done yet, or what was done (a saved state may
  // say anything) can be gone on from; otherwise ends it with ABORTED COMMAND.
  bool CanResume(uint64_t total_bytes) {
    return FailUnless(!resumed_ ||
                      (record_->moved_bytes == record_->done_bytes &&
                       record_->done_bytes <= total_bytes &&
                       record_->done_bytes % unit_->block_size_bytes() == 0));
  }
  // False, and the command is aborted, when bytes of it are lost.
  bool FailUnless(bool whole);
  bool Acquire(Operation** piece);
  void Drop(Operation** operation);
  void DropAll();
  // Fills in a request for `length` bytes of the medium.
  void Prepare(Operation* operation, block::Operation kind, uint64_t offset,
               uint64_t length, uint8_t* bytes);
  void Submit(Operation* operation) { host_->Submit(operation); }
  void FailIo(const block::Request& request);
  void SetOutcome(Status status);

  void ContinueReply();
  void ContinueReceive();
  void ContinueRead();
  bool SubmitRead(Operation** piece);
  void ContinueWrite();
  void ContinueVerify();
  void ContinueCompare();
  void FillComparison();
  void BeginComparisonStep(Stage stage, block::Operation kind, uint8_t* bytes);
  bool SameAsMedium();
  size_t ComparedBytes() const;
  uint8_t* SecondHalf();
  void ContinueFlush();
  void ContinueWriteZeroes();
  void ContinueWritePattern();
  void ContinueUnmap();
  bool NextUnmapRange();
  // Looks at the step under way, if any. False: return from Continue.
  bool FinishStep(const Operation* operation);
  // Submits the next step of a long operation.
  void BeginStep(Operation* operation, uint64_t bytes);
  bool AcquirePlain();

  TaskHost* host_ = nullptr;
  TaskState* record_ = nullptr;
  LogicalUnit* unit_ = nullptr;
  const CommandDescription* description_ = nullptr;
  bool opcode_known_ = false;
  State state_ = State::kBusy;
  Work work_ = Work::kNone;
  Comparison comparison_ = Comparison::kVerify;
  Stage stage_ = Stage::kFill;
  bool exclusive_ = false;
  bool resumed_ = false;
  bool force_unit_access_ = false;
  bool may_unmap_ = false;
  bool step_under_way_ = false;

  Operation* front_ = nullptr;  // the piece that the adapter sees, or soon will
  Operation* back_ = nullptr;   // read ahead, or being written
  Operation* plain_ = nullptr;  // an operation without data
  size_t front_size_ = 0;       // of the front piece's data
  size_t front_used_ = 0;       // of it, what the adapter has moved
  size_t back_size_ = 0;

  MediumRange range_;
  uint64_t total_bytes_ = 0;   // of data between initiator and task
  uint64_t issued_bytes_ = 0;  // of it, what reads have been submitted for
  uint64_t step_bytes_ = 0;
  size_t descriptor_count_ = 0;
  size_t next_descriptor_ = 0;
  UseParameters use_ = nullptr;

  size_t sense_size_ = 0;
  std::array<uint8_t, kMaxSenseBytes> sense_bytes_ = {};
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_TASK_H_
