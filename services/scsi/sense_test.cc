// Sense data in both formats (SPC-4 §4.5).

#include "services/scsi/sense.h"

#include <vector>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"

namespace bulkhead::scsi {
namespace {

std::vector<uint8_t> Encode(const Sense& sense, bool descriptor_format) {
  std::vector<uint8_t> bytes(96, 0xee);
  bytes.resize(EncodeSense(sense, descriptor_format, absl::MakeSpan(bytes)));
  return bytes;
}

TEST(SenseTest, FixedFormatHasKeyCodesAndInformation) {
  const auto bytes =
      Encode(MakeSense(SenseKey::kMediumError, SenseCode::kUnrecoveredReadError,
                       0x12345678),
             false);
  ASSERT_EQ(bytes.size(), 18u);
  EXPECT_EQ(bytes[0], 0xf0);
  EXPECT_EQ(bytes[2], 0x03);
  EXPECT_EQ(LoadBe32(&bytes[3]), 0x12345678u);
  EXPECT_EQ(bytes[7], 10);
  EXPECT_EQ(LoadBe16(&bytes[12]), 0x1100);
}

// §4.5.3: INFORMATION has 32 bits; a larger LBA is left out, not cut.
TEST(SenseTest, FixedFormatLeavesOutWhatDoesNotFit) {
  const auto bytes = Encode(
      MakeSense(SenseKey::kMediumError, SenseCode::kWriteError, 1ull << 32),
      false);
  EXPECT_EQ(bytes[0], 0x70);
  EXPECT_EQ(LoadBe32(&bytes[3]), 0u);
}

TEST(SenseTest, DescriptorFormatHasTheWholeNumber) {
  const auto bytes = Encode(
      MakeSense(SenseKey::kMediumError, SenseCode::kWriteError, 1ull << 40),
      true);
  ASSERT_EQ(bytes.size(), 20u);
  EXPECT_EQ(bytes[0], 0x72);
  EXPECT_EQ(bytes[1], 0x03);
  EXPECT_EQ(bytes[7], 12);
  EXPECT_EQ(LoadBe64(&bytes[12]), 1ull << 40);
}

// §4.5.2.4.2: which byte and bit of the CDB or of the parameters is wrong.
TEST(SenseTest, FieldPointersNameTheByteAndBit) {
  const auto cdb = Encode(InvalidFieldInCdb(8, 0), false);
  EXPECT_EQ(cdb[15], 0xc8);  // SKSV, C/D, BPV, bit 0
  EXPECT_EQ(LoadBe16(&cdb[16]), 8);
  const auto parameters = Encode(InvalidFieldInParameterList(300), true);
  ASSERT_EQ(parameters.size(), 16u);
  EXPECT_EQ(parameters[8], 0x02);
  EXPECT_EQ(parameters[12], 0x80);
  EXPECT_EQ(LoadBe16(&parameters[13]), 300);
}

TEST(SenseTest, TooLittleRoomEncodesNothing) {
  std::vector<uint8_t> bytes(kMaxEncodedSenseBytes - 1, 0xee);
  EXPECT_EQ(EncodeSense(Sense(), false, absl::MakeSpan(bytes)), 0u);
  EXPECT_EQ(bytes[0], 0xee);
}

}  // namespace
}  // namespace bulkhead::scsi
