// Logs is what the controller tells of its past: the error log, the SMART
// counters, and the asynchronous events that announce them.
//
// TRUST    Fields of a failed command are the guest's; they are kept only to
//          be given back to it.
// ERRORS   None.
// THREADS  The service's loop; a queue group that runs apart records in Logs of
//          its own.
// SPEC     NVMe 1.4 §5.2 (events), §5.14.1.1 (errors), §5.14.1.2 (SMART).

#ifndef BULKHEAD_SERVICES_NVME_LOGS_H_
#define BULKHEAD_SERVICES_NVME_LOGS_H_

#include <cstdint>

#include "services/nvme/data_pointer.h"
#include "services/nvme/spec.h"
#include "services/nvme/state.h"
#include "services/runtime/device.h"

namespace bulkhead::nvme {

class Logs {
 public:
  Logs(LogState& state, const FeatureState& features)
      : state_(state), features_(features) {}

  // A command has failed. `lba` where it has one.
  void RecordError(uint16_t sq_id, const Command& command, Outcome outcome,
                   uint64_t lba);
  // What another has recorded, which is then empty. Events are not recorded,
  // but raised here.
  void Take(Logs& other);
  void RecordMediaError() { ++state_.media_errors; }
  void RecordRead(uint64_t bytes) {
    ++state_.host_reads;
    state_.sectors_read += bytes / 512;
  }
  void RecordWrite(uint64_t bytes) {
    ++state_.host_writes;
    state_.sectors_written += bytes / 512;
  }

  // Entry `index` of the error log; 0 is the newest.
  ErrorLogEntry Error(unsigned index) const;
  SmartLog Smart(Nanoseconds powered) const;
  uint8_t CriticalWarning() const;

  // ---- asynchronous events

  void Raise(unsigned type, uint8_t information, LogPage page);
  // The thresholds have changed.
  void CheckTemperature();
  // Its size has.
  void NamespaceChanged(uint32_t nsid);
  bool HasChanged(uint32_t nsid) const { return state_.changed[nsid - 1] != 0; }
  void ForgetChanges() { state_.changed = {}; }
  // The host has read the page that events of this type point to.
  void Unmask(LogPage page);

  // A request that waits for an event. False: there are too many.
  bool AddRequest(uint16_t cid);
  // Takes back a waiting request; false: there is none of that cid.
  bool CancelRequest(uint16_t cid);
  // True: request `*cid` completes with `*result`.
  bool TakeEvent(uint16_t* cid, uint32_t* result);
  bool HasEvent() const;

  // A controller reset: events and requests go, the logs stay.
  void Reset();

 private:
  LogState& state_;
  const FeatureState& features_;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_LOGS_H_
