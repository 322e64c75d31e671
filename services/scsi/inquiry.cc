// INQUIRY and the vital product data pages.
//
// SPEC  SPC-4 §6.6 and §7.8; SBC-3 §6.6.

#include <algorithm>
#include <cstring>

#include "absl/strings/string_view.h"
#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

constexpr size_t kStandardInquiryBytes = 96;

// SPC-4 §6.6.2, table 186: the standards that a unit follows.
constexpr uint16_t kVersionSam5 = 0x00a0;
constexpr uint16_t kVersionSpc4 = 0x0460;
constexpr uint16_t kVersionSbc3 = 0x04c0;
constexpr uint16_t kVersionMmc6 = 0x04e0;

uint8_t PeripheralByte(const LogicalUnit& unit) {
  switch (unit.kind()) {
    case UnitKind::kDisk:
      return kTypeDisk;
    case UnitKind::kCdrom:
      return kTypeCdrom;
    case UnitKind::kAbsent:
      break;
  }
  return kQualifierNotCapable | kTypeUnknown;
}

// Left-aligned ASCII, padded with spaces.
void PutText(uint8_t* to, size_t size, absl::string_view text) {
  std::memset(to, ' ', size);
  std::memcpy(to, text.data(), std::min(size, text.size()));
}

size_t StandardData(const LogicalUnit& unit, uint8_t* to) {
  to[0] = PeripheralByte(unit);
  to[1] = unit.kind() == UnitKind::kCdrom ? 0x80 : 0;  // RMB
  to[2] = 0x06;                                        // VERSION: SPC-4
  to[3] = 0x12;  // HISUP, RESPONSE DATA FORMAT 2
  to[4] = kStandardInquiryBytes - 5;
  to[7] = 0x02;                                     // CMDQUE
  if (unit.options().parallel_scsi) to[7] |= 0x10;  // SYNC, of SPI-3
  PutText(to + 8, 8, unit.config().vendor);
  PutText(to + 16, 16, unit.config().product);
  PutText(to + 32, 4, "1.0");
  StoreBe16(to + 58, kVersionSam5);
  StoreBe16(to + 60, kVersionSpc4);
  if (unit.kind() == UnitKind::kDisk) StoreBe16(to + 62, kVersionSbc3);
  if (unit.kind() == UnitKind::kCdrom) StoreBe16(to + 62, kVersionMmc6);
  return kStandardInquiryBytes;
}

// The pages below fill in the bytes after the 4-byte header and answer how
// many.

size_t SerialNumberPage(const LogicalUnit& unit, uint8_t* to) {
  PutText(to, unit.config().serial.size(), unit.config().serial);
  return unit.config().serial.size();
}

// SPC-4 §7.8.6: a T10 vendor ID designator, and an NAA one.
size_t DeviceIdentificationPage(const LogicalUnit& unit, uint8_t* to) {
  const UnitConfig& config = unit.config();
  const size_t text_size = 8 + 16 + config.serial.size();
  to[0] = 0x02;  // ASCII
  to[1] = 0x01;  // of the logical unit, T10 vendor ID
  to[3] = static_cast<uint8_t>(text_size);
  PutText(to + 4, 8, config.vendor);
  PutText(to + 12, 16, config.product);
  PutText(to + 28, config.serial.size(), config.serial);
  size_t size = 4 + text_size;
  if (config.wwn != 0) {
    to[size] = 0x01;      // binary
    to[size + 1] = 0x03;  // of the logical unit, NAA
    to[size + 3] = 8;
    StoreBe64(to + size + 4, config.wwn);
    size += 12;
  }
  return size;
}

// SPC-4 §7.8.7.
size_t ExtendedInquiryPage(const LogicalUnit&, uint8_t* to) {
  to[1] = 0x07;  // HEADSUP, ORDSUP, SIMPSUP
  to[2] = 0x01;  // V_SUP: there is a volatile cache
  return 60;
}

