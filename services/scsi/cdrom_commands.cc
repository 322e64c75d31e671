// Commands of MMC-6: a CD-ROM drive whose disc holds one session with one data
// track.

#include <algorithm>
#include <limits>

#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

constexpr uint8_t kDataTrack = 0x14;  // ADR 1, CONTROL: data, uninterrupted
constexpr uint8_t kLeadOut = 0xaa;
constexpr uint32_t kPregapFrames = 150;
constexpr uint32_t kFramesPerSecond = 75;
// More than any CD holds: the disc is a DVD.
constexpr uint64_t kMaxCdBlocks = 450000;

uint32_t DiscBlocks(const LogicalUnit& unit) {
  return static_cast<uint32_t>(std::min<uint64_t>(
      unit.block_count(), std::numeric_limits<uint32_t>::max()));
}

// ---- Reading
// -----------------------------------------------------------------

void ReadExtent(ScsiTask& task, uint32_t lba, uint32_t blocks) {
  MediumRange range;
  if (CheckedRange(task, lba, blocks, &range)) task.Read(range);
}

void Read10(ScsiTask& task) {
  ReadExtent(task, LoadBe32(task.cdb() + 2), LoadBe16(task.cdb() + 7));
}

void Read12(ScsiTask& task) {
  ReadExtent(task, LoadBe32(task.cdb() + 2), LoadBe32(task.cdb() + 6));
}

// MMC-6 §6.17: the 2048 bytes of user data of a data sector, nothing else.
void ReadCd(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const uint8_t sector_type = cdb[1] >> 2 & 7;
  const uint8_t selection = cdb[9] & 0xf8;
  const bool mode1 = sector_type == 0 || sector_type == 2;
  if (!mode1) {
    return task.Fail(MakeSense(SenseKey::kIllegalRequest,
                               SenseCode::kIllegalModeForThisTrack));
  }
  if (cdb[10] != 0) return task.Fail(InvalidFieldInCdb(10));  // sub-channels
  const uint32_t lba = LoadBe32(cdb + 2);
  const uint32_t blocks = LoadBe24(cdb + 6);
  // Nothing selected: a seek.
  if (selection == 0x00) {
    MediumRange range;
    if (CheckedRange(task, lba, blocks, &range)) task.Finish(Status::kGood);
    return;
  }
  if (selection != 0x10) return task.Fail(InvalidFieldInCdb(9, 7));
  ReadExtent(task, lba, blocks);
}

void Seek10(ScsiTask& task) {
  if (LoadBe32(task.cdb() + 2) >= task.unit().block_count()) {
    return task.Fail(
        MakeSense(SenseKey::kIllegalRequest, SenseCode::kLbaOutOfRange));
  }
  task.Finish(Status::kGood);
}

void ReadCapacity(ScsiTask& task) {
  uint8_t* to = task.reply();
  StoreBe32(to, DiscBlocks(task.unit()) - 1);
  StoreBe32(to + 4, task.unit().block_size_bytes());
  task.Reply(8, 8);
}

// ---- READ TOC/PMA/ATIP (MMC-6 §6.25)
// -----------------------------------------

// An address of 4 bytes: a logical block, or minute, second and frame.
void PutAddress(uint8_t* to, uint32_t lba, bool msf) {
  if (!msf) return StoreBe32(to, lba);
  const uint64_t frames = uint64_t{lba} + kPregapFrames;
  const uint64_t minutes = frames / (60 * kFramesPerSecond);
  to[1] = static_cast<uint8_t>(std::min<uint64_t>(minutes, 0xff));
  to[2] = static_cast<uint8_t>(frames / kFramesPerSecond % 60);
  to[3] = static_cast<uint8_t>(frames % kFramesPerSecond);
}

size_t TrackDescriptor(uint8_t* to, uint8_t track, uint32_t lba, bool msf) {
  to[1] = kDataTrack;
  to[2] = track;
  PutAddress(to + 4, lba, msf);
  return 8;
}

