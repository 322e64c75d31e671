// Commands that tell about a unit: INQUIRY and its pages, REPORT SUPPORTED
// OPERATION CODES, LOG SENSE, and the small ones (SPC-4 §6, SBC-3 §5).

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

constexpr uint64_t kBlocks = 2048;

Bytes VpdPage(BusRig& rig, uint8_t page) {
  return rig.Run({0x12, 0x01, page, 0x04, 0, 0}).data_in;
}

std::string Text(const Bytes& bytes, size_t at, size_t size) {
  return std::string(bytes.begin() + std::ptrdiff_t(at),
                     bytes.begin() + std::ptrdiff_t(at + size));
}

// ---- INQUIRY
// -----------------------------------------------------------------

// SPC-4 §6.6.2.
TEST(InquiryTest, StandardDataSaysWhatTheUnitIs) {
  BusRig rig(kBlocks);
  const Bytes data = rig.Run({0x12, 0, 0, 0, 0xff, 0}).data_in;
  ASSERT_EQ(data.size(), 96u);
  EXPECT_EQ(data[0], 0x00);
  EXPECT_EQ(data[2], 0x06);
  EXPECT_EQ(data[3] & 0x0f, 0x02);
  EXPECT_EQ(data[4], data.size() - 5);
  EXPECT_EQ(data[7] & 0x02, 0x02);
  EXPECT_EQ(Text(data, 8, 8), "BULKHEAD");
  EXPECT_EQ(Text(data, 16, 16), "DISK            ");
}

TEST(InquiryTest, AllocationLengthCutsIt) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x12, 0, 0, 0, 36, 0}).data_in.size(), 36u);
  EXPECT_EQ(rig.Run({0x12, 0, 0, 0, 0, 0}).data_in.size(), 0u);
  EXPECT_EQ(rig.Run({0x12, 0, 0, 0xff, 0xff, 0}).data_in.size(), 96u);
}

