#include "services/scsi/unit_config.h"

#include "gtest/gtest.h"
#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::scsi {
namespace {

using Units = google::protobuf::RepeatedPtrField<ScsiLogicalUnit>;

class UnitConfigTest : public testing::Test {
 protected:
  UnitConfigTest() {
    for (int i = 0; i < 2; ++i) {
      backends_.push_back(std::make_unique<MemoryBackend>(65536));
    }
  }
  ScsiLogicalUnit* Add(uint32_t target, uint32_t lun, uint32_t backend) {
    ScsiLogicalUnit* unit = units_.Add();
    unit->set_target(target);
    unit->set_lun(lun);
    unit->set_backend(backend);
    return unit;
  }
  absl::StatusOr<std::vector<UnitConfig>> Read(const char* device = "disk0") {
    return UnitsFromConfig(device, units_, backends_);
  }

  Units units_;
  std::vector<std::unique_ptr<block::Backend>> backends_;
};

TEST_F(UnitConfigTest, DefaultsFillWhatIsLeftOut) {
  Add(0, 0, 0);
  Add(1, 2, 1)->set_kind(ScsiLogicalUnit::CDROM);
  const auto units = Read();
  ASSERT_TRUE(units.ok());
  EXPECT_EQ((*units)[0].block_size_bytes, 512u);
  EXPECT_EQ((*units)[0].serial, "disk0-0-0");
  EXPECT_EQ((*units)[0].vendor, "BULKHEAD");
  EXPECT_EQ((*units)[1].kind, UnitKind::kCdrom);
  EXPECT_EQ((*units)[1].block_size_bytes, 2048u);
  EXPECT_EQ((*units)[1].product, "CD-ROM");
  EXPECT_NE((*units)[0].wwn, (*units)[1].wwn);
}

// A guest must not take the disks of two adapters for one.
TEST_F(UnitConfigTest, SerialsOfLongNamesDifferAtTheirEnds) {
  Add(0, 0, 0);
  const std::string first = (*Read("a-very-long-device-name-1"))[0].serial;
  const std::string second = (*Read("a-very-long-device-name-2"))[0].serial;
  EXPECT_LE(first.size(), 20u);
  EXPECT_NE(first, second);
}

TEST_F(UnitConfigTest, MistakesAreNamed) {
  Add(0, 0, 7);
  EXPECT_EQ(Read().status().message(), "target 0 lun 0: backend 7 of 2");
  units_.Clear();
  Add(0, 0, 0);
  Add(1, 0, 0);
  EXPECT_EQ(Read().status().message(),
            "target 1 lun 0: its backend belongs to another unit already");
  units_.Clear();
  Add(300, 0, 0);
  EXPECT_FALSE(Read().ok());
  units_.Clear();
  Add(0, 0, 0)->set_block_size_bytes(100);
  EXPECT_EQ(Read().status().message(),
            "target 0 lun 0: block_size_bytes of a disk is 512 or 4096");
}

}  // namespace
}  // namespace bulkhead::scsi
