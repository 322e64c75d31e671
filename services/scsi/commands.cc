#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

constexpr uint8_t kNaca = 0x04;  // SAM-5 §5.3, the CONTROL byte

// SPC-4 §6.34.1: what a target answers for a LUN that it does not have.
bool AnsweredWithoutUnit(Opcode opcode) {
  return opcode == Opcode::kInquiry || opcode == Opcode::kReportLuns ||
         opcode == Opcode::kRequestSense;
}

bool FailIfNotReady(ScsiTask& task) {
  LogicalUnit& unit = task.unit();
  if (!unit.has_medium()) {
    SenseCode code = SenseCode::kMediumNotPresent;
    if (unit.kind() == UnitKind::kCdrom) {
      code = unit.state().tray_open ? SenseCode::kMediumNotPresentTrayOpen
                                    : SenseCode::kMediumNotPresentTrayClosed;
    }
    task.Fail(MakeSense(SenseKey::kNotReady, code));
    return true;
  }
  if (unit.state().stopped) {
    task.Fail(MakeSense(SenseKey::kNotReady,
                        SenseCode::kNotReadyInitializingCommandRequired));
    return true;
  }
  return false;
}

bool FailIfProtected(ScsiTask& task) {
  LogicalUnit& unit = task.unit();
  if (unit.read_only()) {
    task.Fail(MakeSense(SenseKey::kDataProtect, SenseCode::kWriteProtected));
    return true;
  }
  if (unit.state().mode.software_write_protect) {
    task.Fail(
        MakeSense(SenseKey::kDataProtect, SenseCode::kSoftwareWriteProtected));
    return true;
  }
  return false;
}

}  // namespace

const CommandDescription* FindCommand(const LogicalUnit& unit, uint8_t opcode,
                                      uint8_t service_action,
                                      bool* opcode_known) {
  const CommandDescription* found = nullptr;
  *opcode_known = false;
  ForEachCommand(unit, [&](const CommandDescription& command) {
    if (static_cast<uint8_t>(command.opcode) != opcode) return;
    *opcode_known = true;
    if (command.service_action == kNoServiceAction ||
        command.service_action == service_action) {
      found = &command;
    }
  });
  return found;
}

void RunCommand(ScsiTask& task) {
  LogicalUnit& unit = task.unit();
  const uint8_t* cdb = task.cdb();
  ++unit.statistics().commands;
  unit.FollowBackend();

  const CommandDescription* command = task.description();

  if (unit.kind() == UnitKind::kAbsent &&
      !AnsweredWithoutUnit(static_cast<Opcode>(cdb[0]))) {
    return task.Fail(MakeSense(SenseKey::kIllegalRequest,
                               SenseCode::kLogicalUnitNotSupported));
  }
  if (task.command().attribute == TaskAttribute::kAca) {
    // There is never an ACA condition here (SAM-5 §8.6.5).
    return task.Fail(
        MakeSense(SenseKey::kAbortedCommand, SenseCode::kInvalidMessageError));
  }
  const bool attention_waits =
      command == nullptr || (command->flags & kDespiteAttention) == 0;
  if (attention_waits && !task.resumed()) {
    if (const auto attention = unit.TakeUnitAttention()) {
      return task.Fail(*attention);
    }
  }
  if (command == nullptr) {
    return task.Fail(
        task.opcode_known()
            ? InvalidFieldInCdb(1, 4)
            : MakeSense(SenseKey::kIllegalRequest, SenseCode::kInvalidOpcode));
  }
  if (task.command().cdb_size < command->cdb_size) {
    return task.Fail(InvalidFieldInCdb(task.command().cdb_size));
  }
  const uint8_t control = cdb[command->cdb_size - 1];
  if ((control & kNaca) != 0) {
    return task.Fail(InvalidFieldInCdb(command->cdb_size - 1, 2));
  }
  if ((command->flags & kNeedsMedium) != 0 && FailIfNotReady(task)) return;
  if ((command->flags & kWritesMedium) != 0 && FailIfProtected(task)) return;
  command->run(task);
}

bool CheckedRange(ScsiTask& task, uint64_t lba, uint64_t blocks,
                  MediumRange* range) {
  const LogicalUnit& unit = task.unit();
  if (lba > unit.block_count() || blocks > unit.block_count() - lba) {
    task.Fail(MakeSense(SenseKey::kIllegalRequest, SenseCode::kLbaOutOfRange));
    return false;
  }
  if (blocks == 0) {
    // "No logical blocks shall be transferred. This is no error."
    task.Finish(Status::kGood);
    return false;
  }
  *range = {.offset_bytes = lba * unit.block_size_bytes(),
            .length_bytes = blocks * unit.block_size_bytes()};
  return true;
}

}  // namespace bulkhead::scsi
