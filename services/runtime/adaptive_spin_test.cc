#include "services/runtime/adaptive_spin.h"

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

constexpr Nanoseconds kLimit = 50'000;

TEST(AdaptiveSpinTest, IdleServiceDoesNotSpin) {
  AdaptiveSpin spin(kLimit);
  EXPECT_EQ(spin.budget(), 0u);
  spin.Woken(10'000'000);
  EXPECT_EQ(spin.budget(), 0u);
}

TEST(AdaptiveSpinTest, ShortWaitsGrowTheSpinUntilItCoversThem) {
  AdaptiveSpin spin(kLimit);
  for (int i = 0; i < 5; ++i) spin.Woken(30'000);
  EXPECT_GE(spin.budget(), 30'000u);
  EXPECT_LE(spin.budget(), kLimit);
  const Nanoseconds settled = spin.budget();
  spin.Woken(30'000);
  EXPECT_EQ(spin.budget(), settled);
}

TEST(AdaptiveSpinTest, LongWaitsEndTheSpinningSoon) {
  AdaptiveSpin spin(kLimit);
  for (int i = 0; i < 10; ++i) spin.Woken(40'000);
  int wasted = 0;
  for (; spin.budget() != 0; ++wasted) spin.Woken(1'000'000);
  EXPECT_LE(wasted, 5);
}

TEST(AdaptiveSpinTest, LimitOfZeroNeverSpins) {
  AdaptiveSpin spin(0);
  for (int i = 0; i < 10; ++i) spin.Woken(1);
  EXPECT_EQ(spin.budget(), 0u);
}

}  // namespace
}  // namespace bulkhead
