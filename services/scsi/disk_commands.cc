// Commands of SBC-3: a direct access block device.

#include <algorithm>
#include <limits>

#include "services/runtime/endian.h"
#include "services/scsi/commands.h"

namespace bulkhead::scsi {
namespace {

constexpr uint8_t kProtectField = 0xe0;  // RDPROTECT and its like, byte 1
constexpr uint8_t kFua = 0x08;

struct Extent {
  uint64_t lba;
  uint64_t blocks;
};

Extent Extent10(const uint8_t* cdb) {
  return {LoadBe32(cdb + 2), LoadBe16(cdb + 7)};
}
Extent Extent12(const uint8_t* cdb) {
  return {LoadBe32(cdb + 2), LoadBe32(cdb + 6)};
}
Extent Extent16(const uint8_t* cdb) {
  return {LoadBe64(cdb + 2), LoadBe32(cdb + 10)};
}
// SBC-3 §5.11: a transfer length of 0 is 256.
Extent Extent6(const uint8_t* cdb) {
  return {LoadBe24(cdb + 1) & 0x1fffff, cdb[4] == 0 ? 256u : cdb[4]};
}

// Protection information does not exist here (SBC-3 §4.22).
bool FailIfProtection(ScsiTask& task) {
  if ((task.cdb()[1] & kProtectField) == 0) return false;
  task.Fail(InvalidFieldInCdb(1, 7));
  return true;
}

// ---- READ, WRITE
// -------------------------------------------------------------

void ReadExtent(ScsiTask& task, Extent extent) {
  MediumRange range;
  if (CheckedRange(task, extent.lba, extent.blocks, &range)) task.Read(range);
}

void WriteExtent(ScsiTask& task, Extent extent, bool force_unit_access) {
  MediumRange range;
  if (CheckedRange(task, extent.lba, extent.blocks, &range)) {
    task.Write(range, force_unit_access);
  }
}

void Read6(ScsiTask& task) { ReadExtent(task, Extent6(task.cdb())); }
void Write6(ScsiTask& task) { WriteExtent(task, Extent6(task.cdb()), false); }

// FUA of a read: nothing is cached that the backend would not give.
template <Extent (*kExtent)(const uint8_t*)>
void Read(ScsiTask& task) {
  if (!FailIfProtection(task)) ReadExtent(task, kExtent(task.cdb()));
}

template <Extent (*kExtent)(const uint8_t*)>
void Write(ScsiTask& task) {
  if (FailIfProtection(task)) return;
  WriteExtent(task, kExtent(task.cdb()), (task.cdb()[1] & kFua) != 0);
}

// ---- VERIFY, WRITE AND VERIFY, COMPARE AND WRITE
// -----------------------------

template <Extent (*kExtent)(const uint8_t*)>
void Verify(ScsiTask& task) {
  if (FailIfProtection(task)) return;
  const Extent extent = kExtent(task.cdb());
  const uint8_t byte_check = task.cdb()[1] >> 1 & 3;
  // 10b is reserved; 11b (one block for all) is not supported.
  if (byte_check > 1) return task.Fail(InvalidFieldInCdb(1, 2));
  MediumRange range;
  if (!CheckedRange(task, extent.lba, extent.blocks, &range)) return;
  return byte_check == 1 ? task.VerifyBytes(range) : task.Verify(range);
}

// The medium is always compared byte for byte, whatever BYTCHK asks.
template <Extent (*kExtent)(const uint8_t*)>
void WriteAndVerify(ScsiTask& task) {
  if (FailIfProtection(task)) return;
  if ((task.cdb()[1] >> 1 & 3) > 1) return task.Fail(InvalidFieldInCdb(1, 2));
  const Extent extent = kExtent(task.cdb());
  MediumRange range;
  if (CheckedRange(task, extent.lba, extent.blocks, &range)) {
    task.WriteAndVerify(range);
  }
}

void CompareAndWrite(ScsiTask& task) {
  if (FailIfProtection(task)) return;
  const uint8_t* cdb = task.cdb();
  const uint64_t lba = LoadBe64(cdb + 2);
  const uint8_t blocks = cdb[13];
  MediumRange range;
  if (!CheckedRange(task, lba, blocks, &range)) return;
  if (range.length_bytes > task.max_compare_and_write_bytes()) {
    return task.Fail(InvalidFieldInCdb(13));
  }
  task.CompareAndWrite(range, (cdb[1] & kFua) != 0);
}

// ---- SYNCHRONIZE CACHE
// -------------------------------------------------------

// The whole cache is written, whatever range is named. With IMMED the status
// may come first (SBC-3 §5.26); here it never does, so that an error is told.
void SynchronizeCacheExtent(ScsiTask& task, Extent extent) {
  const uint64_t count = task.unit().block_count();
  if (extent.lba > count || extent.blocks > count - extent.lba) {
    return task.Fail(
        MakeSense(SenseKey::kIllegalRequest, SenseCode::kLbaOutOfRange));
  }
  task.Flush();
}

template <Extent (*kExtent)(const uint8_t*)>
void SynchronizeCache(ScsiTask& task) {
  SynchronizeCacheExtent(task, kExtent(task.cdb()));
}

// ---- UNMAP, WRITE SAME
// -------------------------------------------------------

// SBC-3 §5.28.2. All descriptors are checked before the first is acted on.
void UnmapList(ScsiTask& task, absl::Span<const uint8_t> list) {
  if (list.size() < 8) {
    return task.Fail(MakeSense(SenseKey::kIllegalRequest,
                               SenseCode::kParameterListLengthError));
  }
  const size_t bytes = std::min<size_t>(LoadBe16(&list[2]), list.size() - 8);
  const size_t count = bytes / 16;
  if (count > kMaxUnmapDescriptors) {
    return task.Fail(InvalidFieldInParameterList(2));
  }
  const uint64_t capacity = task.unit().block_count();
  uint64_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* descriptor = &list[8 + 16 * i];
    const uint64_t lba = LoadBe64(descriptor);
    const uint32_t blocks = LoadBe32(descriptor + 8);
    if (lba > capacity || blocks > capacity - lba) {
      return task.Fail(
          MakeSense(SenseKey::kIllegalRequest, SenseCode::kLbaOutOfRange));
    }
    total += blocks;
  }
  if (total > kMaxUnmapBlocks) {
    return task.Fail(InvalidFieldInParameterList(8));
  }
  task.Unmap(count);
}

void Unmap(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[1] & 0x01) != 0)
    return task.Fail(InvalidFieldInCdb(1, 0));  // ANCHOR
  const uint16_t size = LoadBe16(cdb + 7);
  if (size == 0) return task.Finish(Status::kGood);
  task.Receive(size, UnmapList);
}

