#include "services/scsi/bus.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/frame.pb.h"
#include "services/scsi/commands.h"
#include "services/scsi/operation_pool.h"
#include "services/scsi/task.h"
#include "services/scsi/task_set.h"

namespace bulkhead::scsi {
namespace {

// A first-in first-out queue of tasks, linked through them.
class TaskQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  size_t size() const { return size_; }

  void Push(ScsiTask* task) {
    task->queue_next = nullptr;
    task->queued = true;
    (last_ != nullptr ? last_->queue_next : first_) = task;
    last_ = task;
    ++size_;
  }

  ScsiTask* Pop() {
    ScsiTask* task = first_;
    first_ = task->queue_next;
    if (first_ == nullptr) last_ = nullptr;
    task->queued = false;
    --size_;
    return task;
  }

  void Remove(ScsiTask* task) {
    for (size_t n = size_; n > 0; --n) {
      ScsiTask* other = Pop();
      if (other != task) Push(other);
    }
  }

 private:
  ScsiTask* first_ = nullptr;
  ScsiTask* last_ = nullptr;
  size_t size_ = 0;
};

// A logical unit, or the absence of one, and its tasks.
struct Slot {
  Slot(const UnitConfig& config, const BusOptions& options, UnitState* state)
      : unit(config, options, state) {}
  LogicalUnit unit;
  TaskSet tasks;
};

class BusImpl final : public Bus, private TaskHost {
 public:
  BusImpl(absl::Span<const UnitConfig> units, const BusOptions& options);

  bool HasTarget(unsigned target) const override {
    return target < kMaxTargets && slots_[SlotIndex(target, 0)] != nullptr;
  }
  Task* Start(const Command& command) override;
  bool Poll() override;
  bool HasWork() const override;
  Task* Find(unsigned target, unsigned lun, uint32_t tag) override;

  void AbortTask(unsigned target, unsigned lun, uint32_t tag) override;
  void AbortTaskSet(unsigned target, unsigned lun) override;
  void ClearTaskSet(unsigned target, unsigned lun) override {
    AbortTaskSet(target, lun);  // there is one initiator
  }
  void LogicalUnitReset(unsigned target, unsigned lun) override;
  void TargetReset(unsigned target) override;
  void BusReset() override;

  bool idle() const override {
    return in_flight_ == 0 && completed_ == nullptr &&
           (paused_ || (yielded_.empty() && waiting_.empty()));
  }
  std::string Outstanding() const override;
  void SetPaused(bool paused) override {
    paused_ = paused;
    if (!paused) pool_.MarkReleased();  // some wait for this alone
  }

  const BusState& state() const override { return *state_; }
  bool LoadState(const BusState& state) override;
  void ReportStatistics(Statistics* statistics) const override;

 private:
  // One more than the LUNs: for any number beyond them.
  static constexpr size_t kSlotsPerTarget = kMaxLuns + 1;
  static size_t SlotIndex(unsigned target, unsigned lun) {
    return target * kSlotsPerTarget + std::min(lun, kMaxLuns);
  }

  Slot* SlotOf(unsigned target, unsigned lun) const {
    return target < kMaxTargets ? slots_[SlotIndex(target, lun)].get()
                                : nullptr;
  }
  Slot* SlotOf(const ScsiTask& task) const {
    return SlotOf(task.command().target, task.command().lun);
  }

  // TaskHost.
  OperationPool& pool() override { return pool_; }
  bool MaySubmit() const override { return !paused_; }
  void Submit(Operation* operation) override;
  void RunCommand(ScsiTask* task) override { scsi::RunCommand(*task); }
  void Yield(ScsiTask* task) override { yielded_.Push(task); }
  void WaitForRelease(ScsiTask* task) override { waiting_.Push(task); }
  void Orphaned(Operation* operation) override;
  void Finished(ScsiTask* task) override;
  void Released(ScsiTask* task) override;