// SBC-3 §6.6.4.
size_t BlockLimitsPage(const LogicalUnit& unit, uint8_t* to) {
  const block::Geometry& geometry = unit.backend()->geometry();
  const uint64_t block = unit.block_size_bytes();
  const auto blocks = [block](uint64_t bytes) {
    return static_cast<uint32_t>(std::max<uint64_t>(1, bytes / block));
  };
  to[0] = 0x01;  // WSNZ: WRITE SAME of no blocks does not mean "to the end"
  to[1] = static_cast<uint8_t>(std::min<uint64_t>(
      kMaxCompareAndWriteBlocks, unit.options().piece_bytes / 4 / block));
  StoreBe16(to + 2, static_cast<uint16_t>(std::min<uint32_t>(
                        blocks(geometry.optimal_bytes), 0xffff)));
  if (unit.can_unmap()) {
    StoreBe32(to + 16, kMaxUnmapBlocks);
    StoreBe32(to + 20, kMaxUnmapDescriptors);
    StoreBe32(to + 24, blocks(geometry.discard_granularity_bytes));
    StoreBe32(to + 28, 0x80000000);  // UGAVALID, alignment 0
  }
  StoreBe64(to + 32, kMaxWriteSameBlocks);
  return 60;
}

// SBC-3 §6.6.2.
size_t BlockCharacteristicsPage(const LogicalUnit&, uint8_t* to) {
  StoreBe16(to, 1);  // MEDIUM ROTATION RATE: does not rotate
  return 60;
}

// SBC-3 §6.6.6.
size_t ProvisioningPage(const LogicalUnit& unit, uint8_t* to) {
  if (unit.can_unmap()) {
    to[1] = 0xe0;                                   // LBPU, LBPWS, LBPWS10
    if (unit.unmapped_reads_zero()) to[1] |= 0x04;  // LBPRZ
    to[2] = 0x02;                                   // thin
  }
  return 4;
}

size_t SupportedPages(const LogicalUnit& unit, uint8_t* to);

struct VpdPage {
  uint8_t code;
  bool disk_only;
  size_t (*fill)(const LogicalUnit& unit, uint8_t* to);
};

// In ascending order, as SUPPORTED VPD PAGES lists them.
constexpr VpdPage kPages[] = {
    {kVpdSupportedPages, false, SupportedPages},
    {kVpdUnitSerialNumber, false, SerialNumberPage},
    {kVpdDeviceIdentification, false, DeviceIdentificationPage},
    {kVpdExtendedInquiry, true, ExtendedInquiryPage},
    {kVpdBlockLimits, true, BlockLimitsPage},
    {kVpdBlockCharacteristics, true, BlockCharacteristicsPage},
    {kVpdProvisioning, true, ProvisioningPage},
};

bool HasPage(const LogicalUnit& unit, const VpdPage& page) {
  if (page.code == kVpdUnitSerialNumber && unit.config().serial.empty()) {
    return false;
  }
  return !page.disk_only || unit.kind() == UnitKind::kDisk;
}

size_t SupportedPages(const LogicalUnit& unit, uint8_t* to) {
  size_t size = 0;
  for (const VpdPage& page : kPages) {
    if (HasPage(unit, page)) to[size++] = page.code;
  }
  return size;
}

}  // namespace

void Inquiry(ScsiTask& task) {
  const LogicalUnit& unit = task.unit();
  const uint8_t* cdb = task.cdb();
  const bool vital_data = (cdb[1] & 0x01) != 0;
  const uint16_t allocation_length = LoadBe16(cdb + 3);
  if ((cdb[1] & 0x02) != 0) return task.Fail(InvalidFieldInCdb(1, 1));
  if (!vital_data) {
    if (cdb[2] != 0) return task.Fail(InvalidFieldInCdb(2));
    const size_t size = StandardData(unit, task.reply());
    return task.Reply(size, allocation_length);
  }
  if (unit.kind() == UnitKind::kAbsent)
    return task.Fail(InvalidFieldInCdb(1, 0));
  for (const VpdPage& page : kPages) {
    if (page.code != cdb[2] || !HasPage(unit, page)) continue;
    uint8_t* to = task.reply();
    const size_t size = page.fill(unit, to + 4);
    to[0] = PeripheralByte(unit);
    to[1] = page.code;
    StoreBe16(to + 2, static_cast<uint16_t>(size));
    return task.Reply(4 + size, allocation_length);
  }
  task.Fail(InvalidFieldInCdb(2));
}

}  // namespace bulkhead::scsi
