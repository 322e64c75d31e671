// MODE SENSE and MODE SELECT (SPC-4 §6.13 to §6.16, §7.5).

#include <algorithm>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

constexpr uint64_t kBlocks = 2048;
constexpr uint8_t kPageFormat = 0x10;  // PF

Bytes ModeSense6Cdb(uint8_t page, uint8_t control = 0, uint8_t flags = 0x08) {
  return {0x1a, flags, static_cast<uint8_t>(control << 6 | page), 0, 0xff, 0};
}

Bytes ModeSense10Cdb(uint8_t page, uint8_t flags = 0x08) {
  return {0x5a, flags, page, 0, 0, 0, 0, 0x10, 0, 0};
}

// One page, without header and block descriptor.
Bytes PageOf(BusRig& rig, uint8_t page, uint8_t control = 0) {
  const Bytes reply = rig.Run(ModeSense6Cdb(page, control)).data_in;
  return Bytes(reply.begin() + std::min<ptrdiff_t>(4, std::ssize(reply)),
               reply.end());
}

Outcome Select6(BusRig& rig, const Bytes& list, uint8_t flags = kPageFormat) {
  return rig.Run({0x15, flags, 0, 0, static_cast<uint8_t>(list.size()), 0},
                 list);
}

Outcome Select10(BusRig& rig, const Bytes& list) {
  Bytes cdb = {0x55, kPageFormat, 0, 0, 0, 0, 0, 0, 0, 0};
  StoreBe16(&cdb[7], static_cast<uint16_t>(list.size()));
  return rig.Run(cdb, list);
}

Bytes WithHeader(const Bytes& page) {
  Bytes list(4);
  list.insert(list.end(), page.begin(), page.end());
  return list;
}

Bytes CachingPage(BusRig& rig, bool enabled) {
  Bytes page = PageOf(rig, kModeCaching);
  page[2] = enabled ? 0x04 : 0x00;
  return page;
}

// SPC-4 §6.15: header, block descriptor, pages in ascending order.
TEST(ModeSenseTest, AllPagesComeInOrderAndAgreeWithTheirLengths) {
  BusRig rig(kBlocks);
  const Bytes reply = rig.Run(ModeSense6Cdb(kModeAllPages, 0, 0)).data_in;
  ASSERT_GT(reply.size(), 12u);
  EXPECT_EQ(reply[0], reply.size() - 1);
  EXPECT_EQ(reply[2], 0x10);  // DPOFUA, not write protected
  EXPECT_EQ(reply[3], 8);
  EXPECT_EQ(LoadBe32(&reply[4]), kBlocks);
  EXPECT_EQ(LoadBe24(&reply[9]), 512u);
  Bytes codes;
  size_t at = 12;
  while (at + 1 < reply.size()) {
    codes.push_back(reply[at]);
    at += size_t{2} + reply[at + 1];
  }
  EXPECT_EQ(at, reply.size());
  EXPECT_EQ(codes, (Bytes{0x01, 0x02, 0x08, 0x0a, 0x1c}));
}

TEST(ModeSenseTest, LongBlockDescriptorHolds64Bits) {
  BusRig rig(kBlocks, 4096);
  const Bytes reply =
      rig.Run(ModeSense10Cdb(kModeCaching, /*flags=*/0x10)).data_in;
  EXPECT_EQ(LoadBe16(&reply[0]), reply.size() - 2);
  EXPECT_EQ(reply[4], 0x01);  // LONGLBA
  EXPECT_EQ(LoadBe16(&reply[6]), 16);
  EXPECT_EQ(LoadBe64(&reply[8]), kBlocks);
  EXPECT_EQ(LoadBe32(&reply[20]), 4096u);
}

// SPC-4 §6.15.1, table 217: page control.
TEST(ModeSenseTest, PageControlChoosesCurrentChangeableDefaultAndNotSaved) {
  BusRig rig(kBlocks);
  ASSERT_TRUE(Select6(rig, WithHeader(CachingPage(rig, false))).good());
  EXPECT_EQ(PageOf(rig, kModeCaching, 0)[2], 0x00);
  EXPECT_EQ(PageOf(rig, kModeCaching, 1)[2], 0x04);
  EXPECT_EQ(PageOf(rig, kModeCaching, 2)[2], 0x04);
  const Outcome saved = rig.Run(ModeSense6Cdb(kModeCaching, 3));
  EXPECT_EQ(saved.code(), SenseCode::kSavingParametersNotSupported);
}

