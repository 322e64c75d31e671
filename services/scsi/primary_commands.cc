// Commands of SPC-4 that disks and CD-ROMs share.

#include <algorithm>
#include <cstring>

#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

void TestUnitReady(ScsiTask& task) { task.Finish(Status::kGood); }

// SPC-4 §6.39. What there is to tell: the sense data of an earlier command, a
// unit attention condition, or why the unit is not ready.
void RequestSense(ScsiTask& task) {
  LogicalUnit& unit = task.unit();
  const bool descriptor_format = (task.cdb()[1] & 0x01) != 0;
  // Telling a condition ends it; run again, the task tells the same.
  if (!task.resumed()) {
    Sense sense;
    if (const auto kept = unit.TakeKeptSense()) {
      sense = *kept;
    } else if (unit.kind() == UnitKind::kAbsent) {
      sense = MakeSense(SenseKey::kIllegalRequest,
                        SenseCode::kLogicalUnitNotSupported);
    } else if (const auto attention = unit.TakeUnitAttention()) {
      sense = *attention;
    } else if (!unit.has_medium()) {
      sense = MakeSense(SenseKey::kNotReady, SenseCode::kMediumNotPresent);
    } else if (unit.state().stopped) {
      sense = MakeSense(SenseKey::kNotReady,
                        SenseCode::kNotReadyInitializingCommandRequired);
    }
    task.record().sense = sense;
  }
  const size_t size = EncodeSense(task.record().sense, descriptor_format,
                                  absl::MakeSpan(task.reply(), kMaxReplyBytes));
  task.Reply(size, task.cdb()[4]);
}

// SPC-4 §6.33.
void ReportLuns(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const uint8_t select_report = cdb[2];
  if (select_report > 2) return task.Fail(InvalidFieldInCdb(2));
  uint8_t* to = task.reply();
  size_t size = 8;
  // 01h asks for well known logical units: there are none.
  for (unsigned lun = 0; select_report != 1 && lun < kMaxLuns; ++lun) {
    if ((task.unit().present_luns() >> lun & 1) == 0) continue;
    to[size + 1] = static_cast<uint8_t>(lun);
    size += 8;
  }
  StoreBe32(to, static_cast<uint32_t>(size - 8));
  task.Reply(size, LoadBe32(cdb + 6));
}

// SPC-4 §6.42: only the default self-test, which finds nothing.
void SendDiagnostic(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[1] & 0xe0) != 0) return task.Fail(InvalidFieldInCdb(1, 7));
  if (LoadBe16(cdb + 3) != 0) return task.Fail(InvalidFieldInCdb(3));
  task.Finish(Status::kGood);
}

// SPC-2 §7.21: there is one initiator, so it always has what it asks for.
void Reserve(ScsiTask& task) {
  // Third-party reservations and extents do not exist.
  if ((task.cdb()[1] & 0x11) != 0) return task.Fail(InvalidFieldInCdb(1, 4));
  task.unit().state().reserved = true;
  task.Finish(Status::kGood);
}

void Release(ScsiTask& task) {
  if ((task.cdb()[1] & 0x11) != 0) return task.Fail(InvalidFieldInCdb(1, 4));
  task.unit().state().reserved = false;
  task.Finish(Status::kGood);
}

void PreventAllowMediumRemoval(ScsiTask& task) {
  if (task.cdb()[4] > 3) return task.Fail(InvalidFieldInCdb(4, 1));
  task.unit().state().prevented = (task.cdb()[4] & 0x01) != 0;
  task.Finish(Status::kGood);
}

// ---- REPORT SUPPORTED OPERATION CODES (SPC-4 §6.34)
// --------------------------

constexpr size_t kTimeoutsBytes = 12;

// "No timeouts are given": a descriptor of zeroes (SPC-4 §6.34.4).
size_t TimeoutsDescriptor(uint8_t* to) {
  StoreBe16(to, kTimeoutsBytes - 2);
  return kTimeoutsBytes;
}

void ReportAllOpcodes(ScsiTask& task, bool timeouts,
                      uint32_t allocation_length) {
  uint8_t* to = task.reply();
  size_t size = 4;
  ForEachCommand(task.unit(), [&](const CommandDescription& command) {
    if (size + 8 + kTimeoutsBytes > kMaxReplyBytes) return;
    uint8_t* row = to + size;
    row[0] = static_cast<uint8_t>(command.opcode);
    if (command.service_action != kNoServiceAction) {
      StoreBe16(row + 2, command.service_action);
      row[5] |= 0x01;  // SERVACTV
    }
    if (timeouts) row[5] |= 0x02;  // CTDP
    StoreBe16(row + 6, command.cdb_size);
    size += 8;
    if (timeouts) size += TimeoutsDescriptor(to + size);
  });
  StoreBe32(to, static_cast<uint32_t>(size - 4));
  task.Reply(size, allocation_length);
}

