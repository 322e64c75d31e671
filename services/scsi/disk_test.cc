// Reading and writing a disk (SBC-3 §5).

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

using block::IoStatus;
using block::Operation;

constexpr uint64_t kBlocks = 2048;

Bytes DiskBytes(BusRig& rig, uint64_t offset, size_t size) {
  const auto begin =
      rig.disk().bytes().begin() + static_cast<ptrdiff_t>(offset);
  return Bytes(begin, begin + static_cast<ptrdiff_t>(size));
}

// SBC-3 §5.11 to §5.14 and §5.36 to §5.39: every length of CDB.
TEST(DiskTest, EveryReadGivesWhatItsWriteWrote) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(3 * 512);
  const Bytes write6 = {0x0a, 0x00, 0x00, 0x10, 3, 0};
  const Bytes read6 = {0x08, 0x00, 0x00, 0x10, 3, 0};
  EXPECT_TRUE(rig.Run(write6, data).good());
  EXPECT_EQ(rig.Run(read6).data_in, data);

  const Bytes more = Pattern(3 * 512, 2);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 100, 3), more).good());
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 100, 3)).data_in, more);
  EXPECT_TRUE(rig.Run(Cdb12(Opcode::kWrite12, 200, 3), data).good());
  EXPECT_EQ(rig.Run(Cdb12(Opcode::kRead12, 200, 3)).data_in, data);
  EXPECT_TRUE(rig.Run(Cdb16(Opcode::kWrite16, 300, 3), more).good());
  EXPECT_EQ(rig.Run(Cdb16(Opcode::kRead16, 300, 3)).data_in, more);
  EXPECT_EQ(DiskBytes(rig, 300 * 512, more.size()), more);
}

// SBC-3 §4.5, SAM-5 §5.14: the next command is told, the one after works.
TEST(DiskTest, DiskThatHasGrownRaisesUnitAttentionAndHasItsNewCapacity) {
  BusRig rig(kBlocks, 512, kBlocks * 512);
  rig.disk().mutable_geometry().capacity_bytes *= 2;
  const Outcome told = rig.Run(Cdb10(Opcode::kRead10, kBlocks, 1));
  EXPECT_EQ(told.key(), SenseKey::kUnitAttention);
  EXPECT_EQ(told.code(), SenseCode::kCapacityDataHasChanged);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kRead10, kBlocks, 1)).good());
  const Bytes capacity = rig.Run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}).data_in;
  EXPECT_EQ(LoadBe32(capacity.data()), 2 * kBlocks - 1);
}

// SBC-3 §5.11: 0 blocks of READ (6) are 256.
TEST(DiskTest, Read6OfZeroBlocksReads256) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x08, 0, 0, 0, 0, 0}).data_in.size(), 256u * 512);
}

TEST(DiskTest, LongTransfersComeInPieces) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(kBlocks * 512);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 0, kBlocks), data).good());
  EXPECT_EQ(rig.disk().bytes(), data);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 0, kBlocks)).data_in, data);
  for (const auto& record : rig.disk().log()) {
    EXPECT_LE(record.length_bytes, BusOptions().piece_bytes);
  }
}

TEST(DiskTest, LongTransfersWorkWithABackendThatTakesItsTime) {
  BusRig rig(kBlocks);
  rig.disk().CompleteInPoll();
  rig.Rebuild();
  rig.ClearAttention();
  const Bytes data = Pattern(kBlocks * 512);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 0, kBlocks), data).good());
  EXPECT_EQ(rig.disk().bytes(), data);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 0, kBlocks)).data_in, data);
}

TEST(DiskTest, LargeBlocksAreAddressedInTheirOwnUnits) {
  BusRig rig(256, 4096);
  const Bytes data = Pattern(4096);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 255, 1), data).good());
  EXPECT_EQ(DiskBytes(rig, 255 * 4096, 4096), data);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 256, 1)).code(),
            SenseCode::kLbaOutOfRange);
}

// SBC-3 §5.12: a TRANSFER LENGTH of 0 is no error.
TEST(DiskTest, NoBlocksMoveNothing) {
  BusRig rig(kBlocks);
  for (const Bytes& cdb :
       {Cdb10(Opcode::kRead10, 0, 0), Cdb10(Opcode::kWrite10, kBlocks, 0),
        Cdb16(Opcode::kRead16, kBlocks, 0), Cdb10(Opcode::kVerify10, 7, 0)}) {
    const Outcome outcome = rig.Run(cdb);
    EXPECT_TRUE(outcome.good());
    EXPECT_TRUE(outcome.data_in.empty());
  }
  EXPECT_TRUE(rig.disk().log().empty());
}

