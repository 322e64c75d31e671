// Our engine, QEMU and libqcow on the same images, sound and spoiled: the short
// version of differential_campaign.

#include <gtest/gtest.h>

#include "services/block/qcow2/differential_rig.h"

namespace bulkhead::block::qcow2 {
namespace {

TEST(DifferentialTest, SoundImagesAreReadAlike) {
  DifferentialRig rig;
  for (uint64_t seed = 0; seed < rig.kinds(); ++seed) {
    const DifferentialRig::Outcome outcome = rig.Judge(seed);
    EXPECT_EQ(outcome.complaint, "");
    EXPECT_TRUE(outcome.opened) << seed;
    EXPECT_EQ(outcome.compared_bytes, 512u << 10) << seed;
  }
}

TEST(DifferentialTest, SpoiledImagesAreNeverReadDifferently) {
  DifferentialRig rig;
  uint64_t opened = 0;
  uint64_t by_qemu = 0;
  uint64_t by_libqcow = 0;
  for (uint64_t i = 0; i < 150; ++i) {
    const DifferentialRig::Outcome outcome = rig.Judge(rig.kinds() + i);
    EXPECT_EQ(outcome.complaint, "");
    opened += outcome.opened ? 1 : 0;
    by_qemu += outcome.qemu_answered ? 1 : 0;
    by_libqcow += outcome.libqcow_answered ? 1 : 0;
  }
  // The others have an opinion often enough to matter.
  EXPECT_GT(opened, 50u);
  EXPECT_GT(by_qemu, 40u);
  EXPECT_GT(by_libqcow, 10u);
}

}  // namespace
}  // namespace bulkhead::block::qcow2