// Format 0000b: the tracks from `first`, and the lead-out.
size_t FormattedToc(const LogicalUnit& unit, uint8_t first, bool msf,
                    uint8_t* to) {
  size_t size = 4;
  if (first <= 1) size += TrackDescriptor(to + size, 1, 0, msf);
  return size + TrackDescriptor(to + size, kLeadOut, DiscBlocks(unit), msf);
}

// Format 0001b: where the last session begins.
size_t SessionInformation(bool msf, uint8_t* to) {
  return 4 + TrackDescriptor(to + 4, 1, 0, msf);
}

// Format 0010b: the Q sub-channel's points A0h, A1h, A2h and the track.
size_t RawToc(const LogicalUnit& unit, uint8_t* to) {
  size_t size = 4;
  for (const uint8_t point : {0xa0, 0xa1, 0xa2, 0x01}) {
    uint8_t* entry = to + size;
    entry[0] = 1;  // session
    entry[1] = kDataTrack;
    entry[3] = point;
    if (point == 0xa0 || point == 0xa1) {
      entry[8] = 1;  // the first, the last track
    } else {
      uint8_t address[4] = {};
      PutAddress(address, point == 0xa2 ? DiscBlocks(unit) : 0, true);
      std::copy(address + 1, address + 4, entry + 8);
    }
    size += 11;
  }
  return size;
}

void ReadToc(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const bool msf = (cdb[1] & 0x02) != 0;
  uint8_t format = cdb[2] & 0x0f;
  // Where SFF-8020i had it.
  if (format == 0) format = cdb[9] >> 6;
  const uint8_t first = cdb[6];
  if (format == 0 && first > 1 && first != kLeadOut) {
    return task.Fail(InvalidFieldInCdb(6));
  }
  uint8_t* to = task.reply();
  size_t size = 0;
  switch (format) {
    case 0:
      size = FormattedToc(task.unit(), first, msf, to);
      break;
    case 1:
      size = SessionInformation(msf, to);
      break;
    case 2:
      size = RawToc(task.unit(), to);
      break;
    default:
      return task.Fail(InvalidFieldInCdb(2, 3));
  }
  StoreBe16(to, static_cast<uint16_t>(size - 2));
  to[2] = to[3] = 1;  // the first and last track, or session
  task.Reply(size, LoadBe16(cdb + 7));
}

// ---- What the drive and the disc are
// -----------------------------------------

constexpr uint16_t kProfileCdrom = 0x0008;
constexpr uint16_t kProfileDvdrom = 0x0010;

uint16_t CurrentProfile(const LogicalUnit& unit) {
  if (!unit.has_medium()) return 0;
  return unit.block_count() > kMaxCdBlocks ? kProfileDvdrom : kProfileCdrom;
}

// MMC-6 §5.2: one feature. `body` is padded to `body_size`, at most 8.
struct Feature {
  uint16_t code;
  uint8_t flags;  // VERSION, PERSISTENT, CURRENT
  uint8_t body_size;
  std::array<uint8_t, 8> body;
};

constexpr uint8_t kPersistent = 0x02;
constexpr uint8_t kCurrent = 0x01;

// Calls `use` for each feature, in ascending order of codes.
template <typename Use>
void ForEachFeature(const LogicalUnit& unit, Use use) {
  const uint16_t profile = CurrentProfile(unit);
  const uint8_t cd = profile == kProfileCdrom ? kCurrent : 0;
  const uint8_t dvd = profile == kProfileDvdrom ? kCurrent : 0;
  const auto any = static_cast<uint8_t>(cd | dvd);
  // Profile List.
  use({0x0000,
       kPersistent | kCurrent,
       8,
       {0x00, 0x10, dvd, 0, 0x00, 0x08, cd, 0}});
  // Core: the interface is SCSI; INQ2, DBE.
  use({0x0001, 0x08 | kPersistent | kCurrent, 8, {0, 0, 0, 1, 0x01}});
  // Morphing: events are polled for.
  use({0x0002, 0x04 | kPersistent | kCurrent, 4, {0x02}});
  // Removable Medium: tray, EJECT, LOCK.
  use({0x0003, kPersistent | kCurrent, 4, {0x29}});
  // Random Readable: blocks of 2048 bytes, one by one.
  use({0x0010, any, 8, {0, 0, 0x08, 0, 0, 1, 0, 0}});
  use({0x001e, cd, 4, {}});   // CD Read
  use({0x001f, dvd, 4, {}});  // DVD Read
}