// SBC-3 §4.5: blocks beyond the last, and sums that wrap.
TEST(DiskTest, BeyondTheEndIsLbaOutOfRangeAndTouchesNothing) {
  BusRig rig(kBlocks);
  for (const Bytes& cdb : {
           Cdb10(Opcode::kRead10, kBlocks, 1),
           Cdb10(Opcode::kWrite10, kBlocks - 1, 2),
           Cdb12(Opcode::kRead12, 1, 0xffffffff),
           Cdb16(Opcode::kRead16, ~uint64_t{0}, 2),
           Cdb16(Opcode::kWrite16, ~uint64_t{0}, 0xffffffff),
           Cdb16(Opcode::kVerify16, uint64_t{1} << 63, 1),
           Cdb16(Opcode::kWriteSame16, kBlocks - 1, 2),
           Cdb10(Opcode::kSynchronizeCache10, kBlocks + 1, 0),
       }) {
    const Outcome outcome = rig.Run(cdb, Bytes(1024));
    EXPECT_EQ(outcome.status, Status::kCheckCondition);
    EXPECT_EQ(outcome.key(), SenseKey::kIllegalRequest);
    EXPECT_EQ(outcome.code(), SenseCode::kLbaOutOfRange);
    EXPECT_EQ(outcome.data_out_bytes, 0u);
  }
  EXPECT_TRUE(rig.disk().log().empty());
}

// SBC-3 §4.13: FUA means on the medium before the status.
TEST(DiskTest, ForcedWritesAreDurable) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 0, 1, /*flags=*/0x08), Bytes(512))
                  .good());
  EXPECT_TRUE(rig.disk().log().back().force_unit_access);

  rig.disk().ClearLog();
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 0, 1024, /*flags=*/0x08),
                      Bytes(1024 * 512))
                  .good());
  EXPECT_EQ(rig.disk().log().back().operation, Operation::kFlush);
}

TEST(DiskTest, SynchronizeCacheFlushes) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kSynchronizeCache10, 0, 0)).good());
  EXPECT_TRUE(rig.Run(Cdb16(Opcode::kSynchronizeCache16, 5, 9)).good());
  EXPECT_EQ(rig.disk().Count(Operation::kFlush), 2u);
}

// SPC-4 §4.5.3: INFORMATION is the LBA where it went wrong.
TEST(DiskTest, MediumErrorsNameTheBlock) {
  BusRig rig(kBlocks);
  rig.disk().FailAt(Operation::kRead, 700 * 512, IoStatus::kIoError);
  const Outcome read = rig.Run(Cdb10(Opcode::kRead10, 700, 1));
  EXPECT_EQ(read.key(), SenseKey::kMediumError);
  EXPECT_EQ(read.code(), SenseCode::kUnrecoveredReadError);
  EXPECT_EQ(read.sense[0], 0xf0);  // VALID
  EXPECT_EQ(LoadBe32(&read.sense[3]), 700u);

  rig.disk().FailAt(Operation::kWrite, 9 * 512, IoStatus::kIoError);
  const Outcome write = rig.Run(Cdb10(Opcode::kWrite10, 9, 1), Bytes(512));
  EXPECT_EQ(write.code(), SenseCode::kWriteError);
  EXPECT_EQ(LoadBe32(&write.sense[3]), 9u);
}

TEST(DiskTest, BackendFailuresHaveSenseOfTheirOwn) {
  struct Case {
    IoStatus status;
    SenseKey key;
    SenseCode code;
  };
  for (const Case& expected : {
           Case{IoStatus::kNoSpace, SenseKey::kDataProtect,
                SenseCode::kSpaceAllocationFailed},
           Case{IoStatus::kReadOnly, SenseKey::kDataProtect,
                SenseCode::kWriteProtected},
           Case{IoStatus::kUnavailable, SenseKey::kHardwareError,
                SenseCode::kInternalTargetFailure},
           Case{IoStatus::kCorrupt, SenseKey::kMediumError,
                SenseCode::kWriteError},
       }) {
    BusRig rig(kBlocks);
    rig.disk().FailAt(Operation::kWrite, 0, expected.status);
    const Outcome outcome = rig.Run(Cdb10(Opcode::kWrite10, 0, 1), Bytes(512));
    EXPECT_EQ(outcome.key(), expected.key);
    EXPECT_EQ(outcome.code(), expected.code);
  }
}