bool AllZero(absl::Span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](uint8_t byte) { return byte == 0; });
}

Extent WriteSameExtent(const uint8_t* cdb) {
  return cdb[0] == static_cast<uint8_t>(Opcode::kWriteSame10) ? Extent10(cdb)
                                                              : Extent16(cdb);
}

void WriteSameBlock(ScsiTask& task, absl::Span<const uint8_t> block) {
  const Extent extent = WriteSameExtent(task.cdb());
  MediumRange range;
  if (!CheckedRange(task, extent.lba, extent.blocks, &range)) return;
  const bool unmap = (task.cdb()[1] & 0x08) != 0;
  if (AllZero(block) && task.unit().backend()->geometry().can_write_zeroes) {
    return task.WriteZeroes(range, unmap);
  }
  task.WritePattern(range);
}

void WriteSame(ScsiTask& task) {
  if (FailIfProtection(task)) return;
  const uint8_t* cdb = task.cdb();
  const bool no_data = cdb[0] == static_cast<uint8_t>(Opcode::kWriteSame16) &&
                       (cdb[1] & 0x01) != 0;
  const bool unmap = (cdb[1] & 0x08) != 0;
  if ((cdb[1] & 0x10) != 0)
    return task.Fail(InvalidFieldInCdb(1, 4));  // ANCHOR
  // PBDATA and LBDATA of older editions; NDOB has bit 0 of the long one only.
  if ((cdb[1] & 0x06) != 0) return task.Fail(InvalidFieldInCdb(1, 2));
  if ((cdb[1] & 0x01) != 0 && !no_data)
    return task.Fail(InvalidFieldInCdb(1, 0));
  if (unmap && !task.unit().can_unmap())
    return task.Fail(InvalidFieldInCdb(1, 3));

  const Extent extent = WriteSameExtent(cdb);
  if (extent.blocks == 0 || extent.blocks > kMaxWriteSameBlocks) {
    const bool ten = cdb[0] == static_cast<uint8_t>(Opcode::kWriteSame10);
    return task.Fail(InvalidFieldInCdb(ten ? 7 : 10));
  }
  MediumRange range;
  if (!CheckedRange(task, extent.lba, extent.blocks, &range)) return;
  if (!no_data) {
    return task.Receive(task.unit().block_size_bytes(), WriteSameBlock);
  }
  if (task.unit().backend()->geometry().can_write_zeroes) {
    return task.WriteZeroes(range, unmap);
  }
  task.reply();  // zeroes, for at least one block
  task.WritePattern(range);
}