TEST(InquiryTest, PageWithoutEvpdAndUnknownPagesAreInvalid) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x12, 0, 0x80, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({0x12, 1, 0xc0, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({0x12, 2, 0, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

// SPC-4 §7.8.14: the list, and each page on it answers.
TEST(InquiryTest, EveryListedPageIsThereWithItsLength) {
  BusRig rig(kBlocks);
  const Bytes list = VpdPage(rig, 0x00);
  EXPECT_EQ(Bytes(list.begin() + 4, list.end()),
            (Bytes{0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2}));
  for (size_t i = 4; i < list.size(); ++i) {
    const Bytes page = VpdPage(rig, list[i]);
    ASSERT_GE(page.size(), 4u);
    EXPECT_EQ(page[1], list[i]);
    EXPECT_EQ(LoadBe16(&page[2]), page.size() - 4);
  }
  EXPECT_EQ(Text(VpdPage(rig, 0x80), 4, 4), "0001");
}

// SPC-4 §7.8.6: one T10 vendor ID and one NAA designator, stable over restarts
// and different for different units.
TEST(InquiryTest, DesignatorsNameTheUnitAndNoOther) {
  BusRig rig(kBlocks);
  const Bytes page = VpdPage(rig, 0x83);
  EXPECT_EQ(page[4] & 0x0f, 0x02);
  EXPECT_EQ(page[5], 0x01);
  EXPECT_EQ(Text(page, 8, 28), "BULKHEADDISK            0001");
  const size_t naa = 8 + page[7];
  ASSERT_EQ(page.size(), naa + 12);
  EXPECT_EQ(page[naa + 1], 0x03);
  EXPECT_EQ(page[naa + 4] >> 4, 3);
  rig.Rebuild();
  EXPECT_EQ(VpdPage(rig, 0x83), page);

  MemoryBackend disk(65536);
  BusRig other({{.serial = "0002", .backend = &disk}}, {});
  EXPECT_NE(VpdPage(other, 0x83), page);
  BusRig given(
      {{.serial = "0002", .wwn = 0x5000123456789abc, .backend = &disk}}, {});
  const Bytes chosen = VpdPage(given, 0x83);
  EXPECT_EQ(LoadBe64(&chosen[chosen.size() - 8]), 0x5000123456789abcu);
}

TEST(InquiryTest, UnitWithoutSerialNumberHasNoSuchPage) {
  MemoryBackend disk(65536);
  BusRig rig({{.backend = &disk}}, {});
  EXPECT_EQ(VpdPage(rig, 0x00)[5], 0x83);
  EXPECT_EQ(rig.Run({0x12, 1, 0x80, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

// SBC-3 §6.6.4, §6.6.6.
TEST(InquiryTest, BlockLimitsAndProvisioningSayWhatUnmapCanDo) {
  BusRig rig(kBlocks);
  const Bytes limits = VpdPage(rig, 0xb0);
  ASSERT_EQ(limits.size(), 64u);
  EXPECT_EQ(limits[4] & 0x01, 0x01);  // WSNZ
  EXPECT_EQ(LoadBe32(&limits[20]), 0x3fffffu);
  EXPECT_EQ(LoadBe32(&limits[24]), 255u);
  EXPECT_EQ(VpdPage(rig, 0xb2)[5], 0xe4);  // LBPU, LBPWS, LBPWS10, LBPRZ
  rig.disk().mutable_geometry().read_only = true;
  EXPECT_EQ(VpdPage(rig, 0xb2)[5], 0x00);
  EXPECT_EQ(LoadBe32(&VpdPage(rig, 0xb0)[20]), 0u);
}

// ---- REPORT SUPPORTED OPERATION CODES (SPC-4 §6.34)
// --------------------------

Bytes Opcodes(uint8_t options, uint8_t opcode = 0, uint16_t action = 0,
              uint32_t allocation = 8192) {
  Bytes cdb = {0xa3, 0x0c, options, opcode, 0, 0, 0, 0, 0, 0, 0, 0};
  StoreBe16(&cdb[4], action);
  StoreBe32(&cdb[6], allocation);
  return cdb;
}

// What the list names is implemented; what it does not name is not.
TEST(OpcodesTest, ListedCommandsAndOnlyTheyAreImplemented) {
  for (const bool cdrom : {false, true}) {
    BusRig rig = cdrom ? BusRig::Cdrom() : BusRig(kBlocks);
    const Bytes list = rig.Run(Opcodes(0)).data_in;
    ASSERT_EQ(LoadBe32(&list[0]), list.size() - 4);
    std::map<uint8_t, uint16_t> sizes;
    for (size_t at = 4; at < list.size(); at += 8) {
      sizes[list[at]] = LoadBe16(&list[at + 6]);
    }
    EXPECT_GT(sizes.size(), 20u);
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
      Bytes cdb(16);
      cdb[0] = static_cast<uint8_t>(opcode);
      // A service action that exists, where there are some.
      cdb[1] = opcode == 0xa3 ? 0x0c : opcode == 0x9e ? 0x10 : 0;
      rig.bus().BusReset();
      rig.ClearAttention();
      const bool invalid = rig.Run(cdb).code() == SenseCode::kInvalidOpcode;
      EXPECT_EQ(invalid, sizes.count(static_cast<uint8_t>(opcode)) == 0)
          << opcode;
    }
  }
}

TEST(OpcodesTest, OneCommandIsToldWithItsUsage) {
  BusRig rig(kBlocks);
  const Bytes read = rig.Run(Opcodes(1, 0x28)).data_in;
  EXPECT_EQ(read, (Bytes{0, 0x03, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0,
                         0xff, 0xff, 0}));
  EXPECT_EQ(rig.Run(Opcodes(1, 0x04)).data_in[1], 0x01);  // not supported
  const Bytes capacity = rig.Run(Opcodes(2, 0x9e, 0x10)).data_in;
  EXPECT_EQ(capacity[1], 0x03);
  EXPECT_EQ(capacity[5], 0x10);
  EXPECT_EQ(rig.Run(Opcodes(2, 0x9e, 0x11)).data_in[1], 0x01);
  EXPECT_EQ(rig.Run(Opcodes(3, 0x9e, 0x10)).data_in[1], 0x03);
  EXPECT_EQ(rig.Run(Opcodes(3, 0x28, 1)).data_in[1], 0x01);
}

TEST(OpcodesTest, OptionsThatDoNotFitTheCommandAreInvalid) {
  BusRig rig(kBlocks);
  for (const Bytes& cdb :
       {Opcodes(1, 0x9e), Opcodes(2, 0x28, 0), Opcodes(4), Opcodes(7)}) {
    EXPECT_EQ(rig.Run(cdb).code(), SenseCode::kInvalidFieldInCdb);
  }
}

// SPC-4 §6.34.4: RCTD.
TEST(OpcodesTest, TimeoutsDescriptorsFollowWhenAskedFor) {
  BusRig rig(kBlocks);
  const size_t plain = rig.Run(Opcodes(0)).data_in.size() - 4;
  const Bytes list = rig.Run(Opcodes(0x80)).data_in;
  EXPECT_EQ(list.size() - 4, plain / 8 * 20);
  EXPECT_EQ(LoadBe16(&list[12]), 10);
  const Bytes one = rig.Run(Opcodes(0x81, 0x28)).data_in;
  EXPECT_EQ(one[1], 0x83);
  EXPECT_EQ(one.size(), 4u + 10 + 12);
  EXPECT_EQ(rig.Run(Opcodes(0, 0, 0, 10)).data_in.size(), 10u);
}

TEST(OpcodesTest, TaskManagementFunctionsAreTold) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0}).data_in,
            (Bytes{0xda, 0, 0, 0}));
}

// ---- LOG SENSE (SPC-4 §6.8)
// --------------------------------------------------

TEST(LogSenseTest, ErrorCountersCountErrors) {
  BusRig rig(kBlocks);
  rig.disk().FailAt(block::Operation::kRead, 0, block::IoStatus::kIoError);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 0, 1)).key(),
            SenseKey::kMediumError);
  const Bytes pages = rig.Run({0x4d, 0, 0x40, 0, 0, 0, 0, 0, 0xff, 0}).data_in;
  EXPECT_EQ(pages, (Bytes{0, 0, 0, 4, 0x00, 0x02, 0x03, 0x05}));
  const Bytes reads = rig.Run({0x4d, 0, 0x43, 0, 0, 0, 0, 0, 0xff, 0}).data_in;
  ASSERT_EQ(reads.size(), 40u);
  EXPECT_EQ(LoadBe16(&reads[28]), 0x0006);  // uncorrected
  EXPECT_EQ(LoadBe64(&reads[32]), 1u);
  EXPECT_EQ(rig.Run({0x4d, 0, 0x7e, 0, 0, 0, 0, 0, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

// ---- Small ones
// --------------------------------------------------------------

// SBC-3 §5.25: a stopped unit is not ready; starting it again makes it so.
TEST(StartStopTest, StoppedUnitIsNotReadyUntilStarted) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run({0x1b, 0, 0, 0, 0, 0}).good());
  EXPECT_EQ(rig.disk().Count(block::Operation::kFlush), 1u);
  for (const Bytes& cdb : {Bytes(6), Cdb10(Opcode::kRead10, 0, 1)}) {
    const Outcome outcome = rig.Run(cdb);
    EXPECT_EQ(outcome.key(), SenseKey::kNotReady);
    EXPECT_EQ(outcome.code(), SenseCode::kNotReadyInitializingCommandRequired);
  }
  EXPECT_TRUE(rig.Run({0x12, 0, 0, 0, 36, 0}).good());
  EXPECT_TRUE(rig.Run({0x1b, 0, 0, 0, 1, 0}).good());
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kRead10, 0, 1)).good());
  EXPECT_EQ(rig.Run({0x1b, 0, 0, 0, 0x30, 0}).code(),
            SenseCode::kInvalidFieldInCdb);  // no power conditions
}