TEST(DiskTest, FailedFlushIsAnError) {
  BusRig rig(kBlocks);
  rig.disk().FailAt(Operation::kFlush, 0, IoStatus::kIoError);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kSynchronizeCache10, 0, 0)).key(),
            SenseKey::kMediumError);
}

// A read that fails in its second piece has given the first one.
TEST(DiskTest, ErrorInTheMiddleEndsTheTransferThere) {
  BusRig rig(kBlocks);
  const size_t piece = BusOptions().piece_bytes;
  rig.disk().FailAt(Operation::kRead, piece, IoStatus::kIoError);
  const Outcome outcome = rig.Run(Cdb10(Opcode::kRead10, 0, 1024));
  EXPECT_EQ(outcome.key(), SenseKey::kMediumError);
  EXPECT_EQ(outcome.data_in.size(), piece);
}

// SBC-3 §4.14: a read-only medium.
TEST(DiskTest, ReadOnlyDiskRefusesEveryWrite) {
  BusRig rig(kBlocks);
  rig.disk().mutable_geometry().read_only = true;
  for (const Bytes& cdb : {
           Bytes{0x0a, 0, 0, 0, 1, 0},
           Cdb10(Opcode::kWrite10, 0, 1),
           Cdb16(Opcode::kWrite16, 0, 1),
           Cdb10(Opcode::kWriteAndVerify10, 0, 1),
           Cdb10(Opcode::kWriteSame10, 0, 1),
           Cdb16(Opcode::kCompareAndWrite, 0, 0),
       }) {
    const Outcome outcome = rig.Run(cdb, Bytes(512));
    EXPECT_EQ(outcome.key(), SenseKey::kDataProtect);
    EXPECT_EQ(outcome.code(), SenseCode::kWriteProtected);
  }
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kRead10, 0, 1)).good());
  // WP in MODE SENSE's header (SBC-3 §6.5.1).
  EXPECT_EQ(rig.Run({0x1a, 0, 0x3f, 0, 0xff, 0}).data_in[2] & 0x80, 0x80);
  EXPECT_EQ(rig.disk().Count(Operation::kWrite), 0u);
}

// The initiator that stops in the middle of its data has not written it all.
TEST(DiskTest, WriteWithTooFewBytesIsAborted) {
  BusRig rig(kBlocks);
  const Outcome outcome = rig.Run(Cdb10(Opcode::kWrite10, 0, 4), Bytes(700));
  EXPECT_EQ(outcome.key(), SenseKey::kAbortedCommand);
  EXPECT_EQ(outcome.code(), SenseCode::kDataPhaseError);
  EXPECT_EQ(rig.disk().Count(Operation::kWrite), 0u);
}

// SBC-3 §5.16, §5.17.
TEST(DiskTest, ReadCapacityNamesTheLastBlock) {
  BusRig rig(kBlocks);
  const Bytes ten = rig.Run(Cdb10(Opcode::kReadCapacity10, 0, 0)).data_in;
  ASSERT_EQ(ten.size(), 8u);
  EXPECT_EQ(LoadBe32(&ten[0]), kBlocks - 1);
  EXPECT_EQ(LoadBe32(&ten[4]), 512u);

  Bytes cdb = Cdb16(Opcode::kServiceActionIn16, 0, 32, kReadCapacity16);
  const Bytes sixteen = rig.Run(cdb).data_in;
  ASSERT_EQ(sixteen.size(), 32u);
  EXPECT_EQ(LoadBe64(&sixteen[0]), kBlocks - 1);
  EXPECT_EQ(LoadBe32(&sixteen[8]), 512u);
  EXPECT_EQ(sixteen[13], 3);            // 4096-byte physical blocks
  EXPECT_EQ(sixteen[14] & 0xc0, 0xc0);  // LBPME, LBPRZ

  cdb = Cdb16(Opcode::kServiceActionIn16, 0, 12, kReadCapacity16);
  EXPECT_EQ(rig.Run(cdb).data_in.size(), 12u);
}

}  // namespace
}  // namespace bulkhead::scsi
