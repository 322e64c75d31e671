// A CD-ROM drive (MMC-6 §6).

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

constexpr uint32_t kBlocks = 1024;
const Bytes kTestUnitReady(6, 0);
const Bytes kEject = {0x1b, 0, 0, 0, 0x02, 0};
const Bytes kLoad = {0x1b, 0, 0, 0, 0x03, 0};
const Bytes kPollMedia = {0x4a, 0x01, 0, 0, 0x10, 0, 0, 0, 8, 0};

Bytes Toc(uint8_t format, uint8_t first = 0, uint8_t flags = 0) {
  return {0x43, flags, format, 0, 0, 0, first, 0x04, 0, 0};
}

TEST(CdromTest, IsARemovableReadOnlyDriveOfType5) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const Bytes inquiry = rig.Run({0x12, 0, 0, 0, 96, 0}).data_in;
  EXPECT_EQ(inquiry[0], 0x05);
  EXPECT_EQ(inquiry[1], 0x80);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kWrite10, 0, 1), Bytes(2048)).code(),
            SenseCode::kInvalidOpcode);
}

TEST(CdromTest, BlocksAre2048Bytes) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const Bytes data = Pattern(kBlocks * 2048);
  rig.disk().bytes() = data;
  const Bytes capacity = rig.Run(Cdb10(Opcode::kReadCapacity10, 0, 0)).data_in;
  EXPECT_EQ(LoadBe32(&capacity[0]), kBlocks - 1);
  EXPECT_EQ(LoadBe32(&capacity[4]), 2048u);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 0, kBlocks)).data_in, data);
  EXPECT_EQ(rig.Run(Cdb12(Opcode::kRead12, 16, 1)).data_in,
            Bytes(data.begin() + 16 * 2048, data.begin() + 17 * 2048));
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, kBlocks, 1)).code(),
            SenseCode::kLbaOutOfRange);
}

// MMC-6 §6.17.
TEST(CdromTest, ReadCdGivesUserDataOfDataSectorsOnly) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const auto read_cd = [](uint8_t type, uint8_t selection) {
    return Bytes{0xbe, type, 0, 0, 0, 3, 0, 0, 2, selection, 0, 0};
  };
  EXPECT_EQ(rig.Run(read_cd(0, 0x10)).data_in.size(), 4096u);
  EXPECT_EQ(rig.Run(read_cd(0, 0x00)).data_in.size(), 0u);
  EXPECT_EQ(rig.Run(read_cd(0x04, 0x10)).code(),
            SenseCode::kIllegalModeForThisTrack);
  EXPECT_EQ(rig.Run(read_cd(0, 0xf8)).code(), SenseCode::kInvalidFieldInCdb);
}

// MMC-6 §6.25: one data track from block 0, and the lead-out after the last.
TEST(CdromTest, TocHasOneDataTrackAndTheLeadOut) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const Bytes toc = rig.Run(Toc(0)).data_in;
  ASSERT_EQ(toc.size(), 20u);
  EXPECT_EQ(LoadBe16(&toc[0]), 18);
  EXPECT_EQ(toc[5], 0x14);
  EXPECT_EQ(toc[6], 1);
  EXPECT_EQ(LoadBe32(&toc[8]), 0u);
  EXPECT_EQ(toc[14], 0xaa);
  EXPECT_EQ(LoadBe32(&toc[16]), kBlocks);

  const Bytes msf = rig.Run(Toc(0, 0, 0x02)).data_in;
  EXPECT_EQ(Bytes(msf.begin() + 8, msf.begin() + 12), (Bytes{0, 0, 2, 0}));
  // 1024 + 150 frames: 15 seconds, 49 frames.
  EXPECT_EQ(Bytes(msf.begin() + 16, msf.end()), (Bytes{0, 0, 15, 49}));

  EXPECT_EQ(rig.Run(Toc(0, 0xaa)).data_in.size(), 12u);
  EXPECT_EQ(rig.Run(Toc(0, 2)).code(), SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run(Toc(1)).data_in.size(), 12u);
  EXPECT_EQ(rig.Run(Toc(2)).data_in.size(), 4u + 4 * 11);
  EXPECT_EQ(rig.Run(Toc(5)).code(), SenseCode::kInvalidFieldInCdb);
}

TEST(CdromTest, GetConfigurationNamesTheProfileOfTheDisc) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const Bytes all = rig.Run({0x46, 0, 0, 0, 0, 0, 0, 0x04, 0, 0}).data_in;
  EXPECT_EQ(LoadBe32(&all[0]), all.size() - 4);
  EXPECT_EQ(LoadBe16(&all[6]), 0x0008);  // CD-ROM
  size_t at = 8;
  while (at + 4 <= all.size()) at += size_t{4} + all[at + 3];
  EXPECT_EQ(at, all.size());
  // RT 10b: one feature; CD Read, current.
  const Bytes one = rig.Run({0x46, 2, 0, 0x1e, 0, 0, 0, 0, 0xff, 0}).data_in;
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(one[10] & 1, 1);
  const Bytes none =
      rig.Run({0x46, 2, 0x77, 0x77, 0, 0, 0, 0, 0xff, 0}).data_in;
  EXPECT_EQ(none.size(), 8u);
}

