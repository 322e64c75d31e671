// The chip with real targets behind it: disks of services/scsi over a backend
// in memory, from IDENTIFY to the bytes on the disk.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/lsi53c895a/testing/rig.h"
#include "services/scsi/bus.h"
#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr unsigned kTarget = 2;
constexpr uint32_t kDone = 0x77;
constexpr uint32_t kBlocks = 4096;
constexpr uint32_t kBlockBytes = 512;

std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

std::unique_ptr<scsi::Bus> MakeDiskBus(scsi::MemoryBackend* backend) {
  scsi::UnitConfig unit;
  unit.target = kTarget;
  unit.serial = "TEST";
  unit.backend = backend;
  auto bus = scsi::MakeBus({&unit, 1});
  if (!bus.ok()) std::abort();
  return *std::move(bus);
}

class DiskTest : public testing::Test {
 protected:
  // A command without data, or with one data phase of `bytes` at `buffer`.
  // Returns its status.
  static int Command(Rig& rig, const std::string& cdb, Phase phase,
                     uint32_t bytes, uint32_t buffer = Rig::kBuffer) {
    rig.set_ram(Rig::kMessages, Bytes({0x80}));
    rig.set_ram(Rig::kCdb, cdb);
    Assembler program;
    program.SelectWithAtn(kTarget, 0)
        .Move(Phase::kMessageOut, 1, Rig::kMessages)
        .Move(Phase::kCommand, static_cast<uint32_t>(cdb.size()), Rig::kCdb);
    if (bytes > 0) program.Move(phase, bytes, buffer);
    Rig::Finish(&program, kDone);
    rig.Run(program);
    EXPECT_EQ(rig.Interrupted(), kDone);
    return static_cast<uint8_t>(rig.ram(Rig::kStatusAt, 1)[0]);
  }
  static int NoData(Rig& rig, const std::string& cdb) {
    return Command(rig, cdb, Phase::kDataIn, 0);
  }

  scsi::MemoryBackend disk_{kBlocks * kBlockBytes};
};

TEST_F(DiskTest, UnitAttentionIsFetchedByRequestSenseAndIsGone) {
  Rig rig(MakeDiskBus(&disk_));
  const std::string test_unit_ready = Bytes({0, 0, 0, 0, 0, 0});
  EXPECT_EQ(NoData(rig, test_unit_ready), 0x02);
  EXPECT_EQ(Command(rig, Bytes({0x03, 0, 0, 0, 18, 0}), Phase::kDataIn, 18), 0);
  EXPECT_EQ(rig.ram(Rig::kBuffer + 2, 1), Bytes({0x06}));
  EXPECT_EQ(rig.ram(Rig::kBuffer + 12, 1), Bytes({0x29}));
  EXPECT_EQ(NoData(rig, test_unit_ready), 0x00);
}

TEST_F(DiskTest, InquirySaysDiskAndSynchronousButNotWide) {
  Rig rig(MakeDiskBus(&disk_));
  EXPECT_EQ(Command(rig, Bytes({0x12, 0, 0, 0, 36, 0}), Phase::kDataIn, 36), 0);
  const std::string inquiry = rig.ram(Rig::kBuffer, 36);
  EXPECT_EQ(inquiry[0], 0);
  EXPECT_EQ(inquiry[7] & 0x30, 0x10);
  EXPECT_EQ(inquiry.substr(8, 8), "BULKHEAD");
}

TEST_F(DiskTest, WhatIsWrittenIsOnTheDiskAndReadBack) {
  Rig rig(MakeDiskBus(&disk_));
  NoData(rig, Bytes({0, 0, 0, 0, 0, 0}));         // the unit attention
  constexpr uint32_t kBytes = 600 * kBlockBytes;  // several pieces of the task
  const std::string pattern = Rig::Pattern(kBytes);
  rig.set_ram(0x200000, pattern);

  rig.set_ram(Rig::kMessages, Bytes({0xc0, kSimpleQueue, 1}));
  rig.set_ram(Rig::kCdb,
              Bytes({0x2a, 0, 0, 0, 0, 16, 0, 600 >> 8, 600 & 0xff, 0}));
  Assembler write;
  write.SelectWithAtn(kTarget, 0)
      .Move(Phase::kMessageOut, 3, Rig::kMessages)
      .Move(Phase::kCommand, 10, Rig::kCdb)
      .ChainedMove(Phase::kDataOut, 12345, 0x200000)
      .ChainedMove(Phase::kDataOut, kBytes - 12345, 0x200000 + 12345);
  Rig::Finish(&write, kDone);
  rig.Run(write);
  ASSERT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(
      std::memcmp(&disk_.bytes()[16 * kBlockBytes], pattern.data(), kBytes), 0);

  EXPECT_EQ(
      Command(rig, Bytes({0x28, 0, 0, 0, 0, 16, 0, 600 >> 8, 600 & 0xff, 0}),
              Phase::kDataIn, kBytes, 0x300000),
      0);
  EXPECT_TRUE(rig.ram(0x300000, kBytes) == pattern);
}

