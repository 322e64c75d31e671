// BusState is everything that the targets of one adapter need to resume: one
// plain structure, copied as it is into a device's saved state.
//
// TRUST    A loaded one is hostile: every field is checked before it is used.
// ERRORS   ValidState answers false.
// THREADS  The service's loop.

#ifndef BULKHEAD_SERVICES_SCSI_STATE_H_
#define BULKHEAD_SERVICES_SCSI_STATE_H_

#include <array>
#include <cstdint>
#include <type_traits>

#include "services/scsi/sense.h"
#include "services/scsi/target.h"

namespace bulkhead::scsi {

inline constexpr uint32_t kStateVersion = 1;
inline constexpr size_t kMaxPendingSense = 8;

// SAM-5 §5.14: what a unit attention condition reports, most urgent first. A
// bit of UnitState::unit_attentions each.
enum class UnitAttention : uint8_t {
  kPowerOn,
  kBusReset,
  kDeviceReset,
  kMediumMayHaveChanged,
  kCapacityChanged,
  kModeParametersChanged,
  kCount,
};

enum class UnitKind : uint8_t { kAbsent, kDisk, kCdrom };

// MODE SELECT can change these; they return to their defaults at a reset.
struct ModeParameters {
  bool write_cache_enabled = true;      // WCE, SBC-3 §6.4.5
  bool descriptor_sense = false;        // D_SENSE, SPC-4 §7.5.8
  bool software_write_protect = false;  // SWP, SPC-4 §7.5.8
};

struct UnitState {
  // Of the unit that this is the state of; a state for another disk is refused.
  UnitKind kind = UnitKind::kAbsent;
  uint32_t block_size_bytes = 0;
  uint64_t block_count = 0;

  uint8_t unit_attentions = 0;  // 1 << UnitAttention
  ModeParameters mode;
  bool stopped = false;     // START STOP UNIT with START 0
  bool prevented = false;   // PREVENT ALLOW MEDIUM REMOVAL
  bool reserved = false;    // RESERVE, by the one initiator
  bool tray_open = false;   // CD-ROM
  uint8_t media_event = 0;  // GET EVENT STATUS NOTIFICATION, not yet reported

  uint8_t pending_sense_count = 0;
  // What parallel SCSI keeps until REQUEST SENSE fetches it, oldest first.
  std::array<Sense, kMaxPendingSense> pending_sense;
};

enum class TaskPhase : uint8_t {
  kFree,
  kDormant,  // waits for older tasks
  kRunning,
  kFinished,
};

struct TaskState {
  TaskPhase phase = TaskPhase::kFree;
  Status status = Status::kGood;
  Command command;
  uint64_t arrival = 0;      // orders the tasks of a logical unit
  uint64_t moved_bytes = 0;  // by the adapter, of this command's data
  uint64_t done_bytes = 0;   // at the backend; never has to be done again
  // The reason for CHECK CONDITION; or what REQUEST SENSE answers with.
  Sense sense;
};

struct BusState {
  uint32_t version = kStateVersion;
  uint64_t next_arrival = 1;
  std::array<UnitState, kMaxTargets * kMaxLuns> units;
  std::array<TaskState, kMaxTasks> tasks;
};
static_assert(std::is_trivially_copyable_v<BusState>);

// Whether every field holds a value that its type knows. Whether it fits the
// configured units is the bus's question.
bool ValidState(const BusState& state);

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_STATE_H_