// MMC-6 §6.5.
void GetConfiguration(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const uint8_t request_type = cdb[1] & 0x03;
  const uint16_t starting = LoadBe16(cdb + 2);
  if (request_type == 3) return task.Fail(InvalidFieldInCdb(1, 1));
  uint8_t* to = task.reply();
  size_t size = 8;
  ForEachFeature(task.unit(), [&](const Feature& feature) {
    const bool current = (feature.flags & kCurrent) != 0;
    const bool wanted =
        request_type == 2 ? feature.code == starting : feature.code >= starting;
    if (!wanted || (request_type == 1 && !current)) return;
    StoreBe16(to + size, feature.code);
    to[size + 2] = feature.flags;
    to[size + 3] = feature.body_size;
    std::copy_n(feature.body.begin(), feature.body_size, to + size + 4);
    size += size_t{4} + feature.body_size;
  });
  StoreBe32(to, static_cast<uint32_t>(size - 4));
  StoreBe16(to + 6, CurrentProfile(task.unit()));
  task.Reply(size, LoadBe16(cdb + 7));
}

// MMC-6 §6.6: media events only.
void GetEventStatusNotification(ScsiTask& task) {
  constexpr uint8_t kMediaClass = 4;
  constexpr uint8_t kMediaClassBit = 1 << kMediaClass;
  const uint8_t* cdb = task.cdb();
  LogicalUnit& unit = task.unit();
  if ((cdb[1] & 0x01) == 0) return task.Fail(InvalidFieldInCdb(1, 0));
  uint8_t* to = task.reply();
  to[3] = kMediaClassBit;
  if ((cdb[4] & kMediaClassBit) == 0) {
    StoreBe16(to, 2);
    to[2] = 0x80;  // NEA: no event available
    return task.Reply(4, LoadBe16(cdb + 7));
  }
  StoreBe16(to, 6);
  to[2] = kMediaClass;
  to[4] = unit.state().media_event;
  to[5] = static_cast<uint8_t>((unit.state().tray_open ? 0x01 : 0) |
                               (unit.has_medium() ? 0x02 : 0));
  unit.state().media_event = 0;
  task.Reply(8, LoadBe16(cdb + 7));
}

// MMC-6 §6.21: a complete disc of one session.
void ReadDiscInformation(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[1] & 0x07) != 0) return task.Fail(InvalidFieldInCdb(1, 2));
  uint8_t* to = task.reply();
  StoreBe16(to, 32);
  to[2] = 0x0e;  // the last session and the disc are complete
  to[3] = 1;     // first track
  to[4] = 1;     // sessions
  to[5] = 1;     // first track of the last session
  to[6] = 1;     // last track of the last session
  to[7] = 0x20;  // URU
  std::fill_n(to + 16, 8, uint8_t{0xff});  // no more lead-in, no lead-out
  task.Reply(34, LoadBe16(cdb + 7));
}

