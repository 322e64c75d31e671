// LOG SENSE: what the unit has counted.
//
// SPEC  SPC-4 §6.8 and §7.3; error counters §7.3.8.

#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

// One 8-byte parameter; returns its size.
size_t Parameter(uint16_t code, uint64_t value, uint8_t* to) {
  StoreBe16(to, code);
  to[2] = 0x03;  // FORMAT AND LINKING: binary list
  to[3] = 8;
  StoreBe64(to + 4, value);
  return 12;
}

size_t ErrorCounters(uint64_t errors, uint64_t bytes, uint8_t* to) {
  size_t size = Parameter(0x0003, 0, to);        // total errors corrected
  size += Parameter(0x0005, bytes, to + size);   // total bytes processed
  size += Parameter(0x0006, errors, to + size);  // total uncorrected errors
  return size;
}

// 0: there is no such page.
size_t FillLogPage(const LogicalUnit& unit, uint8_t code, uint8_t* to) {
  static constexpr uint8_t kDiskPages[] = {kLogSupportedPages, kLogWriteErrors,
                                           kLogReadErrors, kLogVerifyErrors};
  const UnitStatistics& counted = unit.statistics();
  const bool disk = unit.kind() == UnitKind::kDisk;
  if (code == kLogSupportedPages) {
    size_t size = 0;
    for (const uint8_t page : kDiskPages) {
      if (disk || page == kLogSupportedPages || page == kLogReadErrors) {
        to[size++] = page;
      }
    }
    return size;
  }
  if (code == kLogReadErrors) {
    return ErrorCounters(counted.read_errors, counted.read_bytes, to);
  }
  if (code == kLogWriteErrors && disk) {
    return ErrorCounters(counted.write_errors, counted.written_bytes, to);
  }
  if (code == kLogVerifyErrors && disk) {
    return ErrorCounters(counted.verify_errors, counted.verified_bytes, to);
  }
  return 0;
}

}  // namespace

void LogSense(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[1] & 0x01) != 0) return task.Fail(InvalidFieldInCdb(1, 0));  // SP
  if (cdb[3] != 0) return task.Fail(InvalidFieldInCdb(3));  // subpages
  // PC: thresholds and cumulative values are the current ones, no defaults.
  if (cdb[2] >> 6 > 1) return task.Fail(InvalidFieldInCdb(2, 7));
  const uint8_t code = cdb[2] & 0x3f;
  uint8_t* to = task.reply();
  const size_t size = FillLogPage(task.unit(), code, to + 4);
  if (size == 0) return task.Fail(InvalidFieldInCdb(2, 5));
  // PARAMETER POINTER: a page is always given from its beginning.
  if (LoadBe16(cdb + 5) != 0) return task.Fail(InvalidFieldInCdb(5));
  to[0] = code;
  StoreBe16(to + 2, static_cast<uint16_t>(size));
  task.Reply(4 + size, LoadBe16(cdb + 7));
}

}  // namespace bulkhead::scsi
