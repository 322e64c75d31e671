// The NVM command set against a disk in memory.

#include "services/nvme/io_commands.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

using block::IoStatus;
using block::Operation;

constexpr uint64_t kDiskBlocks = (8 << 20) / 512;

class NvmeIoTest : public ::testing::Test {
 protected:
  NvmeIoTest() : rig_({.block_bits = {9, 12}}) { rig_.CreateIoQueuePair(1); }

  Status Run(const Command& command) {
    return StatusOf(rig_.Submit(1, command));
  }
  scsi::MemoryBackend& disk() { return *rig_.disks[0]; }
  std::string DiskBytes(uint64_t at, size_t size) {
    return std::string(disk().bytes().begin() + static_cast<long>(at),
                       disk().bytes().begin() + static_cast<long>(at + size));
  }
  // The newest entry of the error log.
  ErrorLogEntry LastError() {
    std::string data;
    rig_.GetLog(LogPage::kErrorInformation, 64, &data);
    ErrorLogEntry entry;
    std::memcpy(&entry, data.data(), sizeof entry);
    return entry;
  }

  ControllerRig rig_;
};

// §6.9, §6.15.
TEST_F(NvmeIoTest, WhatIsWrittenIsRead) {
  const std::string data(8192, 'd');
  rig_.set_ram(kBuffer, data);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kWrite, 100, 16)), Status::kSuccess);
  EXPECT_EQ(DiskBytes(100 * 512, 8192), data);

  rig_.set_ram(kBuffer, std::string(8192, '\0'));
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 100, 16)), Status::kSuccess);
  EXPECT_EQ(rig_.ram(kBuffer, 8192), data);
}

TEST_F(NvmeIoTest, BlocksOf4096BytesAreTheSecondNamespaces) {
  rig_.set_ram(kBuffer, std::string(8192, 'e'));
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kWrite, 3, 2, /*nsid=*/2)),
            Status::kSuccess);
  EXPECT_EQ(rig_.disks[1]->log().back().offset_bytes, 3u * 4096);
  EXPECT_EQ(rig_.disks[1]->log().back().length_bytes, 2u * 4096);
}

TEST_F(NvmeIoTest, ForcedUnitAccessReachesTheBackend) {
  Command command = BlockCommand(IoOpcode::kWrite, 0, 1);
  command.cdw12 = command.cdw12 | kCdw12Fua;
  EXPECT_EQ(Run(command), Status::kSuccess);
  EXPECT_TRUE(disk().log().back().force_unit_access);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kWrite, 0, 1)), Status::kSuccess);
  EXPECT_FALSE(disk().log().back().force_unit_access);
}

TEST_F(NvmeIoTest, ReadPastEndOfNamespaceReturnsLbaOutOfRange) {
  rig_.set_ram(kBuffer, std::string(1024, '\xaa'));
  const Completion done =
      rig_.Submit(1, BlockCommand(IoOpcode::kRead, kDiskBlocks - 1, 2));
  EXPECT_EQ(StatusOf(done), Status::kLbaOutOfRange);
  EXPECT_NE(done.status & kCompletionMore, 0);
  EXPECT_NE(done.status & kCompletionDoNotRetry, 0);
  EXPECT_EQ(rig_.ram(kBuffer, 1024), std::string(1024, '\xaa'));

  const ErrorLogEntry entry = LastError();
  EXPECT_EQ(entry.error_count, 1u);
  EXPECT_EQ(entry.sq_id, 1);
  EXPECT_EQ(entry.cid, done.cid);
  EXPECT_EQ(entry.lba, kDiskBlocks - 1);
  EXPECT_EQ(entry.nsid, 1u);
  EXPECT_EQ(entry.parameter_location, kAtCdw10);

  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, ~uint64_t{0}, 1)),
            Status::kLbaOutOfRange);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, kDiskBlocks - 1, 1)),
            Status::kSuccess);
}