// MMC-6 §6.26, for the one track.
void ReadTrackInformation(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  const uint8_t kind = cdb[1] & 0x03;
  const uint32_t number = LoadBe32(cdb + 2);
  const bool found = (kind == 0 && number < task.unit().block_count()) ||
                     ((kind == 1 || kind == 2) && number == 1);
  if (!found) return task.Fail(InvalidFieldInCdb(2));
  uint8_t* to = task.reply();
  StoreBe16(to, 34);
  to[2] = 1;     // track
  to[3] = 1;     // session
  to[5] = 0x04;  // TRACK MODE: data
  to[6] = 0x01;  // DATA MODE 1
  StoreBe32(to + 24, DiscBlocks(task.unit()));
  task.Reply(36, LoadBe16(cdb + 7));
}

// MMC-6 §6.10.
void MechanismStatus(ScsiTask& task) {
  uint8_t* to = task.reply();
  if (task.unit().state().tray_open) to[1] = 0x10;  // DOOR OPEN
  task.Reply(8, LoadBe16(task.cdb() + 8));
}

// MMC-6 §6.42. A disc that is stopped starts by itself when it is read.
void StartStopUnit(ScsiTask& task) {
  constexpr uint8_t kNewMedia = 2;
  constexpr uint8_t kMediaRemoval = 3;
  const uint8_t* cdb = task.cdb();
  LogicalUnit& unit = task.unit();
  UnitState& state = unit.state();
  if ((cdb[4] & 0xf0) != 0) return task.Fail(InvalidFieldInCdb(4, 7));
  const bool start = (cdb[4] & 0x01) != 0;
  const bool load_or_eject = (cdb[4] & 0x02) != 0;
  if (!load_or_eject) return task.Finish(Status::kGood);
  if (!start && state.prevented) {
    return task.Fail(MakeSense(SenseKey::kIllegalRequest,
                               SenseCode::kMediumRemovalPrevented));
  }
  if (state.tray_open == start) {  // it moves
    state.tray_open = !start;
    if (start && unit.has_medium()) {
      unit.RaiseUnitAttention(UnitAttention::kMediumMayHaveChanged);
    }
    state.media_event = start ? kNewMedia : kMediaRemoval;
  }
  task.Finish(Status::kGood);
}

constexpr uint8_t kRead = kNeedsMedium;

constexpr CommandDescription kCommands[] = {
    {Opcode::kStartStopUnit,
     kNoServiceAction,
     0,
     6,
     {0x01, 0, 0, 0x03},
     StartStopUnit},
    {Opcode::kReadCapacity10, kNoServiceAction, kRead, 10, {}, ReadCapacity},
    {Opcode::kRead10,
     kNoServiceAction,
     kRead,
     10,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     Read10},
    {Opcode::kSeek10,
     kNoServiceAction,
     kRead,
     10,
     {0, 0xff, 0xff, 0xff, 0xff},
     Seek10},
    {Opcode::kReadTocPmaAtip,
     kNoServiceAction,
     kRead,
     10,
     {0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0xc0},
     ReadToc},
    {Opcode::kGetConfiguration,
     kNoServiceAction,
     kDespiteAttention,
     10,
     {0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff},
     GetConfiguration},
    {Opcode::kGetEventStatusNotification,
     kNoServiceAction,
     kDespiteAttention,
     10,
     {0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff},
     GetEventStatusNotification},
    {Opcode::kReadDiscInformation,
     kNoServiceAction,
     kRead,
     10,
     {0x07, 0, 0, 0, 0, 0, 0xff, 0xff},
     ReadDiscInformation},
    {Opcode::kReadTrackInformation,
     kNoServiceAction,
     kRead,
     10,
     {0x03, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     ReadTrackInformation},
    {Opcode::kRead12,
     kNoServiceAction,
     kRead,
     12,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     Read12},
    {Opcode::kMechanismStatus,
     kNoServiceAction,
     0,
     12,
     {0, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
     MechanismStatus},
    {Opcode::kReadCd,
     kNoServiceAction,
     kRead,
     12,
     {0x1c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8},
     ReadCd},
};

}  // namespace

absl::Span<const CommandDescription> CdromCommands() { return kCommands; }

}  // namespace bulkhead::scsi
