#include "services/pci/config_space.h"

#include "gtest/gtest.h"

namespace bulkhead::pci {
namespace {

class ConfigSpaceTest : public testing::Test {
 protected:
  ConfigBytes bytes_ = {};
  ConfigSpace config_{&bytes_, kConventionalConfigBytes};
};

// PCI 3.0 §6.1: reserved and read-only bits ignore writes.
TEST_F(ConfigSpaceTest, WriteToReadOnlyBitsIsDropped) {
  config_.Define32(0x40, 0x12345678, 0x0000ff00);
  config_.PowerOn();
  config_.Write(0x40, 4, 0xffffffff);
  EXPECT_EQ(config_.Read(0x40, 4), 0x1234ff78u);
  config_.Write(0x80, 4, 0xffffffff);
  EXPECT_EQ(config_.Read(0x80, 4), 0u);
}

// PCI 3.0 §6.2.3: a one clears the bit, a zero leaves it.
TEST_F(ConfigSpaceTest, WriteOneToClearClearsOnlyThoseBits) {
  config_.Define16(kStatus, 0, 0, kStatusErrors);
  config_.PowerOn();
  config_.Set16(kStatus, 0xf900);
  config_.Write(kStatus, 2, kStatusReceivedMasterAbort);
  EXPECT_EQ(config_.Get16(kStatus), 0xf900 & ~kStatusReceivedMasterAbort);
}

TEST_F(ConfigSpaceTest, ByteAndMisalignedAccessesTouchTheirBytesOnly) {
  config_.Define32(0x40, 0, 0xffffffff);
  config_.PowerOn();
  config_.Write(0x41, 2, 0xbbaa);
  EXPECT_EQ(config_.Read(0x40, 4), 0x00bbaa00u);
  EXPECT_EQ(config_.Read(0x42, 1), 0xbbu);
}

TEST_F(ConfigSpaceTest, AccessAtTheLastByteStaysInside) {
  config_.PowerOn();
  config_.Write(kConventionalConfigBytes - 1, 8, ~0ull);
  EXPECT_EQ(config_.Read(kConventionalConfigBytes - 1, 8), 0u);
}

// PCI 3.0 §6.7: the list starts at 34h and ends with a null pointer; entries
// are aligned to double words.
TEST_F(ConfigSpaceTest, CapabilitiesFormALinkedListInOrder) {
  const uint16_t first = config_.AddCapability(kCapabilityPowerManagement, 6);
  const uint16_t second = config_.AddCapability(kCapabilityMsi, kMsiBytes);
  config_.PowerOn();
  EXPECT_EQ(first, 0x40);
  EXPECT_EQ(second, 0x48);
  EXPECT_NE(config_.Get16(kStatus) & kStatusCapabilitiesList, 0);
  EXPECT_EQ(config_.Read(kCapabilitiesPointer, 1), first);
  EXPECT_EQ(config_.Get16(first), kCapabilityPowerManagement | second << 8);
  EXPECT_EQ(config_.Get16(second), kCapabilityMsi);
}

TEST_F(ConfigSpaceTest, RestoreTakesWhatAGuestCouldHaveWritten) {
  config_.Define32(0x40, 0x11, 0xff00);
  config_.DefineStatusBits32(0x40, 0x10000);
  config_.PowerOn();
  ConfigBytes saved = bytes_;
  saved[0x41] = 0xab;
  saved[0x42] = 0x01;
  EXPECT_TRUE(config_.Restore(saved));
  EXPECT_EQ(config_.Read(0x40, 4), 0x0001ab11u);

  saved[0x40] = 0x12;  // read-only
  EXPECT_FALSE(config_.Restore(saved));
  EXPECT_EQ(config_.Read(0x40, 4), 0x0001ab11u);
}

TEST_F(ConfigSpaceTest, RestoreRefusesBytesBeyondTheSpace) {
  config_.PowerOn();
  ConfigBytes saved = bytes_;
  saved[kConventionalConfigBytes] = 1;
  EXPECT_FALSE(config_.Restore(saved));
}

}  // namespace
}  // namespace bulkhead::pci
