// MODE SENSE, MODE SELECT and the mode pages.
//
// A list of MODE SELECT is checked whole against the pages as they are: a byte
// may differ from the current one only in bits that are changeable. Nothing
// changes before all of it has been found right.
//
// SPEC  SPC-4 §6.13 to §6.16 and §7.5; SBC-3 §6.5; MMC-6 §7.

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

// PAGE CONTROL (SPC-4 §6.15.1, table 217).
enum class PageControl : uint8_t { kCurrent, kChangeable, kDefault, kSaved };

constexpr size_t kMaxPageBytes = 32;

struct Page {
  uint8_t code;
  uint8_t size_bytes;  // header included
  UnitKind only;       // kAbsent: for every kind
  // The page for these parameters, from its third byte.
  void (*fill)(const LogicalUnit& unit, const ModeParameters& mode,
               uint8_t* page);
  std::array<uint8_t, 6> changeable;  // of the first bytes; the rest is fixed
};

void ErrorRecovery(const LogicalUnit& unit, const ModeParameters&,
                   uint8_t* page) {
  if (unit.kind() == UnitKind::kDisk) page[2] = 0xc0;  // AWRE, ARRE
}

void Nothing(const LogicalUnit&, const ModeParameters&, uint8_t*) {}

void Caching(const LogicalUnit&, const ModeParameters& mode, uint8_t* page) {
  if (mode.write_cache_enabled) page[2] = 0x04;  // WCE
}

void Control(const LogicalUnit&, const ModeParameters& mode, uint8_t* page) {
  page[2] = 0x02;                                   // GLTSD
  if (mode.descriptor_sense) page[2] |= 0x04;       // D_SENSE
  page[3] = 0x10;                                   // unrestricted reordering
  if (mode.software_write_protect) page[4] = 0x08;  // SWP
  StoreBe16(page + 8, 0xffff);                      // BUSY TIMEOUT PERIOD: none
}

// MMC-6 §7.6 in older editions: what the drive can do.
void CdCapabilities(const LogicalUnit& unit, const ModeParameters&,
                    uint8_t* page) {
  page[2] = 0x3b;  // reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R
  page[4] = 0x70;  // multi-session, mode 2 forms 1 and 2
  page[6] = 0x29;  // tray, EJECT, LOCK
  if (unit.state().prevented) page[6] |= 0x02;  // LOCK STATE
  StoreBe16(page + 8, 7056);                    // obsolete speeds: 40 x
  StoreBe16(page + 14, 7056);
}

constexpr Page kPages[] = {
    {kModeErrorRecovery, 12, UnitKind::kAbsent, ErrorRecovery, {}},
    {kModeDisconnectReconnect, 16, UnitKind::kDisk, Nothing, {}},
    {kModeCaching, 20, UnitKind::kDisk, Caching, {0, 0, 0x04}},
    {kModeControl, 12, UnitKind::kDisk, Control, {0, 0, 0x04, 0, 0x08}},
    {kModeControl, 12, UnitKind::kCdrom, Control, {0, 0, 0x04}},
    {kModeCdAudioControl, 16, UnitKind::kCdrom, Nothing, {}},
    {kModeInformationalExceptions, 12, UnitKind::kAbsent, Nothing, {}},
    {kModeCdCapabilities, 22, UnitKind::kCdrom, CdCapabilities, {}},
};

bool HasPage(const LogicalUnit& unit, const Page& page) {
  return page.only == UnitKind::kAbsent || page.only == unit.kind();
}

const Page* FindPage(const LogicalUnit& unit, uint8_t code) {
  for (const Page& page : kPages) {
    if (page.code == code && HasPage(unit, page)) return &page;
  }
  return nullptr;
}

void FillPage(const LogicalUnit& unit, const Page& page, PageControl control,
              uint8_t* to) {
  std::memset(to, 0, page.size_bytes);
  if (control == PageControl::kChangeable) {
    std::copy(page.changeable.begin(), page.changeable.end(), to);
  } else {
    page.fill(
        unit,
        control == PageControl::kDefault ? ModeParameters{} : unit.state().mode,
        to);
  }
  to[0] = page.code;  // PS 0: pages cannot be saved
  to[1] = static_cast<uint8_t>(page.size_bytes - 2);
}

// ---- MODE SENSE
// --------------------------------------------------------------