  static void Done(block::Request* request);
  void Complete(Operation* operation);
  void Attach(ScsiTask* task, Slot* slot);
  void Refuse(ScsiTask* task, Slot* slot);
  void Unqueue(ScsiTask* task);
  void Remove(ScsiTask* task, Slot* slot);
  template <typename Which>
  void AbortTasks(Slot* slot, Which which);
  void ResetUnit(Slot* slot, UnitAttention why);
  void RunQueue(TaskQueue* queue);
  bool FitsUnits(const BusState& state) const;

  const BusOptions options_;
  OperationPool pool_;
  std::unique_ptr<BusState> state_;
  UnitState nowhere_;  // of LUNs beyond those that a state has room for
  std::array<std::unique_ptr<Slot>, kMaxTargets * kSlotsPerTarget> slots_;
  std::vector<ScsiTask> tasks_;
  std::vector<ScsiTask*> free_tasks_;
  std::vector<block::Backend*> backends_;

  TaskQueue yielded_;  // go on in the next Poll
  TaskQueue waiting_;  // for a buffer or an operation
  Operation* submitting_ = nullptr;
  Operation* completed_ = nullptr;
  Operation* last_completed_ = nullptr;
  size_t in_flight_ = 0;
  bool paused_ = false;
};

BusImpl::BusImpl(absl::Span<const UnitConfig> units, const BusOptions& options)
    : options_(options),
      pool_(options.piece_bytes, options.piece_count),
      state_(std::make_unique<BusState>()),
      tasks_(kMaxTasks) {
  for (const UnitConfig& unit : units) {
    slots_[SlotIndex(unit.target, unit.lun)] = std::make_unique<Slot>(
        unit, options_, &state_->units[unit.target * kMaxLuns + unit.lun]);
    if (unit.backend != nullptr &&
        std::count(backends_.begin(), backends_.end(), unit.backend) == 0) {
      backends_.push_back(unit.backend);
    }
  }
  for (unsigned target = 0; target < kMaxTargets; ++target) {
    uint8_t present = 0;
    for (unsigned lun = 0; lun < kMaxLuns; ++lun) {
      if (SlotOf(target, lun) != nullptr) present |= uint8_t(1u << lun);
    }
    if (present == 0) continue;
    for (unsigned lun = 0; lun <= kMaxLuns; ++lun) {
      std::unique_ptr<Slot>& slot = slots_[SlotIndex(target, lun)];
      if (slot == nullptr) {
        UnitConfig absent = {
            .target = target, .lun = lun, .kind = UnitKind::kAbsent};
        UnitState* state = lun < kMaxLuns
                               ? &state_->units[target * kMaxLuns + lun]
                               : &nowhere_;
        slot = std::make_unique<Slot>(absent, options_, state);
      }
      slot->unit.set_present_luns(present);
    }
  }
  free_tasks_.reserve(kMaxTasks);
  for (size_t i = kMaxTasks; i-- > 0;) {
    tasks_[i].Init(this, &state_->tasks[i]);
    free_tasks_.push_back(&tasks_[i]);
  }
}

// ---- Tasks
// -------------------------------------------------------------------

Task* BusImpl::Start(const Command& command) {
  Slot* slot = SlotOf(command.target, command.lun);
  if (slot == nullptr || free_tasks_.empty()) return nullptr;
  ScsiTask* const same_tag = slot->tasks.Find(command.lun, command.tag);
  ScsiTask* const task = free_tasks_.back();
  free_tasks_.pop_back();

  TaskState& record = task->record();
  record = {.command = command, .arrival = state_->next_arrival++};
  const size_t cdb_size = std::min<size_t>(command.cdb_size, kMaxCdbBytes);
  record.command.cdb_size = static_cast<uint8_t>(cdb_size);
  std::fill(record.command.cdb.begin() + cdb_size, record.command.cdb.end(),
            uint8_t{0});
  record.phase = TaskPhase::kDormant;
  Attach(task, slot);

  const bool asks_for_sense =
      record.command.cdb[0] == static_cast<uint8_t>(Opcode::kRequestSense);
  if (!asks_for_sense) slot->unit.ForgetSense();
  if (same_tag != nullptr && same_tag->record().phase != TaskPhase::kFinished) {
    Refuse(task, slot);
  }
  slot->tasks.EnableReady();
  return task;
}

void BusImpl::Attach(ScsiTask* task, Slot* slot) {
  task->Attach(&slot->unit);
  slot->tasks.Add(task);
  const Command& command = task->command();
  bool opcode_known = false;
  const CommandDescription* description = FindCommand(
      slot->unit, command.cdb[0], command.cdb[1] & 0x1f, &opcode_known);
  task->Describe(description, opcode_known);
  task->set_exclusive(description != nullptr &&
                      (description->flags & kRunsAlone) != 0);
}

// SAM-5 §5.10: overlapped commands end all commands of the nexus.
void BusImpl::Refuse(ScsiTask* task, Slot* slot) {
  slot->tasks.AddHold();
  for (ScsiTask* other = slot->tasks.first(); other != nullptr;
       other = other->set_next) {
    if (other == task || other->command().lun != task->command().lun ||
        other->record().phase == TaskPhase::kFinished) {
      continue;
    }
    ++slot->unit.statistics().aborted_tasks;
    other->Terminate(Status::kTaskAborted);
  }
  task->Terminate(MakeSense(SenseKey::kAbortedCommand,
                            SenseCode::kOverlappedCommandsAttempted));
  slot->tasks.RemoveHold();
}

Task* BusImpl::Find(unsigned target, unsigned lun, uint32_t tag) {
  Slot* slot = SlotOf(target, lun);
  return slot != nullptr ? slot->tasks.Find(lun, tag) : nullptr;
}

void BusImpl::Finished(ScsiTask* task) {
  Unqueue(task);
  SlotOf(*task)->tasks.EnableReady();
}

void BusImpl::Released(ScsiTask* task) {
  if (task->record().phase == TaskPhase::kFree) return;
  Slot* slot = SlotOf(*task);
  Remove(task, slot);
  slot->tasks.EnableReady();
}

void BusImpl::Remove(ScsiTask* task, Slot* slot) {
  task->Abort();
  Unqueue(task);
  slot->tasks.Remove(task);
  task->record().phase = TaskPhase::kFree;
  free_tasks_.push_back(task);
}

void BusImpl::Unqueue(ScsiTask* task) {
  if (!task->queued) return;
  yielded_.Remove(task);
  waiting_.Remove(task);
}

// ---- Task management (SAM-5 §7)
// ----------------------------------------------

template <typename Which>
void BusImpl::AbortTasks(Slot* slot, Which which) {
  if (slot == nullptr) return;
  slot->tasks.AddHold();
  ScsiTask* next = nullptr;
  for (ScsiTask* task = slot->tasks.first(); task != nullptr; task = next) {
    next = task->set_next;
    if (!which(*task)) continue;
    ++slot->unit.statistics().aborted_tasks;
    Remove(task, slot);
  }
  slot->tasks.RemoveHold();
  slot->tasks.EnableReady();
}

void BusImpl::AbortTask(unsigned target, unsigned lun, uint32_t tag) {
  AbortTasks(SlotOf(target, lun), [lun, tag](const ScsiTask& task) {
    return task.command().lun == lun && task.command().tag == tag;
  });
}

void BusImpl::AbortTaskSet(unsigned target, unsigned lun) {
  // LUNs that do not exist share a slot.
  AbortTasks(SlotOf(target, lun),
             [lun](const ScsiTask& task) { return task.command().lun == lun; });
}

void BusImpl::ResetUnit(Slot* slot, UnitAttention why) {
  if (slot == nullptr) return;
  AbortTasks(slot, [](const ScsiTask&) { return true; });
  slot->unit.Reset(why);
}

void BusImpl::LogicalUnitReset(unsigned target, unsigned lun) {
  Slot* slot = SlotOf(target, lun);
  if (slot == nullptr) return;
  AbortTaskSet(target, lun);
  slot->unit.Reset(UnitAttention::kDeviceReset);
}

void BusImpl::TargetReset(unsigned target) {
  for (unsigned lun = 0; lun <= kMaxLuns; ++lun) {
    ResetUnit(SlotOf(target, lun), UnitAttention::kDeviceReset);
  }
}

void BusImpl::BusReset() {
  for (const auto& slot : slots_) {
    ResetUnit(slot.get(), UnitAttention::kBusReset);
  }
}

// ---- Operations
// --------------------------------------------------------------

void BusImpl::Submit(Operation* operation) {
  operation->host = this;
  operation->in_flight = true;
  operation->request.done = &BusImpl::Done;
  operation->request.owner = operation;
  ++in_flight_;
  submitting_ = operation;
  operation->unit->backend()->Submit(&operation->request);
  submitting_ = nullptr;
}

// From Submit or from a backend's Poll. A task is not gone on with from here:
// the one that submits sees that its operation is no longer in flight, the
// others wait for Poll. So nothing recurses.
void BusImpl::Done(block::Request* request) {
  auto* operation = static_cast<Operation*>(request->owner);
  auto* bus = static_cast<BusImpl*>(operation->host);
  operation->in_flight = false;
  --bus->in_flight_;
  if (operation == bus->submitting_) return;
  operation->next = nullptr;
  (bus->completed_ != nullptr ? bus->last_completed_->next : bus->completed_) =
      operation;
  bus->last_completed_ = operation;
}

void BusImpl::Orphaned(Operation* operation) {
  operation->orphaned_write = true;
  SlotOf(operation->unit->config().target, operation->unit->config().lun)
      ->tasks.AddHold();
}

void BusImpl::Complete(Operation* operation) {
  if (operation->task != nullptr) return operation->task->Continue();
  Slot* slot = nullptr;
  if (operation->orphaned_write) {
    slot =
        SlotOf(operation->unit->config().target, operation->unit->config().lun);
  }
  pool_.Release(operation);
  if (slot == nullptr) return;
  slot->tasks.RemoveHold();
  slot->tasks.EnableReady();
}

bool BusImpl::Poll() {
  for (block::Backend* backend : backends_) backend->Poll();
  bool changed = false;
  while (completed_ != nullptr) {
    Operation* operation = completed_;
    completed_ = operation->next;
    operation->next = nullptr;
    Complete(operation);
    changed = true;
  }
  if (paused_) return changed;
  if (!yielded_.empty()) {
    RunQueue(&yielded_);
    changed = true;
  }
  if (!waiting_.empty() && pool_.TakeReleased()) {
    RunQueue(&waiting_);
    changed = true;
  }
  return changed;
}

std::string BusImpl::Outstanding() const {
  std::string text;
  for (const auto& slot : slots_) {
    if (slot == nullptr) continue;
    const auto count = std::count_if(
        pool_.operations().begin(), pool_.operations().end(),
        [&slot](const Operation& operation) {
          return operation.in_flight && operation.unit == &slot->unit;
        });
    if (count == 0) continue;
    const UnitConfig& config = slot->unit.config();
    absl::StrAppend(&text, text.empty() ? "" : ", ", count, " of target ",
                    config.target, " lun ", config.lun);
  }
  return text;
}

// Each task that is in the queue now, once.
void BusImpl::RunQueue(TaskQueue* queue) {
  for (size_t n = queue->size(); n > 0 && !queue->empty(); --n) {
    queue->Pop()->Continue();
  }
}

bool BusImpl::HasWork() const {
  if (completed_ != nullptr) return true;
  if (paused_) return false;
  return !yielded_.empty() || (!waiting_.empty() && pool_.released());
}

// ---- State
// -------------------------------------------------------------------

bool BusImpl::FitsUnits(const BusState& state) const {
  for (size_t i = 0; i < state.units.size(); ++i) {
    const Slot* slot = SlotOf(static_cast<unsigned>(i / kMaxLuns),
                              static_cast<unsigned>(i % kMaxLuns));
    const UnitState fresh;
    const UnitState& ours = slot != nullptr ? slot->unit.state() : fresh;
    const UnitState& theirs = state.units[i];
    if (theirs.kind != ours.kind ||
        theirs.block_size_bytes != ours.block_size_bytes ||
        theirs.block_count != ours.block_count) {
      return false;
    }
  }
  return std::all_of(
      state.tasks.begin(), state.tasks.end(), [this](const TaskState& task) {
        return task.phase == TaskPhase::kFree || HasTarget(task.command.target);
      });
}

bool BusImpl::LoadState(const BusState& state) {
  if (free_tasks_.size() != kMaxTasks || in_flight_ != 0) return false;
  if (!ValidState(state) || !FitsUnits(state)) return false;
  *state_ = state;

  std::array<ScsiTask*, kMaxTasks> found;
  size_t count = 0;
  free_tasks_.clear();
  for (ScsiTask& task : tasks_) {
    if (task.record().phase == TaskPhase::kFree) {
      free_tasks_.push_back(&task);
    } else {
      found[count++] = &task;
    }
  }
  const auto loaded = absl::MakeSpan(found).first(count);
  std::sort(loaded.begin(), loaded.end(),
            [](const ScsiTask* a, const ScsiTask* b) {
              return a->record().arrival < b->record().arrival;
            });
  for (const auto& slot : slots_) {
    if (slot != nullptr) slot->unit.ApplyMode();
  }
  for (ScsiTask* task : loaded) {
    Command& command = task->record().command;
    std::fill(command.cdb.begin() + command.cdb_size, command.cdb.end(),
              uint8_t{0});
    Attach(task, SlotOf(*task));
    task->set_resumed(task->record().phase == TaskPhase::kRunning);
  }
  // Those that ran go on first, whatever came in between.
  for (ScsiTask* task : loaded) {
    if (task->resumed()) task->Enable();
  }
  for (const auto& slot : slots_) {
    if (slot != nullptr) slot->tasks.EnableReady();
  }
  return true;
}

// ---- Statistics
// --------------------------------------------------------------

struct Counter {
  const char* name;
  uint64_t UnitStatistics::*value;
};

constexpr Counter kCounters[] = {
    {"scsi_commands", &UnitStatistics::commands},
    {"scsi_reads", &UnitStatistics::reads},
    {"scsi_read_bytes", &UnitStatistics::read_bytes},
    {"scsi_writes", &UnitStatistics::writes},
    {"scsi_written_bytes", &UnitStatistics::written_bytes},
    {"scsi_verified_bytes", &UnitStatistics::verified_bytes},
    {"scsi_unmapped_bytes", &UnitStatistics::unmapped_bytes},
    {"scsi_flushes", &UnitStatistics::flushes},
    {"scsi_check_conditions", &UnitStatistics::check_conditions},
    {"scsi_read_errors", &UnitStatistics::read_errors},
    {"scsi_write_errors", &UnitStatistics::write_errors},
    {"scsi_verify_errors", &UnitStatistics::verify_errors},
    {"scsi_aborted_tasks", &UnitStatistics::aborted_tasks},
};

void BusImpl::ReportStatistics(Statistics* statistics) const {
  for (const Counter& counter : kCounters) {
    Statistic* out = statistics->add_counters();
    out->set_name(counter.name);
    uint64_t sum = 0;
    for (const auto& slot : slots_) {
      if (slot != nullptr) sum += slot->unit.statistics().*counter.value;
    }
    out->set_value(sum);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bus>> MakeBus(absl::Span<const UnitConfig> units,
                                             const BusOptions& options) {
  std::vector<UnitConfig> checked(units.begin(), units.end());
  for (UnitConfig& unit : checked) {
    absl::Status status = CheckUnit(&unit);
    if (!status.ok()) return status;
  }
  for (size_t i = 0; i < checked.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (checked[i].target == checked[j].target &&
          checked[i].lun == checked[j].lun) {
        return absl::InvalidArgumentError(
            absl::StrCat("target ", checked[i].target, " lun ", checked[i].lun,
                         ": two units have these numbers"));
      }
    }
  }
  constexpr size_t kUnit = 32 * 1024;
  if (options.piece_bytes < kUnit || options.piece_bytes % kUnit != 0 ||
      options.piece_bytes > (size_t{4} << 20) || options.piece_count < 2 ||
      options.piece_count > block::kMaxInFlight / 2) {
    return absl::InvalidArgumentError(
        "buffers: pieces are 32 KiB to 4 MiB in steps of 32 KiB, and 2 to 128");
  }
  return std::unique_ptr<Bus>(std::make_unique<BusImpl>(checked, options));
}

}  // namespace bulkhead::scsi
