#include "services/scsi/state.h"

#include <cstring>

namespace bulkhead::scsi {
namespace {

// A bool that was loaded may hold any byte; reading it as a bool would be
// undefined, so its byte is read.
bool IsBool(const bool& value) {
  uint8_t byte = 0;
  std::memcpy(&byte, &value, 1);
  return byte <= 1;
}

bool ValidSense(const Sense& sense) {
  return static_cast<uint8_t>(sense.key) <= 0xf &&
         IsBool(sense.has_information) && IsBool(sense.incorrect_length);
}

bool ValidUnit(const UnitState& unit) {
  if (unit.kind > UnitKind::kCdrom ||
      unit.unit_attentions >> static_cast<uint8_t>(UnitAttention::kCount) !=
          0 ||
      unit.pending_sense_count > kMaxPendingSense) {
    return false;
  }
  for (const bool* flag :
       {&unit.mode.write_cache_enabled, &unit.mode.descriptor_sense,
        &unit.mode.software_write_protect, &unit.stopped, &unit.prevented,
        &unit.reserved, &unit.tray_open}) {
    if (!IsBool(*flag)) return false;
  }
  for (size_t i = 0; i < unit.pending_sense_count; ++i) {
    if (!ValidSense(unit.pending_sense[i])) return false;
  }
  return true;
}

bool ValidStatus(Status status) {
  switch (status) {
    case Status::kGood:
    case Status::kCheckCondition:
    case Status::kConditionMet:
    case Status::kBusy:
    case Status::kReservationConflict:
    case Status::kTaskSetFull:
    case Status::kAcaActive:
    case Status::kTaskAborted:
      return true;
  }
  return false;
}

bool ValidTask(const TaskState& task, uint64_t next_arrival) {
  return task.phase <= TaskPhase::kFinished &&
         (task.phase == TaskPhase::kFree ||
          (ValidStatus(task.status) && task.command.target < kMaxTargets &&
           task.command.cdb_size <= kMaxCdbBytes &&
           task.command.attribute <= TaskAttribute::kAca &&
           task.arrival < next_arrival && ValidSense(task.sense)));
}

}  // namespace

bool ValidState(const BusState& state) {
  if (state.version != kStateVersion) return false;
  for (const UnitState& unit : state.units) {
    if (!ValidUnit(unit)) return false;
  }
  for (const TaskState& task : state.tasks) {
    if (!ValidTask(task, state.next_arrival)) return false;
  }
  return true;
}

}  // namespace bulkhead::scsi