size_t ShortBlockDescriptor(const LogicalUnit& unit, uint8_t* to) {
  StoreBe32(to, static_cast<uint32_t>(std::min<uint64_t>(
                    unit.block_count(), std::numeric_limits<uint32_t>::max())));
  StoreBe24(to + 5, unit.block_size_bytes());
  return 8;
}

size_t LongBlockDescriptor(const LogicalUnit& unit, uint8_t* to) {
  StoreBe64(to, unit.block_count());
  StoreBe32(to + 12, unit.block_size_bytes());
  return 16;
}

// SBC-3 §6.5.1: WP and DPOFUA.
uint8_t DeviceSpecificParameter(const LogicalUnit& unit) {
  if (unit.kind() != UnitKind::kDisk) return 0;
  const bool protect =
      unit.read_only() || unit.state().mode.software_write_protect;
  return static_cast<uint8_t>(0x10 | (protect ? 0x80 : 0));
}

// Appends the pages asked for; 0: there is no such page.
size_t FillPages(const LogicalUnit& unit, uint8_t code, PageControl control,
                 uint8_t* to) {
  size_t size = 0;
  for (const Page& page : kPages) {
    if (!HasPage(unit, page)) continue;
    if (code != kModeAllPages && code != page.code) continue;
    FillPage(unit, page, control, to + size);
    size += page.size_bytes;
  }
  return size;
}

void ModeSense(ScsiTask& task, bool ten, uint16_t allocation_length) {
  const LogicalUnit& unit = task.unit();
  const uint8_t* cdb = task.cdb();
  const bool no_descriptors = (cdb[1] & 0x08) != 0;
  const bool long_lba = ten && (cdb[1] & 0x10) != 0;
  const auto control = static_cast<PageControl>(cdb[2] >> 6);
  const uint8_t code = cdb[2] & 0x3f;
  const uint8_t subpage = cdb[3];

  if (control == PageControl::kSaved) {
    return task.Fail(MakeSense(SenseKey::kIllegalRequest,
                               SenseCode::kSavingParametersNotSupported));
  }
  // No page has subpages, so "all subpages" are the pages themselves.
  if (subpage != 0 && subpage != kModeAllSubpages) {
    return task.Fail(InvalidFieldInCdb(3));
  }
  uint8_t* to = task.reply();
  const size_t header = ten ? 8 : 4;
  size_t size = header;
  if (!no_descriptors && unit.kind() == UnitKind::kDisk) {
    size += long_lba ? LongBlockDescriptor(unit, to + size)
                     : ShortBlockDescriptor(unit, to + size);
  }
  const size_t descriptors = size - header;
  const size_t pages = FillPages(unit, code, control, to + size);
  if (pages == 0) return task.Fail(InvalidFieldInCdb(2, 5));
  size += pages;

  if (ten) {
    StoreBe16(to, static_cast<uint16_t>(size - 2));
    to[3] = DeviceSpecificParameter(unit);
    to[4] = long_lba ? 1 : 0;
    StoreBe16(to + 6, static_cast<uint16_t>(descriptors));
  } else {
    to[0] = static_cast<uint8_t>(size - 1);
    to[2] = DeviceSpecificParameter(unit);
    to[3] = static_cast<uint8_t>(descriptors);
  }
  task.Reply(size, allocation_length);
}

// ---- MODE SELECT
// -------------------------------------------------------------

// What is wrong with a parameter list, and what it would change.
struct Selection {
  bool valid = false;
  Sense why;
  ModeParameters mode;
};

Selection Wrong(const Sense& why) { return {.why = why}; }

Selection WrongLength() {
  return Wrong(MakeSense(SenseKey::kIllegalRequest,
                         SenseCode::kParameterListLengthError));
}

// The block size cannot be changed, and neither can the number of blocks: 0
// and all ones ask for what is there (SBC-3 §6.5.2).
bool SameGeometry(const LogicalUnit& unit, const uint8_t* descriptor,
                  bool long_lba) {
  const uint64_t blocks =
      long_lba ? LoadBe64(descriptor) : LoadBe32(descriptor);
  const uint32_t size =
      long_lba ? LoadBe32(descriptor + 12) : LoadBe24(descriptor + 5);
  const uint64_t all_ones = long_lba ? std::numeric_limits<uint64_t>::max()
                                     : std::numeric_limits<uint32_t>::max();
  return size == unit.block_size_bytes() &&
         (blocks == 0 || blocks == all_ones || blocks == unit.block_count());
}

