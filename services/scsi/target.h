// What a SCSI host adapter needs of the targets behind it (SAM-5): a task per
// command, moved on by the adapter as its initiator asks for bytes.
//
//   Task* task = bus.Start({.target = 0, .lun = 0, .tag = 5, .cdb = ...});
//   while (task->state() == Task::State::kDataIn) {
//     copy task->buffer() to the initiator; task->Advance(n);
//   }
//
// A task is kBusy while its backend works: the adapter may disconnect, and
// asks again after bus.Poll(). Nothing calls back into the adapter, so nothing
// recurses.
//
// TRUST    Every byte of a CDB and of data-out comes from the guest and is
//          copied in by the adapter first. The adapter is trusted to move no
//          more than buffer() holds.
// ERRORS   A command always ends with a SAM status and, where the status is
//          CHECK CONDITION, sense data. nullptr from Start: kMaxTasks are
//          under way (the adapter answers TASK SET FULL itself) .
// THREADS  The service's loop.
// SPEC     SAM-5, SPC-4, SBC-3, MMC-6.

#ifndef BULKHEAD_SERVICES_SCSI_TARGET_H_
#define BULKHEAD_SERVICES_SCSI_TARGET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace bulkhead {
class Statistics;
}

namespace bulkhead::scsi {

struct BusState;  // services/scsi/state.h

inline constexpr size_t kMaxTasks = 256;  // per bus, all targets together
inline constexpr size_t kMaxCdbBytes = 16;
inline constexpr size_t kMaxSenseBytes = 96;
inline constexpr unsigned kMaxTargets = 16;
inline constexpr unsigned kMaxLuns = 8;

// SAM-5 §8.2 task attributes.
enum class TaskAttribute : uint8_t { kSimple, kOrdered, kHeadOfQueue, kAca };

// SAM-5 §5.3.1.
enum class Status : uint8_t {
  kGood = 0x00,
  kCheckCondition = 0x02,
  kConditionMet = 0x04,
  kBusy = 0x08,
  kReservationConflict = 0x18,
  kTaskSetFull = 0x28,
  kAcaActive = 0x30,
  kTaskAborted = 0x40,
};

// An untagged command has no queue tag; a nexus has at most one of them.
inline constexpr uint32_t kUntagged = ~uint32_t{0};

struct Command {
  uint8_t target = 0;
  uint8_t lun = 0;
  uint32_t tag = kUntagged;
  TaskAttribute attribute = TaskAttribute::kSimple;
  uint8_t cdb_size = 0;
  std::array<uint8_t, kMaxCdbBytes> cdb = {};
};

class Task {
 public:
  enum class State : uint8_t {
    kBusy,     // the backend is at work, or an ordered task is ahead
    kDataIn,   // buffer() holds bytes for the initiator
    kDataOut,  // buffer() is room for bytes of the initiator
    kStatus,   // finished: status() and sense() are valid
  };

  virtual ~Task() = default;

  virtual State state() const = 0;
  virtual const Command& command() const = 0;

  // kDataIn, kDataOut: the part not yet moved of the present piece; never
  // empty in those states. A long transfer comes in several pieces.
  virtual absl::Span<uint8_t> buffer() = 0;
  // The adapter has moved `bytes` <= buffer().size() bytes. The state may
  // change.
  virtual void Advance(size_t bytes) = 0;
  // The initiator has no more room or bytes (it ended the data phase early):
  // the rest of the transfer is dropped, the command runs to its status.
  virtual void EndData() = 0;

  // Bytes the command still means to move, this piece and later ones.
  virtual uint64_t remaining_bytes() const = 0;

  virtual Status status() const = 0;
  virtual absl::Span<const uint8_t> sense() const = 0;

  // The adapter is done with a task in kStatus; the pointer is dead.
  virtual void Release() = 0;
};

// The targets and logical units of one adapter.
class Bus {
 public:
  virtual ~Bus() = default;

  // False: selection of that ID times out.
  virtual bool HasTarget(unsigned target) const = 0;

  // An LUN that does not exist is answered by its target as SPC-4 §6.6.2 and
  // SAM-5 §5.11 demand (INQUIRY with peripheral qualifier 011b, else ILLEGAL
  // REQUEST, LOGICAL UNIT NOT SUPPORTED).
  //
  // A tag that is in use already (SAM-5 §5.10) ends the new command and all
  // others of that logical unit: they go to kStatus, none of them vanishes.
  virtual Task* Start(const Command& command) = 0;

  // Lets backends complete and moves long commands on by a bounded step; true
  // if some task's state changed.
  virtual bool Poll() = 0;
  // Poll has something to do at once, without any backend's event.
  virtual bool HasWork() const = 0;

  // The task of that nexus that has not been released, or nullptr.
  virtual Task* Find(unsigned target, unsigned lun, uint32_t tag) = 0;

  // Task management (SAM-5 §7). Aborted tasks are gone, their pointers dead,
  // and no backend operation of theirs touches memory the adapter sees.
  virtual void AbortTask(unsigned target, unsigned lun, uint32_t tag) = 0;
  virtual void AbortTaskSet(unsigned target, unsigned lun) = 0;
  virtual void ClearTaskSet(unsigned target, unsigned lun) = 0;
  virtual void LogicalUnitReset(unsigned target, unsigned lun) = 0;
  virtual void TargetReset(unsigned target) = 0;  // BUS DEVICE RESET
  virtual void BusReset() = 0;

  // Everything drained: no task is kBusy with its backend.
  virtual bool idle() const = 0;
  // What is not, for a log: "2 of target 0 lun 0".
  virtual std::string Outstanding() const = 0;
  // Paused: no new backend operation begins; those under way complete in Poll.
  virtual void SetPaused(bool paused) = 0;

  // All that a bus needs to resume; current after every call.
  virtual const BusState& state() const = 0;
  // Into a bus of the same units, without tasks. Checks a hostile state: false,
  // and nothing has changed, when it is not one. Tasks come back as Find shows
  // them: those that had their status keep it, the others run again from their
  // commands. Bytes of data-out that had not reached the backend are gone:
  // such a command ends with ABORTED COMMAND, and an initiator sends it again.
  virtual bool LoadState(const BusState& state) = 0;

  // Adds the counters of all units.
  virtual void ReportStatistics(Statistics* statistics) const = 0;
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_TARGET_H_
