// The commands that a logical unit knows: one table row each, from which both
// dispatch and REPORT SUPPORTED OPERATION CODES are made.
//
// TRUST    CDBs and parameter lists are the guest's. A command's function reads
//          its CDB, checks every field that it uses, and sets the task going.
// ERRORS   Sense data (ScsiTask::Fail).
// THREADS  The service's loop.
// SPEC     SPC-4 §6, SBC-3 §5, MMC-6 §6; usage data SPC-4 §6.34.3.

#ifndef BULKHEAD_SERVICES_SCSI_COMMANDS_H_
#define BULKHEAD_SERVICES_SCSI_COMMANDS_H_

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "services/scsi/spec.h"
#include "services/scsi/task.h"

namespace bulkhead::scsi {

inline constexpr uint8_t kNoServiceAction = 0xff;

// Flags of a command.
// Runs although a unit attention condition waits to be told (SAM-5 §5.14.2).
inline constexpr uint8_t kDespiteAttention = 0x01;
// Needs a unit that is started and has a medium.
inline constexpr uint8_t kNeedsMedium = 0x02;
inline constexpr uint8_t kWritesMedium = 0x04;
// Exists on units that can unmap.
inline constexpr uint8_t kNeedsUnmap = 0x08;
// Runs alone in its task set: it reads and writes as one.
inline constexpr uint8_t kRunsAlone = 0x10;

// What one command may ask for; the block limits page says so (SBC-3 §6.6.4).
inline constexpr uint32_t kMaxUnmapBlocks = 0x3fffff;
inline constexpr uint32_t kMaxUnmapDescriptors = 255;
inline constexpr uint64_t kMaxWriteSameBlocks = 0x3fffff;
inline constexpr uint64_t kMaxCompareAndWriteBlocks = 255;

struct CommandDescription {
  Opcode opcode;
  uint8_t service_action;  // byte 1 bits 4-0, or kNoServiceAction
  uint8_t flags;
  uint8_t cdb_size;
  // Which bits of bytes 1 to cdb_size - 1 mean something to us.
  std::array<uint8_t, kMaxCdbBytes - 1> usage;
  void (*run)(ScsiTask& task);
};

absl::Span<const CommandDescription> PrimaryCommands();  // disk and CD-ROM
absl::Span<const CommandDescription> DiskCommands();
absl::Span<const CommandDescription> CdromCommands();

// nullptr: no such command. `opcode_known`: the opcode exists with another
// service action.
const CommandDescription* FindCommand(const LogicalUnit& unit, uint8_t opcode,
                                      uint8_t service_action,
                                      bool* opcode_known);
// Calls `use(description)` for each command of the unit.
template <typename Use>
void ForEachCommand(const LogicalUnit& unit, Use use);

// The whole way from a task with a buffer to its command's function.
void RunCommand(ScsiTask& task);

// The range of a medium command; false: the task has failed, or ended because
// there is nothing to do.
bool CheckedRange(ScsiTask& task, uint64_t lba, uint64_t blocks,
                  MediumRange* range);

// Commands that stand in a file of their own.
void Inquiry(ScsiTask& task);
void ModeSense6(ScsiTask& task);
void ModeSense10(ScsiTask& task);
void ModeSelect6(ScsiTask& task);
void ModeSelect10(ScsiTask& task);
void LogSense(ScsiTask& task);

template <typename Use>
void ForEachCommand(const LogicalUnit& unit, Use use) {
  const auto own =
      unit.kind() == UnitKind::kDisk ? DiskCommands() : CdromCommands();
  for (const auto commands : {PrimaryCommands(), own}) {
    for (const CommandDescription& command : commands) {
      if ((command.flags & kNeedsUnmap) != 0 && !unit.can_unmap()) continue;
      use(command);
    }
  }
}

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_COMMANDS_H_