TEST_F(NvmeIoTest, EachMistakeHasItsOwnStatus) {
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 0, 1, 0)),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 0, 1, 3)),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 0, 1, kAllNamespaces)),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 0, 2049)), Status::kInvalidField)
      << "more than MDTS";
  Command command = BlockCommand(IoOpcode::kWrite, 0, 1);
  command.cdw12 = command.cdw12 | 1u << 20;
  EXPECT_EQ(Run(command), Status::kInvalidField) << "a directive";
  command = MakeCommand(static_cast<IoOpcode>(0x19));  // Copy, of 2.0
  EXPECT_EQ(Run(command), Status::kInvalidOpcode);
  command = BlockCommand(IoOpcode::kRead, 0, 1);
  command.prp1 = kRamMib << 20;
  EXPECT_EQ(Run(command), Status::kDataTransferError);
}

TEST_F(NvmeIoTest, TroubleOfTheHostBecomesAMediaError) {
  disk().FailAt(Operation::kRead, 512, IoStatus::kIoError);
  disk().FailAt(Operation::kWrite, 1024, IoStatus::kIoError);
  disk().FailAt(Operation::kWrite, 2048, IoStatus::kNoSpace);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 1, 1)),
            Status::kUnrecoveredReadError);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kWrite, 2, 1)), Status::kWriteFault);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kWrite, 4, 1)),
            Status::kCapacityExceeded);
  std::string page;
  rig_.GetLog(LogPage::kSmart, 512, &page);
  SmartLog smart;
  std::memcpy(&smart, page.data(), sizeof smart);
  EXPECT_EQ(smart.media_errors[0], 2u);
  EXPECT_EQ(smart.error_log_entries[0], 3u);
}

TEST_F(NvmeIoTest, ReadOnlyNamespaceIsWriteProtected) {
  disk().mutable_geometry().read_only = true;
  for (const IoOpcode opcode : {IoOpcode::kWrite, IoOpcode::kWriteZeroes}) {
    EXPECT_EQ(Run(BlockCommand(opcode, 0, 1)),
              Status::kNamespaceWriteProtected);
  }
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kRead, 0, 1)), Status::kSuccess);
}

// Long lists need a work area; there are fewer of those than commands.
TEST_F(NvmeIoTest, ScatteredTransfersWaitForWorkAreas) {
  constexpr uint32_t kPages = 100;
  for (uint32_t i = 0; i < kPages; ++i) {
    const Le64 entry = kBuffer + 8192ull * (i + 1);
    rig_.context.memory().Write({kLists + 8 * i}, &entry, 8);
  }
  rig_.disks[0]->Hold();
  Command command = BlockCommand(IoOpcode::kRead, 0, kPages * 8);
  command.prp2 = kLists;
  for (int i = 0; i < 40; ++i) rig_.Push(1, command);
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(disk().Count(Operation::kRead), 16u);
  disk().ReleaseAll();
  rig_.Turns();
  for (int i = 0; i < 40; ++i) {
    const auto done = rig_.Reap(1);
    ASSERT_TRUE(done.has_value()) << i;
    EXPECT_EQ(StatusOf(*done), Status::kSuccess);
  }
}

TEST_F(NvmeIoTest, MoreCommandsThanABackendTakesWaitInTheirQueues) {
  for (uint16_t id = 2; id <= 6; ++id) rig_.CreateIoQueuePair(id, 128);
  disk().Hold();
  for (uint16_t id = 2; id <= 6; ++id) {
    for (int i = 0; i < 127; ++i) {
      rig_.Push(id, BlockCommand(IoOpcode::kRead, 0, 1));
    }
    rig_.Ring(id);
  }
  rig_.Turns();
  EXPECT_EQ(disk().in_flight(), kMaxCommands);
  EXPECT_FALSE(rig_.controller->PrepareToSleep()) << "the loop may sleep";
  disk().ReleaseAll();
  rig_.Turns();
  for (uint16_t id = 2; id <= 6; ++id) {
    for (int i = 0; i < 127; ++i) EXPECT_TRUE(rig_.Reap(id).has_value());
  }
}

