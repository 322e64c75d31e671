// Commands that change or compare blocks without a plain transfer: UNMAP, WRITE
// SAME, VERIFY, WRITE AND VERIFY, COMPARE AND WRITE (SBC-3 §5).

#include <algorithm>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

using block::IoStatus;
using block::Operation;

constexpr uint64_t kBlocks = 4096;
constexpr uint8_t kUnmapBit = 0x08;
constexpr uint8_t kNoDataOut = 0x01;  // NDOB

using Extents = std::vector<std::pair<uint64_t, uint32_t>>;

Bytes UnmapList(const Extents& extents) {
  Bytes list(8 + 16 * extents.size());
  StoreBe16(&list[0], static_cast<uint16_t>(list.size() - 2));
  StoreBe16(&list[2], static_cast<uint16_t>(list.size() - 8));
  for (size_t i = 0; i < extents.size(); ++i) {
    StoreBe64(&list[8 + 16 * i], extents[i].first);
    StoreBe32(&list[16 + 16 * i], extents[i].second);
  }
  return list;
}

Outcome Unmap(BusRig& rig, const Bytes& list) {
  Bytes cdb(10);
  cdb[0] = 0x42;
  StoreBe16(&cdb[7], static_cast<uint16_t>(list.size()));
  return rig.Run(cdb, list);
}

void Fill(BusRig& rig, uint8_t value) {
  std::fill(rig.disk().bytes().begin(), rig.disk().bytes().end(), value);
}

bool BlocksHold(BusRig& rig, uint64_t lba, uint64_t count, uint8_t value) {
  const auto begin = rig.disk().bytes().begin() + std::ptrdiff_t(lba * 512);
  return std::all_of(begin, begin + std::ptrdiff_t(count * 512),
                     [value](uint8_t byte) { return byte == value; });
}

// SBC-3 §5.28, with LBPRZ: unmapped blocks read as zeroes, others stay.
TEST(UnmapTest, EveryDescriptorsBlocksReadAsZeroes) {
  BusRig rig(kBlocks);
  Fill(rig, 0xaa);
  EXPECT_TRUE(
      Unmap(rig, UnmapList({{8, 8}, {100, 0}, {kBlocks - 1, 1}})).good());
  EXPECT_TRUE(BlocksHold(rig, 0, 8, 0xaa));
  EXPECT_TRUE(BlocksHold(rig, 8, 8, 0x00));
  EXPECT_TRUE(BlocksHold(rig, 16, kBlocks - 17, 0xaa));
  EXPECT_TRUE(BlocksHold(rig, kBlocks - 1, 1, 0x00));
  EXPECT_TRUE(rig.disk().log().back().may_unmap);
}

TEST(UnmapTest, BackendThatOnlyDiscardsIsToldToDiscard) {
  BusRig rig(kBlocks);
  rig.disk().mutable_geometry().can_write_zeroes = false;
  EXPECT_TRUE(Unmap(rig, UnmapList({{8, 8}})).good());
  EXPECT_EQ(rig.disk().Count(Operation::kDiscard), 1u);
  // Then READ CAPACITY (16) does not promise zeroes: LBPRZ 0, LBPME 1.
  const Outcome capacity =
      rig.Run(Cdb16(Opcode::kServiceActionIn16, 0, 32, kReadCapacity16));
  EXPECT_EQ(capacity.data_in[14] & 0xc0, 0x80);
}

// SBC-3 §5.28.2: nothing is unmapped when one descriptor is wrong.
TEST(UnmapTest, OneDescriptorOutOfRangeUnmapsNothing) {
  BusRig rig(kBlocks);
  for (const Extents& extents : {
           Extents{{0, 8}, {kBlocks, 1}},
           Extents{{0, 8}, {kBlocks - 1, 2}},
           Extents{{0, 8}, {~uint64_t{0}, 2}},
           Extents{{0, 8}, {uint64_t{1} << 55, 0xffffffff}},
       }) {
    EXPECT_EQ(Unmap(rig, UnmapList(extents)).code(), SenseCode::kLbaOutOfRange);
  }
  EXPECT_TRUE(rig.disk().log().empty());
}