TEST(CommandsTest, SelfTestIsTheDefaultOneOnly) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run({0x1d, 0x04, 0, 0, 0, 0}).good());
  EXPECT_EQ(rig.Run({0x1d, 0x20, 0, 0, 0, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({0x1d, 0x10, 0, 0, 8, 0}, Bytes(8)).code(),
            SenseCode::kInvalidFieldInCdb);
}

// SBC-3 §5.18, §5.19: the format that was asked for, and an empty list.
TEST(CommandsTest, DefectListsAreEmpty) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x37, 0, 0x1d, 0, 0, 0, 0, 0, 0xff, 0}).data_in,
            (Bytes{0, 0x1d, 0, 0}));
  EXPECT_EQ(rig.Run({0xb7, 0x0d, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0}).data_in,
            (Bytes{0, 0x0d, 0, 0, 0, 0, 0, 0}));
}

TEST(CommandsTest, ReservationsBelongToTheOneInitiator) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run({0x16, 0, 0, 0, 0, 0}).good());
  EXPECT_TRUE(rig.Run(Cdb10(Opcode::kWrite10, 0, 1), Bytes(512)).good());
  EXPECT_TRUE(rig.Run({0x17, 0, 0, 0, 0, 0}).good());
  EXPECT_TRUE(rig.Run({0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0}).good());
  EXPECT_EQ(rig.Run({0x56, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}).code(),
            SenseCode::kInvalidFieldInCdb);  // third party
}

}  // namespace
}  // namespace bulkhead::scsi