// A disc larger than any CD is a DVD.
TEST(CdromTest, LargeDiscIsADvd) {
  MemoryBackend disk(uint64_t{4} << 30, /*kept_bytes=*/4096);
  BusRig rig({{.kind = UnitKind::kCdrom, .backend = &disk}}, {});
  rig.ClearAttention();
  const Bytes header = rig.Run({0x46, 0, 0, 0, 0, 0, 0, 0, 8, 0}).data_in;
  EXPECT_EQ(LoadBe16(&header[6]), 0x0010);
}

TEST(CdromTest, ModePagesOfADriveAreThere) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  for (const uint8_t page : {0x01, 0x0e, 0x2a}) {
    const Bytes reply =
        rig.Run({0x5a, 0, page, 0, 0, 0, 0, 0x01, 0, 0}).data_in;
    ASSERT_GT(reply.size(), 10u);
    EXPECT_EQ(reply[8], page);
    EXPECT_EQ(reply[9] + 10u, reply.size());
  }
  EXPECT_EQ(rig.Run({0x5a, 0, 0x08, 0, 0, 0, 0, 0x01, 0, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

// MMC-6 §6.42, §6.6: the tray, and what is told about it.
TEST(CdromTest, EjectAndLoadAreToldAsEventsAndSense) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  EXPECT_EQ(rig.Run(kPollMedia).data_in, (Bytes{0, 6, 4, 0x10, 0, 0x02, 0, 0}));
  EXPECT_TRUE(rig.Run(kEject).good());
  const Outcome open = rig.Run(kTestUnitReady);
  EXPECT_EQ(open.key(), SenseKey::kNotReady);
  EXPECT_EQ(open.code(), SenseCode::kMediumNotPresentTrayOpen);
  EXPECT_EQ(rig.Run(Toc(0)).key(), SenseKey::kNotReady);
  EXPECT_EQ(rig.Run(kPollMedia).data_in[4], 3);  // media removal
  EXPECT_EQ(rig.Run(kPollMedia).data_in[4], 0);  // told once

  EXPECT_TRUE(rig.Run(kLoad).good());
  EXPECT_EQ(rig.Run(kPollMedia).data_in[4], 2);  // new media
  EXPECT_EQ(rig.Run(kTestUnitReady).code(), SenseCode::kMediumMayHaveChanged);
  EXPECT_TRUE(rig.Run(kTestUnitReady).good());
}

TEST(CdromTest, PreventedEjectIsRefused) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  EXPECT_TRUE(rig.Run({0x1e, 0, 0, 0, 1, 0}).good());
  EXPECT_EQ(rig.Run(kEject).code(), SenseCode::kMediumRemovalPrevented);
  EXPECT_TRUE(rig.Run({0x1e, 0, 0, 0, 0, 0}).good());
  EXPECT_TRUE(rig.Run(kEject).good());
}

TEST(CdromTest, EmptyDriveIsNotReadyAndStillAnswers) {
  BusRig rig({{.kind = UnitKind::kCdrom}}, {});
  rig.Run(kTestUnitReady);  // power on
  EXPECT_EQ(rig.Run(kTestUnitReady).code(),
            SenseCode::kMediumNotPresentTrayClosed);
  for (const Bytes& cdb :
       {Cdb10(Opcode::kRead10, 0, 1), Cdb10(Opcode::kReadCapacity10, 0, 0),
        Toc(0), Bytes{0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0}}) {
    EXPECT_EQ(rig.Run(cdb).key(), SenseKey::kNotReady);
  }
  EXPECT_TRUE(rig.Run({0x12, 0, 0, 0, 36, 0}).good());
  EXPECT_TRUE(rig.Run(kPollMedia).good());
  EXPECT_TRUE(rig.Run({0x46, 0, 0, 0, 0, 0, 0, 0, 0xff, 0}).good());
}

TEST(CdromTest, DiscAndTrackInformationTellOfOneCompleteSession) {
  BusRig rig = BusRig::Cdrom(kBlocks);
  const Bytes disc = rig.Run({0x51, 0, 0, 0, 0, 0, 0, 0, 0xff, 0}).data_in;
  ASSERT_EQ(disc.size(), 34u);
  EXPECT_EQ(disc[2] & 0x0f, 0x0e);
  const Bytes track = rig.Run({0x52, 1, 0, 0, 0, 1, 0, 0, 0xff, 0}).data_in;
  ASSERT_EQ(track.size(), 36u);
  EXPECT_EQ(LoadBe32(&track[24]), kBlocks);
  EXPECT_EQ(rig.Run({0x52, 1, 0, 0, 0, 2, 0, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}).data_in.size(),
            8u);
}

}  // namespace
}  // namespace bulkhead::scsi