// ---- READ CAPACITY and the rest
// ----------------------------------------------

void ReadCapacity10(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  if ((cdb[8] & 0x01) != 0) return task.Fail(InvalidFieldInCdb(8, 0));  // PMI
  if (LoadBe32(cdb + 2) != 0) return task.Fail(InvalidFieldInCdb(2));
  uint8_t* to = task.reply();
  StoreBe32(to, static_cast<uint32_t>(
                    std::min<uint64_t>(task.unit().block_count() - 1,
                                       std::numeric_limits<uint32_t>::max())));
  StoreBe32(to + 4, task.unit().block_size_bytes());
  task.Reply(8, 8);
}

void ReadCapacity16(ScsiTask& task) {
  const LogicalUnit& unit = task.unit();
  const uint8_t* cdb = task.cdb();
  if ((cdb[14] & 0x01) != 0) return task.Fail(InvalidFieldInCdb(14, 0));
  if (LoadBe64(cdb + 2) != 0) return task.Fail(InvalidFieldInCdb(2));
  uint8_t* to = task.reply();
  StoreBe64(to, unit.block_count() - 1);
  StoreBe32(to + 8, unit.block_size_bytes());
  // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT: a write that is smaller than
  // the backend's best granularity costs a read.
  uint8_t exponent = 0;
  while (exponent < 3 &&
         (uint64_t{unit.block_size_bytes()} << (exponent + 1)) <=
             unit.backend()->geometry().optimal_bytes) {
    ++exponent;
  }
  to[13] = exponent;
  if (unit.can_unmap()) to[14] |= 0x80;            // LBPME
  if (unit.unmapped_reads_zero()) to[14] |= 0x40;  // LBPRZ
  task.Reply(32, LoadBe32(cdb + 10));
}

void StartStopUnit(ScsiTask& task) {
  const uint8_t* cdb = task.cdb();
  // POWER CONDITION: the unit has none (it has no power condition mode page).
  if ((cdb[4] & 0xf0) != 0) return task.Fail(InvalidFieldInCdb(4, 7));
  const bool start = (cdb[4] & 0x01) != 0;
  const bool no_flush = (cdb[4] & 0x04) != 0;
  task.unit().state().stopped = !start;
  if (start || no_flush) return task.Finish(Status::kGood);
  task.Flush();
}

// SBC-3 §5.18: no block was ever reassigned. The list has the format that was
// asked for, and no entries.
void ReadDefectData10(ScsiTask& task) {
  uint8_t* to = task.reply();
  to[1] = task.cdb()[2] & 0x1f;
  task.Reply(4, LoadBe16(task.cdb() + 7));
}

