#include "services/scsi/task_set.h"

namespace bulkhead::scsi {

void TaskSet::Add(ScsiTask* task) {
  task->set_previous = last_;
  task->set_next = nullptr;
  (last_ != nullptr ? last_->set_next : first_) = task;
  last_ = task;
}

void TaskSet::Remove(ScsiTask* task) {
  ScsiTask* const next = task->set_next;
  ScsiTask* const previous = task->set_previous;
  (previous != nullptr ? previous->set_next : first_) = next;
  (next != nullptr ? next->set_previous : last_) = previous;
  task->set_next = task->set_previous = nullptr;
}

ScsiTask* TaskSet::Find(unsigned lun, uint32_t tag) const {
  for (ScsiTask* task = first_; task != nullptr; task = task->set_next) {
    if (task->command().lun == lun && task->command().tag == tag) return task;
  }
  return nullptr;
}

void TaskSet::EnableReady() {
  // Enabling may finish tasks, which comes back here: not deeper, but again.
  again_ = true;
  if (enabling_) return;
  enabling_ = true;
  while (again_) {
    again_ = false;
    while (ScsiTask* task = NextReady()) task->Enable();
  }
  enabling_ = false;
}

// SAM-5 §8.8: a SIMPLE task waits for older ORDERED ones, an ORDERED one for
// all older ones, both for HEAD OF QUEUE; an exclusive one for all.
ScsiTask* TaskSet::NextReady() const {
  if (holds_ > 0) return nullptr;
  bool head_of_queue = false;
  bool running = false;
  bool exclusive = false;
  bool dormant = false;
  for (ScsiTask* task = first_; task != nullptr; task = task->set_next) {
    const TaskPhase phase = task->record().phase;
    dormant |= phase == TaskPhase::kDormant;
    const bool urgent =
        task->command().attribute == TaskAttribute::kHeadOfQueue;
    head_of_queue |= urgent && phase != TaskPhase::kFinished;
    if (phase != TaskPhase::kRunning) continue;
    running = true;
    exclusive |= task->exclusive();
  }
  if (!dormant || exclusive) return nullptr;

  bool older = false;
  bool older_ordered = false;
  for (ScsiTask* task = first_; task != nullptr; task = task->set_next) {
    const TaskPhase phase = task->record().phase;
    if (phase == TaskPhase::kFinished) continue;
    const TaskAttribute attribute = task->command().attribute;
    const bool ordered =
        attribute == TaskAttribute::kOrdered || task->exclusive();
    if (phase == TaskPhase::kDormant) {
      if (task->exclusive() && running) {
        // waits for everything, a HEAD OF QUEUE one too
      } else if (attribute == TaskAttribute::kHeadOfQueue) {
        return task;
      } else if (!head_of_queue && !older_ordered && !(ordered && older)) {
        return task;
      }
    }
    older = true;
    older_ordered |= ordered;
  }
  return nullptr;
}

}  // namespace bulkhead::scsi