// The disk works while the bus is free, and the service dies meanwhile.
TEST_F(DiskTest, DisconnectedReadCompletesInAnotherLifeOfTheService) {
  std::memcpy(disk_.bytes().data(), Rig::Pattern(kBlockBytes).data(),
              kBlockBytes);
  Assembler program;
  program.SelectWithAtn(kTarget, 0)
      .Move(Phase::kMessageOut, 3, Rig::kMessages)
      .Move(Phase::kCommand, 10, Rig::kCdb)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt)
      .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
      .Clear(kIoSetAck)
      .WaitDisconnect()
      .WaitReselect(0)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt)
      .Clear(kIoSetAck)
      .Move(Phase::kMessageIn, 2, Rig::kStatusAt)
      .Clear(kIoSetAck)
      .Move(Phase::kDataIn, kBlockBytes, Rig::kBuffer);
  Rig::Finish(&program, kDone);

  std::vector<std::byte> saved;
  {
    scsi::MemoryBackend slow(kBlocks * kBlockBytes);
    Rig rig(MakeDiskBus(&slow));
    NoData(rig, Bytes({0, 0, 0, 0, 0, 0}));
    slow.Hold();
    rig.set_ram(Rig::kMessages, Bytes({0xc0, kSimpleQueue, 9}));
    rig.set_ram(Rig::kCdb, Bytes({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}));
    rig.Run(program);
    ASSERT_EQ(rig.Read8(ISTAT1), kIstat1Scrun);
    ASSERT_EQ(rig.Read8(ISTAT0) & kIstat0Con, 0);
    const absl::Span<const std::byte> state = rig.chip->State();
    saved.assign(state.begin(), state.end());
    slow.ReleaseAll();
    rig.Turns();
  }
  Rig rig(MakeDiskBus(&disk_));
  rig.Load(Rig::kScriptAt, program);
  ASSERT_TRUE(rig.chip->LoadState(saved));
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 2), std::string(2, '\0'));
  EXPECT_EQ(rig.ram(Rig::kBuffer, kBlockBytes), Rig::Pattern(kBlockBytes));
}

// A disk that hangs: the launcher is told that the device is not frozen, and
// what it waits for; when the disk comes back, so does the command.
TEST_F(DiskTest, QuiesceOverAHangingDiskNamesWhatIsOutstandingAndGoesOn) {
  Rig rig(MakeDiskBus(&disk_));
  NoData(rig, Bytes({0, 0, 0, 0, 0, 0}));
  disk_.Hold();
  rig.set_ram(Rig::kMessages, Bytes({0x80}));
  rig.set_ram(Rig::kCdb, Bytes({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}));
  Assembler program;
  program.SelectWithAtn(kTarget, 0)
      .Move(Phase::kMessageOut, 1, Rig::kMessages)
      .Move(Phase::kCommand, 10, Rig::kCdb)
      .Move(Phase::kDataIn, kBlockBytes, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  ASSERT_EQ(rig.Interrupted(), ~uint32_t{0});

  rig.context.set_tick(1'000'000);
  const absl::Status status = rig.chip->Quiesce();
  rig.context.set_tick(0);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(rig.context.log(),
            std::vector<std::string>(
                {"not quiet: disk requests did not end within 5 s: 1 of target "
                 "2 lun 0"}));
  EXPECT_EQ(status.message(), rig.context.log()[0]);

  disk_.ReleaseAll();
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_TRUE(rig.chip->Quiesce().ok());
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