void ReadDefectData12(ScsiTask& task) {
  uint8_t* to = task.reply();
  to[1] = task.cdb()[1] & 0x1f;
  task.Reply(8, LoadBe32(task.cdb() + 6));
}

constexpr uint8_t kAccess = kNeedsMedium;
constexpr uint8_t kModify = kNeedsMedium | kWritesMedium;

constexpr CommandDescription kCommands[] = {
    {Opcode::kRead6,
     kNoServiceAction,
     kAccess,
     6,
     {0x1f, 0xff, 0xff, 0xff},
     Read6},
    {Opcode::kWrite6,
     kNoServiceAction,
     kModify,
     6,
     {0x1f, 0xff, 0xff, 0xff},
     Write6},
    {Opcode::kStartStopUnit,
     kNoServiceAction,
     0,
     6,
     {0x01, 0, 0, 0x05},
     StartStopUnit},
    {Opcode::kReadCapacity10,
     kNoServiceAction,
     kAccess,
     10,
     {},
     ReadCapacity10},
    {Opcode::kRead10,
     kNoServiceAction,
     kAccess,
     10,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     Read<Extent10>},
    {Opcode::kWrite10,
     kNoServiceAction,
     kModify,
     10,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     Write<Extent10>},
    {Opcode::kWriteAndVerify10,
     kNoServiceAction,
     kModify,
     10,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     WriteAndVerify<Extent10>},
    {Opcode::kVerify10,
     kNoServiceAction,
     kAccess,
     10,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     Verify<Extent10>},
    {Opcode::kSynchronizeCache10,
     kNoServiceAction,
     kAccess,
     10,
     {0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     SynchronizeCache<Extent10>},
    {Opcode::kReadDefectData10,
     kNoServiceAction,
     0,
     10,
     {0, 0x1f, 0, 0, 0, 0, 0xff, 0xff},
     ReadDefectData10},
    {Opcode::kWriteSame10,
     kNoServiceAction,
     kModify,
     10,
     {0x08, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff},
     WriteSame},
    {Opcode::kUnmap,
     kNoServiceAction,
     kModify | kNeedsUnmap,
     10,
     {0, 0, 0, 0, 0, 0, 0xff, 0xff},
     Unmap},
    {Opcode::kRead16,
     kNoServiceAction,
     kAccess,
     16,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     Read<Extent16>},
    {Opcode::kCompareAndWrite,
     kNoServiceAction,
     kModify | kRunsAlone,
     16,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff},
     CompareAndWrite},
    {Opcode::kWrite16,
     kNoServiceAction,
     kModify,
     16,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     Write<Extent16>},
    {Opcode::kWriteAndVerify16,
     kNoServiceAction,
     kModify,
     16,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     WriteAndVerify<Extent16>},
    {Opcode::kVerify16,
     kNoServiceAction,
     kAccess,
     16,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     Verify<Extent16>},
    {Opcode::kSynchronizeCache16,
     kNoServiceAction,
     kAccess,
     16,
     {0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     SynchronizeCache<Extent16>},
    {Opcode::kWriteSame16,
     kNoServiceAction,
     kModify,
     16,
     {0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0xff},
     WriteSame},
    {Opcode::kServiceActionIn16,
     kReadCapacity16,
     kAccess,
     16,
     {0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     ReadCapacity16},
    {Opcode::kRead12,
     kNoServiceAction,
     kAccess,
     12,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     Read<Extent12>},
    {Opcode::kWrite12,
     kNoServiceAction,
     kModify,
     12,
     {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     Write<Extent12>},
    {Opcode::kWriteAndVerify12,
     kNoServiceAction,
     kModify,
     12,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     WriteAndVerify<Extent12>},
    {Opcode::kVerify12,
     kNoServiceAction,
     kAccess,
     12,
     {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
     Verify<Extent12>},
    {Opcode::kReadDefectData12,
     kNoServiceAction,
     0,
     12,
     {0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
     ReadDefectData12},
};

}  // namespace

absl::Span<const CommandDescription> DiskCommands() { return kCommands; }

}  // namespace bulkhead::scsi
