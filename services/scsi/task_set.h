// TaskSet orders the commands of one logical unit: which may run, which wait
// for others.
//
// TRUST    Tags and attributes are the guest's.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     SAM-5 §8.5 to §8.8 (task attributes and states).

#ifndef BULKHEAD_SERVICES_SCSI_TASK_SET_H_
#define BULKHEAD_SERVICES_SCSI_TASK_SET_H_

#include <cstdint>

#include "services/scsi/task.h"

namespace bulkhead::scsi {

class TaskSet {
 public:
  // At the end; it stays dormant until EnableReady.
  void Add(ScsiTask* task);
  void Remove(ScsiTask* task);

  // Enables whatever may run now, oldest first. Enabled tasks may finish at
  // once, and call this again.
  void EnableReady();

  // The task with this tag that is not released, finished ones included. The
  // set of the LUNs that do not exist has tasks of several.
  ScsiTask* Find(unsigned lun, uint32_t tag) const;
  ScsiTask* first() const { return first_; }

  // While held, no task is enabled. A write of an aborted task holds its set
  // until the backend is done with it: no newer write can be overtaken by it.
  void AddHold() { ++holds_; }
  void RemoveHold() { --holds_; }

 private:
  ScsiTask* NextReady() const;

  ScsiTask* first_ = nullptr;
  ScsiTask* last_ = nullptr;
  uint32_t holds_ = 0;
  bool enabling_ = false;
  bool again_ = false;
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_TASK_SET_H_