TEST(UnmapTest, OddListsAreCutOrRefused) {
  BusRig rig(kBlocks);
  Fill(rig, 0xaa);
  EXPECT_TRUE(Unmap(rig, {}).good());
  EXPECT_EQ(Unmap(rig, Bytes(7)).code(), SenseCode::kParameterListLengthError);
  EXPECT_TRUE(Unmap(rig, Bytes(8)).good());
  // The data length says more than was sent: whole descriptors count.
  Bytes list = UnmapList({{0, 1}, {1, 1}});
  list.resize(list.size() - 1);
  StoreBe16(&list[2], 0xffff);
  EXPECT_TRUE(Unmap(rig, list).good());
  EXPECT_TRUE(BlocksHold(rig, 0, 1, 0x00));
  EXPECT_TRUE(BlocksHold(rig, 1, 1, 0xaa));
  // More descriptors than the block limits page allows.
  EXPECT_EQ(Unmap(rig, UnmapList(Extents(256, {0, 1}))).code(),
            SenseCode::kInvalidFieldInParameterList);
  // ANCHOR.
  EXPECT_EQ(rig.Run({0x42, 0x01, 0, 0, 0, 0, 0, 0, 24, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

TEST(UnmapTest, UnitThatCannotUnmapHasNoSuchCommand) {
  BusRig rig(kBlocks);
  rig.disk().mutable_geometry().can_write_zeroes = false;
  rig.disk().mutable_geometry().can_discard = false;
  EXPECT_EQ(Unmap(rig, UnmapList({{0, 1}})).code(), SenseCode::kInvalidOpcode);
}

// SBC-3 §5.45, §5.46.
TEST(WriteSameTest, OneBlockIsRepeated) {
  BusRig rig(kBlocks);
  const Bytes block = Pattern(512);
  ASSERT_TRUE(rig.Run(Cdb10(Opcode::kWriteSame10, 5, 1000), block).good());
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 5, 1)).data_in, block);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 1004, 1)).data_in, block);
  EXPECT_TRUE(BlocksHold(rig, 0, 5, 0));
  EXPECT_TRUE(BlocksHold(rig, 1005, kBlocks - 1005, 0));
}

TEST(WriteSameTest, ZeroesAreWrittenWithoutData) {
  BusRig rig(kBlocks);
  Fill(rig, 0xaa);
  ASSERT_TRUE(rig.Run(Cdb16(Opcode::kWriteSame16, 8, 8, kNoDataOut)).good());
  EXPECT_TRUE(BlocksHold(rig, 8, 8, 0));
  EXPECT_FALSE(rig.disk().log().back().may_unmap);
  ASSERT_TRUE(rig.Run(Cdb16(Opcode::kWriteSame16, 16, 8, kUnmapBit), Bytes(512))
                  .good());
  EXPECT_TRUE(rig.disk().log().back().may_unmap);
  EXPECT_EQ(rig.disk().Count(Operation::kWriteZeroes), 2u);
  EXPECT_TRUE(BlocksHold(rig, 24, kBlocks - 24, 0xaa));
}

// Without a way to write zeroes at the backend they are written as data.
TEST(WriteSameTest, ZeroesWorkWithABackendThatOnlyWrites) {
  BusRig rig(256, 4096);
  rig.disk().mutable_geometry().can_write_zeroes = false;
  Fill(rig, 0xaa);
  ASSERT_TRUE(rig.Run(Cdb16(Opcode::kWriteSame16, 0, 100, kNoDataOut)).good());
  EXPECT_TRUE(BlocksHold(rig, 0, 800, 0));
  EXPECT_TRUE(BlocksHold(rig, 800, 8, 0xaa));
}

// SBC-3 §6.6.4: WSNZ, and the length that the page promises.
TEST(WriteSameTest, WrongFieldsAreRefused) {
  BusRig rig(kBlocks);
  for (const Bytes& cdb : {
           Cdb10(Opcode::kWriteSame10, 0, 0), Cdb16(Opcode::kWriteSame16, 0, 0),
           Cdb16(Opcode::kWriteSame16, 0, 0x400000),
           Cdb16(Opcode::kWriteSame16, 0, 1, 0x10),  // ANCHOR
           Cdb10(Opcode::kWriteSame10, 0, 1, 0x01),  // NDOB only in (16)
           Cdb10(Opcode::kWriteSame10, 0, 1, 0x02),  // LBDATA
           Cdb10(Opcode::kWriteSame10, 0, 1, 0x20),  // WRPROTECT
       }) {
    EXPECT_EQ(rig.Run(cdb, Bytes(512)).code(), SenseCode::kInvalidFieldInCdb);
  }
  EXPECT_TRUE(rig.disk().log().empty());
}

// A guest cannot hold the loop with one long command.
TEST(WriteSameTest, LongCommandGoesOnInBoundedSteps) {
  BusRig rig(0x3fffff + 1, 512, /*kept_bytes=*/1 << 20);  // 2 GiB
  Task* task = rig.Start(
      Cdb16(Opcode::kWriteSame16, 0, 0x3fffff, kUnmapBit | kNoDataOut), 1);
  EXPECT_EQ(task->state(), Task::State::kBusy);
  EXPECT_TRUE(rig.bus().HasWork());
  const size_t first = rig.disk().log().size();
  EXPECT_LE(first, 8u);
  // Others are served meanwhile.
  EXPECT_TRUE(rig.Finish(rig.Start(Cdb10(Opcode::kRead10, 0, 1), 2)).good());
  EXPECT_TRUE(rig.Finish(task).good());
  for (const auto& record : rig.disk().log()) {
    EXPECT_LE(record.length_bytes, uint64_t{64} << 20);
  }
  EXPECT_FALSE(rig.bus().HasWork());
}