void ReportOneOpcode(ScsiTask& task, const CommandDescription* command,
                     bool timeouts, uint32_t allocation_length) {
  uint8_t* to = task.reply();
  size_t size = 4;
  to[1] = 0x01;  // SUPPORT: not supported
  if (command != nullptr) {
    to[1] = static_cast<uint8_t>(0x03 | (timeouts ? 0x80 : 0));
    StoreBe16(to + 2, command->cdb_size);
    to[4] = static_cast<uint8_t>(command->opcode);
    std::copy_n(command->usage.begin(), command->cdb_size - 1, to + 5);
    if (command->service_action != kNoServiceAction) {
      to[5] = static_cast<uint8_t>((to[5] & 0xe0) | command->service_action);
    }
    size += command->cdb_size;
    if (timeouts) size += TimeoutsDescriptor(to + size);
  }
  task.Reply(size, allocation_length);
}

void ReportSupportedOpcodes(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const bool timeouts = (cdb[2] & 0x80) != 0;
  const uint8_t options = cdb[2] & 0x07;
  const uint16_t service_action = LoadBe16(cdb + 4);
  const uint32_t allocation_length = LoadBe32(cdb + 6);
  if (options == 0) return ReportAllOpcodes(task, timeouts, allocation_length);
  if (options > 3) return task.Fail(InvalidFieldInCdb(2, 2));

  bool opcode_known = false;
  const CommandDescription* command = FindCommand(
      task.unit(), cdb[3],
      static_cast<uint8_t>(std::min<unsigned>(service_action, 0x20)),
      &opcode_known);
  const bool has_actions =
      opcode_known &&
      (command == nullptr || command->service_action != kNoServiceAction);
  // 001b is for opcodes without service actions, 010b for those with.
  if (options == 1 && has_actions) return task.Fail(InvalidFieldInCdb(2, 2));
  if (options == 2 && opcode_known && !has_actions) {
    return task.Fail(InvalidFieldInCdb(2, 2));
  }
  if (options == 3 && !has_actions && service_action != 0) command = nullptr;
  ReportOneOpcode(task, command, timeouts, allocation_length);
}

// SPC-4 §6.35.
void ReportSupportedTaskManagement(ScsiTask& task) {
  uint8_t* to = task.reply();
  to[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;  // ATS, ATSS, CTSS, LURS, TRS
  const bool extended = (task.cdb()[2] & 0x80) != 0;  // REPD
  if (extended) to[3] = 0x0c;
  task.Reply(extended ? 16 : 4, LoadBe32(task.cdb() + 6));
}

// The usage data of a command begins after its operation code.
constexpr CommandDescription kCommands[] = {
    {Opcode::kTestUnitReady,
     kNoServiceAction,
     kNeedsMedium,
     6,
     {},
     TestUnitReady},
    {Opcode::kRequestSense,
     kNoServiceAction,
     kDespiteAttention,
     6,
     {0x01, 0, 0, 0xff},
     RequestSense},
    {Opcode::kInquiry,
     kNoServiceAction,
     kDespiteAttention,
     6,
     {0x01, 0xff, 0xff, 0xff},
     Inquiry},
    {Opcode::kModeSelect6,
     kNoServiceAction,
     0,
     6,
     {0x11, 0, 0, 0xff},
     ModeSelect6},
    {Opcode::kReserve6, kNoServiceAction, 0, 6, {}, Reserve},
    {Opcode::kRelease6, kNoServiceAction, 0, 6, {}, Release},
    {Opcode::kModeSense6,
     kNoServiceAction,
     0,
     6,
     {0x08, 0xff, 0xff, 0xff},
     ModeSense6},
    {Opcode::kSendDiagnostic,
     kNoServiceAction,
     0,
     6,
     {0x04, 0, 0xff, 0xff},
     SendDiagnostic},
    {Opcode::kPreventAllowMediumRemoval,
     kNoServiceAction,
     0,
     6,
     {0, 0, 0, 0x03},
     PreventAllowMediumRemoval},
    {Opcode::kLogSense,
     kNoServiceAction,
     0,
     10,
     {0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff},
     LogSense},
    {Opcode::kModeSelect10,
     kNoServiceAction,
     0,
     10,
     {0x11, 0, 0, 0, 0, 0, 0xff, 0xff},
     ModeSelect10},
    {Opcode::kReserve10, kNoServiceAction, 0, 10, {}, Reserve},
    {Opcode::kRelease10, kNoServiceAction, 0, 10, {}, Release},
    {Opcode::kModeSense10,
     kNoServiceAction,
     0,
     10,
     {0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff},
     ModeSense10},
    {Opcode::kReportLuns,
     kNoServiceAction,
     kDespiteAttention,
     12,
     {0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     ReportLuns},
    {Opcode::kMaintenanceIn,
     kReportSupportedOpcodes,
     0,
     12,
     {0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     ReportSupportedOpcodes},
    {Opcode::kMaintenanceIn,
     kReportSupportedTmf,
     0,
     12,
     {0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     ReportSupportedTaskManagement},
};

}  // namespace

absl::Span<const CommandDescription> PrimaryCommands() { return kCommands; }

}  // namespace bulkhead::scsi