// ---- §6.8

TEST_F(NvmeIoTest, FlushOfAllNamespacesFlushesEach) {
  EXPECT_EQ(Run(MakeCommand(IoOpcode::kFlush, 1)), Status::kSuccess);
  EXPECT_EQ(disk().Count(Operation::kFlush), 1u);
  EXPECT_EQ(Run(MakeCommand(IoOpcode::kFlush, kAllNamespaces)),
            Status::kSuccess);
  EXPECT_EQ(disk().Count(Operation::kFlush), 2u);
  EXPECT_EQ(rig_.disks[1]->Count(Operation::kFlush), 1u);
  EXPECT_EQ(Run(MakeCommand(IoOpcode::kFlush, 9)),
            Status::kInvalidNamespaceOrFormat);
}

// ---- §6.6, §6.14

TEST_F(NvmeIoTest, CompareTellsEqualFromDifferent) {
  const std::string data(3 * 65536, 'c');
  std::copy(data.begin(), data.end(), disk().bytes().begin() + 512);
  for (uint32_t i = 0; i < 47; ++i) {
    const Le64 entry = kBuffer + 4096ull * (i + 1);
    rig_.context.memory().Write({kLists + 8 * i}, &entry, 8);
  }
  Command command = BlockCommand(IoOpcode::kCompare, 1, 384);
  command.prp2 = kLists;
  rig_.set_ram(kBuffer, data);
  EXPECT_EQ(Run(command), Status::kSuccess);
  rig_.set_ram(kBuffer + 3 * 65536 - 1, "x");
  EXPECT_EQ(Run(command), Status::kCompareFailure);
}

TEST_F(NvmeIoTest, VerifyReadsAndMovesNothing) {
  rig_.set_ram(kBuffer, "untouched");
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kVerify, 0, 4096)), Status::kSuccess);
  EXPECT_EQ(rig_.ram(kBuffer, 9), "untouched");
  disk().FailAt(Operation::kRead, 512, IoStatus::kIoError);
  EXPECT_EQ(Run(BlockCommand(IoOpcode::kVerify, 0, 4)),
            Status::kUnrecoveredReadError);
}

// ---- §6.17, §6.7

TEST_F(NvmeIoTest, WriteZeroesFreesOnlyWhenTold) {
  disk().bytes()[512] = 'z';
  Command command = BlockCommand(IoOpcode::kWriteZeroes, 0, 16);
  EXPECT_EQ(Run(command), Status::kSuccess);
  EXPECT_EQ(disk().bytes()[512], 0);
  EXPECT_FALSE(disk().log().back().may_unmap);
  command.cdw12 = command.cdw12 | kCdw12Deallocate;
  EXPECT_EQ(Run(command), Status::kSuccess);
  EXPECT_TRUE(disk().log().back().may_unmap);
}

TEST_F(NvmeIoTest, DeallocateTakesEveryRangeOrNone) {
  DatasetRange ranges[3] = {};
  ranges[0].blocks = 8;
  ranges[1].slba = 100;
  ranges[2].slba = kDiskBlocks - 8;
  ranges[2].blocks = 8;
  rig_.set_ram(kBuffer,
               std::string(reinterpret_cast<char*>(ranges), sizeof ranges));
  Command command = MakeCommand(IoOpcode::kDatasetManagement);
  command.prp1 = kBuffer;
  command.cdw10 = 2;
  command.cdw11 = kDatasetDeallocate;
  EXPECT_EQ(Run(command), Status::kSuccess);
  EXPECT_EQ(disk().Count(Operation::kDiscard), 2u);

  ranges[2].blocks = 9;
  rig_.set_ram(kBuffer,
               std::string(reinterpret_cast<char*>(ranges), sizeof ranges));
  EXPECT_EQ(Run(command), Status::kLbaOutOfRange);
  EXPECT_EQ(disk().Count(Operation::kDiscard), 2u);

  command.cdw11 = 3;  // hints alone
  EXPECT_EQ(Run(command), Status::kSuccess);
}