TEST(ModeSenseTest, UnknownPagesAndSubpagesAreInvalidFields) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run(ModeSense6Cdb(0x2a)).code(), SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({0x1a, 0x08, 0x0a, 0x01, 0xff, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
}

TEST(ModeSenseTest, AllocationLengthCutsTheReplyOnly) {
  BusRig rig(kBlocks);
  const Bytes whole = rig.Run(ModeSense6Cdb(kModeAllPages)).data_in;
  const Bytes cut = rig.Run({0x1a, 0x08, 0x3f, 0, 5, 0}).data_in;
  EXPECT_EQ(cut, Bytes(whole.begin(), whole.begin() + 5));
  EXPECT_TRUE(rig.Run({0x1a, 0x08, 0x3f, 0, 0, 0}).good());
}

// SBC-3 §6.5.5: WCE, wired to the backend; turning it off writes the cache.
TEST(ModeSelectTest, WriteCacheSwitchReachesTheBackend) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.disk().write_cache());
  ASSERT_TRUE(Select6(rig, WithHeader(CachingPage(rig, false))).good());
  EXPECT_FALSE(rig.disk().write_cache());
  EXPECT_EQ(rig.disk().Count(block::Operation::kFlush), 1u);

  Bytes list(8);
  const Bytes page = CachingPage(rig, true);
  list.insert(list.end(), page.begin(), page.end());
  ASSERT_TRUE(Select10(rig, list).good());
  EXPECT_TRUE(rig.disk().write_cache());
}

// SPC-4 §7.5.8: D_SENSE chooses descriptor format.
TEST(ModeSelectTest, DescriptorSenseIsUsedOnceAskedFor) {
  BusRig rig(kBlocks);
  Bytes page = PageOf(rig, kModeControl);
  page[2] |= 0x04;
  ASSERT_TRUE(Select6(rig, WithHeader(page)).good());
  const Outcome outcome = rig.Run(Cdb16(Opcode::kRead16, kBlocks, 1));
  EXPECT_EQ(outcome.sense[0], 0x72);
  EXPECT_EQ(outcome.code(), SenseCode::kLbaOutOfRange);
}

// SPC-4 §7.5.8: SWP.
TEST(ModeSelectTest, SoftwareWriteProtectRefusesWrites) {
  BusRig rig(kBlocks);
  Bytes page = PageOf(rig, kModeControl);
  page[4] |= 0x08;
  ASSERT_TRUE(Select6(rig, WithHeader(page)).good());
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kWrite10, 0, 1), Bytes(512)).code(),
            SenseCode::kSoftwareWriteProtected);
  EXPECT_EQ(rig.Run(ModeSense6Cdb(kModeControl)).data_in[2] & 0x80, 0x80);
}

// SPC-4 §6.13: a list is right as a whole or changes nothing.
TEST(ModeSelectTest, OneWrongPageLeavesAllPagesAsTheyWere) {
  BusRig rig(kBlocks);
  Bytes list = WithHeader(CachingPage(rig, false));
  Bytes wrong = PageOf(rig, kModeControl);
  wrong[3] ^= 0x10;  // not changeable
  list.insert(list.end(), wrong.begin(), wrong.end());
  const Outcome outcome = Select6(rig, list);
  EXPECT_EQ(outcome.code(), SenseCode::kInvalidFieldInParameterList);
  // SPC-4 §4.5.2.4.2: the byte in the list.
  EXPECT_EQ(LoadBe16(&outcome.sense[16]), 4 + 20 + 3);
  EXPECT_EQ(PageOf(rig, kModeCaching)[2], 0x04);
  EXPECT_TRUE(rig.disk().write_cache());
}

// CVE-2021-3930: page 3Fh is a wildcard of MODE SENSE, never a page to select.
TEST(ModeSelectTest, Cve_2021_3930_SelectingPage3fIsRefused) {
  BusRig rig(kBlocks);
  for (const uint8_t length : {0, 1, 10, 255}) {
    Bytes list = {0, 0, 0, 0, 0x3f, length};
    list.resize(6 + size_t{length});
    list.resize(std::min<size_t>(list.size(), 255));
    EXPECT_EQ(Select6(rig, list).code(),
              SenseCode::kInvalidFieldInParameterList);
  }
  EXPECT_EQ(Select6(rig, {0, 0, 0, 0, 0x7f, 0xff, 0, 8}).code(),
            SenseCode::kInvalidFieldInParameterList);
}

// CVE-2023-42467: a block size that is no block size.
TEST(ModeSelectTest, Cve_2023_42467_BlockSizeCannotBeChanged) {
  BusRig rig(kBlocks);
  for (const uint32_t size : {0u, 1u, 256u, 511u, 513u, 1024u, 4096u}) {
    Bytes list(12);
    list[3] = 8;
    StoreBe24(&list[9], size);
    EXPECT_EQ(Select6(rig, list).code(),
              SenseCode::kInvalidFieldInParameterList);
  }
  EXPECT_EQ(LoadBe32(&rig.Run(Cdb10(Opcode::kReadCapacity10, 0, 0)).data_in[4]),
            512u);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 0, 1)).data_in.size(), 512u);
}

