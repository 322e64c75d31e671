// The short version of crash_campaign, and the proof that it would notice.

#include <gtest/gtest.h>

#include <random>

#include "services/block/qcow2/crash_rig.h"

namespace bulkhead::block::qcow2 {
namespace {

class CrashTest : public ::testing::TestWithParam<size_t> {};

TEST_P(CrashTest, EveryCutLeavesASoundImageAndAllThatWasFlushed) {
  const CrashScenario& scenario = kCrashScenarios[GetParam()];
  CrashRig rig(scenario, /*seed=*/GetParam() + 1, /*requests=*/120);
  ASSERT_EQ(rig.failure(), "");
  std::mt19937_64 random(GetParam());
  for (int i = 0; i < 60; ++i) {
    const size_t position = random() % (rig.record_size() + 1);
    const auto mode = static_cast<CutMode>(i % kCutModes);
    ASSERT_EQ(rig.Judge(position, mode, random()), "")
        << "cut at " << position << " of " << rig.record_size() << ", mode "
        << i % kCutModes;
  }
}

// A judge that never complains proves nothing: without syncs both kinds of
// damage must be seen.
TEST(CrashJudgeTest, DiskThatIgnoresSyncsIsFoundOut) {
  bool lost_data = false;
  bool broke_image = false;
  for (size_t scenario = 0; scenario < kCrashScenarios.size(); ++scenario) {
    CrashRig rig(kCrashScenarios[scenario], /*seed=*/1, /*requests=*/120,
                 /*deaf=*/true);
    ASSERT_EQ(rig.failure(), "");
    for (uint64_t i = 0; i < 40; ++i) {
      const auto mode = static_cast<CutMode>(i % kCutModes);
      const std::string complaint =
          rig.Judge(rig.record_size() * i / 40, mode, i);
      const bool content = complaint.starts_with("sector");
      lost_data |= content;
      broke_image |= !content && !complaint.empty();
    }
  }
  EXPECT_TRUE(lost_data);
  EXPECT_TRUE(broke_image);
}

INSTANTIATE_TEST_SUITE_P(Scenarios, CrashTest, ::testing::Range<size_t>(0, 20),
                         [](const auto& info) {
                           return kCrashScenarios[info.param].name;
                         });

}  // namespace
}  // namespace bulkhead::block::qcow2