// ---- §6.2: fused compare and write

class NvmeFusedTest : public NvmeIoTest {
 protected:
  static Command First(uint64_t slba, uint32_t blocks) {
    Command command = BlockCommand(IoOpcode::kCompare, slba, blocks);
    command.flags = kFuseFirst;
    return command;
  }
  static Command Second(uint64_t slba, uint32_t blocks) {
    Command command = BlockCommand(IoOpcode::kWrite, slba, blocks);
    command.prp1 = kBuffer + 0x10000;
    command.flags = kFuseSecond;
    return command;
  }
  Status Next() {
    const auto done = rig_.Reap(1);
    EXPECT_TRUE(done.has_value());
    return done.has_value() ? StatusOf(*done) : Status::kInternalError;
  }
};

TEST_F(NvmeFusedTest, WritesWhenTheComparisonHolds) {
  rig_.set_ram(kBuffer + 0x10000, std::string(512, 'n'));
  rig_.Push(1, First(5, 1));
  rig_.Push(1, Second(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kSuccess);
  EXPECT_EQ(Next(), Status::kSuccess);
  EXPECT_EQ(DiskBytes(5 * 512, 1), "n");
}

TEST_F(NvmeFusedTest, WritesNothingWhenItFails) {
  rig_.set_ram(kBuffer, "different");
  rig_.Push(1, First(5, 1));
  rig_.Push(1, Second(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kCompareFailure);
  EXPECT_EQ(Next(), Status::kAbortedFailedFused);
  EXPECT_EQ(disk().Count(Operation::kWrite), 0u);
}

TEST_F(NvmeFusedTest, NothingComesBetweenTheTwo) {
  rig_.CreateIoQueuePair(2);
  disk().Hold();
  rig_.Push(1, First(5, 1));
  rig_.Push(1, Second(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  rig_.Push(2, BlockCommand(IoOpcode::kWrite, 5, 1));
  rig_.Ring(2);
  rig_.Turns();
  EXPECT_EQ(disk().in_flight(), 1u) << "the comparison's read, alone";
  disk().ReleaseAll();
  rig_.Turns();
  ASSERT_EQ(disk().log().size(), 3u);
  EXPECT_EQ(disk().log()[0].operation, Operation::kRead);
  EXPECT_EQ(disk().log()[1].operation, Operation::kWrite);
  EXPECT_TRUE(rig_.Reap(2).has_value());
}

TEST_F(NvmeFusedTest, HalvesWithoutTheirOtherHalfAreAborted) {
  rig_.Push(1, Second(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kAbortedMissingFused);

  rig_.Push(1, First(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_FALSE(rig_.Reap(1).has_value()) << "its second may still come";
  rig_.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kAbortedMissingFused);
  EXPECT_EQ(Next(), Status::kSuccess);

  rig_.Push(1, First(5, 1));
  rig_.Push(1, Second(6, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kInvalidField);
  EXPECT_EQ(Next(), Status::kInvalidField);
}

TEST_F(NvmeFusedTest, AHalfThatWaitsGoesBackIntoItsQueueWhenFrozen) {
  rig_.set_ram(kBuffer + 0x10000, std::string(512, 'n'));
  rig_.Push(1, First(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_TRUE(rig_.controller->Quiesce().ok());
  rig_.controller->Resume();
  rig_.Turns();
  rig_.Push(1, Second(5, 1));
  rig_.Ring(1);
  rig_.Turns();
  EXPECT_EQ(Next(), Status::kSuccess);
  EXPECT_EQ(Next(), Status::kSuccess);
}

}  // namespace
}  // namespace bulkhead::nvme