TEST(ModeSelectTest, TheGeometryThatIsThereMayBeSelected) {
  BusRig rig(kBlocks);
  for (const uint32_t blocks :
       {uint32_t{0}, uint32_t{kBlocks}, uint32_t{0xffffffff}}) {
    Bytes list(12);
    list[3] = 8;
    StoreBe32(&list[4], blocks);
    StoreBe24(&list[9], 512);
    EXPECT_TRUE(Select6(rig, list).good());
  }
  Bytes list(12);
  list[3] = 8;
  StoreBe32(&list[4], kBlocks - 1);
  StoreBe24(&list[9], 512);
  EXPECT_EQ(Select6(rig, list).code(), SenseCode::kInvalidFieldInParameterList);
}

// Open case: MODE SELECT of another block size right before WRITE SAME, whose
// buffer was sized by the old one.
TEST(ModeSelectTest, OpenCase_BlockSizeSelectedBeforeWriteSameHasNoEffect) {
  BusRig rig(kBlocks);
  Bytes list(12);
  list[3] = 8;
  StoreBe24(&list[9], 0x10000);
  const Bytes select_cdb = {0x15, kPageFormat, 0, 0, 12, 0};
  Task* select = rig.Start(select_cdb, /*tag=*/1);
  Task* same = rig.Start(Cdb10(Opcode::kWriteSame10, 0, 2), /*tag=*/2);
  EXPECT_EQ(rig.Finish(select, list).status, Status::kCheckCondition);
  EXPECT_EQ(same->remaining_bytes(), 512u);
  const Bytes block = Pattern(512);
  const Outcome outcome = rig.Finish(same, block);
  EXPECT_TRUE(outcome.good());
  EXPECT_EQ(outcome.data_out_bytes, 512u);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 1, 1)).data_in, block);
  EXPECT_EQ(rig.Run(Cdb10(Opcode::kRead10, 2, 1)).data_in, Bytes(512));
}

// Open case: a list that ends inside a page, or a header, or a descriptor.
TEST(ModeSelectTest, OpenCase_TruncatedListsAreLengthErrorsAndChangeNothing) {
  BusRig rig(kBlocks);
  Bytes whole(12);
  whole[3] = 8;
  StoreBe24(&whole[9], 512);
  const Bytes page = CachingPage(rig, false);
  whole.insert(whole.end(), page.begin(), page.end());
  for (size_t size = 1; size < whole.size(); ++size) {
    if (size == 12) continue;  // header and descriptor alone are a list
    const Outcome outcome = Select6(
        rig, Bytes(whole.begin(), whole.begin() + std::ptrdiff_t(size)));
    EXPECT_EQ(outcome.code(), SenseCode::kParameterListLengthError) << size;
    EXPECT_TRUE(rig.disk().write_cache());
  }
}

TEST(ModeSelectTest, ListThatIsNotAllSentChangesNothing) {
  BusRig rig(kBlocks);
  const Bytes list = WithHeader(CachingPage(rig, false));
  const Bytes part(list.begin(), list.begin() + 10);
  const Outcome outcome = rig.Run(
      {0x15, kPageFormat, 0, 0, static_cast<uint8_t>(list.size()), 0}, part);
  EXPECT_EQ(outcome.key(), SenseKey::kAbortedCommand);
  EXPECT_TRUE(rig.disk().write_cache());
}

// SPC-4 §6.13: SP without saved pages; PF 0; nothing at all.
TEST(ModeSelectTest, SavingIsRefusedAndAnEmptyListIsNothing) {
  BusRig rig(kBlocks);
  const Bytes list = WithHeader(CachingPage(rig, true));
  EXPECT_EQ(Select6(rig, list, /*flags=*/0x11).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(Select6(rig, list, /*flags=*/0x00).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_TRUE(Select6(rig, {}).good());
}

// A list longer than any buffer is cut where the buffer ends, and refused.
TEST(ModeSelectTest, LongestListIsCheckedNotTrusted) {
  BusRig rig(kBlocks);
  Bytes list(0xffff, 0xff);
  EXPECT_EQ(Select10(rig, list).status, Status::kCheckCondition);
}

// SAM-5 §6.3: a reset brings the defaults back.
TEST(ModeSelectTest, ResetBringsDefaultsBack) {
  BusRig rig(kBlocks);
  ASSERT_TRUE(Select6(rig, WithHeader(CachingPage(rig, false))).good());
  rig.bus().LogicalUnitReset(0, 0);
  EXPECT_TRUE(rig.disk().write_cache());
  rig.ClearAttention();
  EXPECT_EQ(PageOf(rig, kModeCaching)[2], 0x04);
}

}  // namespace
}  // namespace bulkhead::scsi