Selection CheckPages(const LogicalUnit& unit, absl::Span<const uint8_t> list,
                     size_t at) {
  Selection selection = {.valid = true, .mode = unit.state().mode};
  while (at < list.size()) {
    const auto left = list.subspan(at);
    if (left.size() < 2) return WrongLength();
    const auto where = static_cast<uint16_t>(at);
    const uint8_t code = left[0] & 0x3f;
    // SPF 1: no page has subpages. 3Fh names no page of its own.
    const Page* page = (left[0] & 0x40) != 0 ? nullptr : FindPage(unit, code);
    if (page == nullptr) return Wrong(InvalidFieldInParameterList(where, 5));
    if (left[1] != page->size_bytes - 2) {
      return Wrong(InvalidFieldInParameterList(where + 1));
    }
    if (left.size() < page->size_bytes) return WrongLength();

    uint8_t current[kMaxPageBytes];
    uint8_t changeable[kMaxPageBytes];
    FillPage(unit, *page, PageControl::kCurrent, current);
    FillPage(unit, *page, PageControl::kChangeable, changeable);
    for (size_t i = 2; i < page->size_bytes; ++i) {
      const auto differs = static_cast<uint8_t>(left[i] ^ current[i]);
      if ((differs & ~changeable[i]) != 0) {
        return Wrong(
            InvalidFieldInParameterList(static_cast<uint16_t>(at + i)));
      }
    }
    if (code == kModeCaching) {
      selection.mode.write_cache_enabled = (left[2] & 0x04) != 0;
    } else if (code == kModeControl) {
      selection.mode.descriptor_sense = (left[2] & 0x04) != 0;
      selection.mode.software_write_protect = (left[4] & 0x08) != 0;
    }
    at += page->size_bytes;
  }
  return selection;
}

Selection CheckList(const LogicalUnit& unit, absl::Span<const uint8_t> list,
                    bool ten) {
  const size_t header = ten ? 8 : 4;
  if (list.size() < header) return WrongLength();
  const bool long_lba = ten && (list[4] & 0x01) != 0;
  const size_t descriptor_bytes = ten ? LoadBe16(&list[6]) : list[3];
  const size_t one = long_lba ? 16 : 8;
  if (descriptor_bytes != 0 && descriptor_bytes != one) {
    return Wrong(InvalidFieldInParameterList(ten ? 6 : 3));
  }
  if (list.size() < header + descriptor_bytes) return WrongLength();
  if (descriptor_bytes != 0 && !SameGeometry(unit, &list[header], long_lba)) {
    return Wrong(InvalidFieldInParameterList(static_cast<uint16_t>(header)));
  }
  return CheckPages(unit, list, header + descriptor_bytes);
}

void ApplySelection(ScsiTask& task, absl::Span<const uint8_t> list, bool ten) {
  LogicalUnit& unit = task.unit();
  const Selection selection = CheckList(unit, list, ten);
  if (!selection.valid) return task.Fail(selection.why);
  const bool was_cached = unit.state().mode.write_cache_enabled;
  unit.state().mode = selection.mode;
  unit.ApplyMode();
  // SBC-3 §6.5.5: what is in the cache is written before it is turned off.
  if (was_cached && !selection.mode.write_cache_enabled &&
      unit.backend() != nullptr) {
    return task.Flush();
  }
  task.Finish(Status::kGood);
}

void UseList6(ScsiTask& task, absl::Span<const uint8_t> list) {
  ApplySelection(task, list, false);
}
void UseList10(ScsiTask& task, absl::Span<const uint8_t> list) {
  ApplySelection(task, list, true);
}

void ModeSelect(ScsiTask& task, uint16_t list_length,
                ScsiTask::UseParameters use) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[1] & 0x10) == 0) return task.Fail(InvalidFieldInCdb(1, 4));  // PF
  if ((cdb[1] & 0x01) != 0) return task.Fail(InvalidFieldInCdb(1, 0));  // SP
  if (list_length == 0) return task.Finish(Status::kGood);
  task.Receive(list_length, use);
}

}  // namespace

void ModeSense6(ScsiTask& task) { ModeSense(task, false, task.cdb()[4]); }
void ModeSense10(ScsiTask& task) {
  ModeSense(task, true, LoadBe16(task.cdb() + 7));
}
void ModeSelect6(ScsiTask& task) { ModeSelect(task, task.cdb()[4], UseList6); }
void ModeSelect10(ScsiTask& task) {
  ModeSelect(task, LoadBe16(task.cdb() + 7), UseList10);
}

}  // namespace bulkhead::scsi