// SBC-3 §5.29: BYTCHK 0 reads, BYTCHK 1 compares.
TEST(VerifyTest, ReadsTheMediumAndMovesNothing) {
  BusRig rig(kBlocks);
  const Outcome outcome = rig.Run(Cdb10(Opcode::kVerify10, 0, kBlocks));
  EXPECT_TRUE(outcome.good());
  EXPECT_TRUE(outcome.data_in.empty());
  EXPECT_GT(rig.disk().Count(Operation::kRead), 1u);
  rig.disk().FailAt(Operation::kRead, 77 * 512, IoStatus::kIoError);
  EXPECT_EQ(rig.Run(Cdb16(Opcode::kVerify16, 77, 1)).key(),
            SenseKey::kMediumError);
}

TEST(VerifyTest, ComparesWithDataOut) {
  BusRig rig(kBlocks);
  Bytes data = Pattern(kBlocks * 512);
  rig.disk().bytes() = data;
  const Bytes cdb = Cdb12(Opcode::kVerify12, 0, kBlocks, /*flags=*/0x02);
  EXPECT_TRUE(rig.Run(cdb, data).good());
  data[1000 * 512 + 3] ^= 1;
  const Outcome outcome = rig.Run(cdb, data);
  EXPECT_EQ(outcome.key(), SenseKey::kMiscompare);
  EXPECT_EQ(outcome.code(), SenseCode::kMiscompareDuringVerify);
  EXPECT_EQ(LoadBe32(&outcome.sense[3]), 1000u * 512 + 3);
  EXPECT_EQ(rig.disk().Count(Operation::kWrite), 0u);
}

TEST(VerifyTest, OtherByteChecksAreRefused) {
  BusRig rig(kBlocks);
  for (const uint8_t flags : {0x04, 0x06, 0x20}) {
    EXPECT_EQ(rig.Run(Cdb10(Opcode::kVerify10, 0, 1, flags)).code(),
              SenseCode::kInvalidFieldInCdb);
  }
}

TEST(VerifyTest, WriteAndVerifyWritesAndReadsBack) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(1024 * 512);
  for (const uint8_t flags : {0x00, 0x02}) {
    rig.disk().ClearLog();
    EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWriteAndVerify10, 64, 1024, flags), data)
                    .good());
    EXPECT_EQ(rig.disk().Count(Operation::kWrite),
              rig.disk().Count(Operation::kRead));
    EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 64, 1024)).data_in, data);
  }
}

// SBC-3 §5.2.
TEST(CompareAndWriteTest, WritesOnlyWhatMatches) {
  BusRig rig(kBlocks);
  const Bytes before = Pattern(2 * 512, 1);
  const Bytes after = Pattern(2 * 512, 2);
  ASSERT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 7, 2), before).good());
  Bytes cdb = Cdb16(Opcode::kCompareAndWrite, 7, 0);
  cdb[13] = 2;
  Bytes data = before;
  data.insert(data.end(), after.begin(), after.end());
  EXPECT_TRUE(rig.Run(cdb, data).good());
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 7, 2)).data_in, after);

  const Outcome again = rig.Run(cdb, data);
  EXPECT_EQ(again.key(), SenseKey::kMiscompare);
  EXPECT_EQ(LoadBe32(&again.sense[3]), 0u);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 7, 2)).data_in, after);
}

TEST(CompareAndWriteTest, LongerThanTheBlockLimitsPageSaysIsRefused) {
  BusRig rig(kBlocks);
  const Bytes limits = rig.Run({0x12, 1, 0xb0, 0, 0xff, 0}).data_in;
  Bytes cdb = Cdb16(Opcode::kCompareAndWrite, 0, 0);
  cdb[13] = limits[5];
  EXPECT_TRUE(rig.Run(cdb, Bytes(2 * 512 * size_t{limits[5]})).good());
  cdb[13] = static_cast<uint8_t>(limits[5] + 1);
  EXPECT_EQ(rig.Run(cdb, Bytes(1024 * 512)).code(),
            SenseCode::kInvalidFieldInCdb);
}

// It reads and writes as one: no other command comes in between.
TEST(CompareAndWriteTest, OtherCommandsWaitUntilItIsOver) {
  BusRig rig(kBlocks);
  Bytes cdb = Cdb16(Opcode::kCompareAndWrite, 0, 0);
  cdb[13] = 1;
  Task* compare = rig.Start(cdb, 1);
  Task* write = rig.Start(Cdb10(Opcode::kWrite10, 0, 1), 2);
  Task* urgent =
      rig.Start(Cdb10(Opcode::kRead10, 0, 1), 3, TaskAttribute::kHeadOfQueue);
  EXPECT_EQ(compare->state(), Task::State::kDataOut);
  EXPECT_EQ(write->state(), Task::State::kBusy);
  EXPECT_EQ(urgent->state(), Task::State::kBusy);
  EXPECT_TRUE(rig.Finish(compare, Bytes(1024)).good());
  EXPECT_TRUE(rig.Finish(urgent).good());
  EXPECT_TRUE(rig.Finish(write, Bytes(512)).good());
}

}  // namespace
}  // namespace bulkhead::scsi
