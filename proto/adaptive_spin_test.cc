#include "proto/adaptive_spin.h"

#include <utility>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

constexpr Nanoseconds kLimit = 50'000;

// Lets work come `gap` after the loop ran out of it, `times` times; returns how
// often the loop spun in vain.
int Feed(AdaptiveSpin& spin, Nanoseconds gap, int times) {
  int in_vain = 0;
  for (int i = 0; i < times; ++i) {
    const Nanoseconds budget = spin.budget();
    if (budget >= gap) {
      spin.Paid();
    } else {
      in_vain += budget > 0;
      spin.Woken(gap);
    }
  }
  return in_vain;
}

TEST(AdaptiveSpinTest, IdleServiceDoesNotSpin) {
  AdaptiveSpin spin(kLimit);
  EXPECT_EQ(spin.budget(), 0u);
  EXPECT_EQ(Feed(spin, 10'000'000, 100), 0);
}

TEST(AdaptiveSpinTest, ShortWaitsGrowTheSpinUntilItCoversThem) {
  AdaptiveSpin spin(kLimit);
  Feed(spin, 30'000, 20);
  EXPECT_GE(spin.budget(), 30'000u);
  EXPECT_LE(spin.budget(), kLimit);
  EXPECT_EQ(Feed(spin, 30'000, 1000), 0);
}

TEST(AdaptiveSpinTest, LongWaitsEndTheSpinningSoon) {
  AdaptiveSpin spin(kLimit);
  Feed(spin, 40'000, 20);
  EXPECT_LE(Feed(spin, 1'000'000, 1000), 5);
  EXPECT_EQ(spin.budget(), 0u);
}

// The peer shares our CPU: it answers soon, yet never while we spin.
TEST(AdaptiveSpinTest, SpinsThatNeverPayBecomeRare) {
  AdaptiveSpin spin(kLimit);
  int in_vain = 0;
  for (int i = 0; i < 10'000; ++i) {
    in_vain += spin.budget() > 0;
    spin.Woken(kLimit);
  }
  EXPECT_LT(in_vain, 60);
  EXPECT_GT(in_vain, 0);
}

// A driver that touches its device twice and is then gone for long: the first
// wait pays, the second is not spun through.
TEST(AdaptiveSpinTest, EachSituationIsLearntByItself) {
  AdaptiveSpin spin(kLimit);
  RecentEvents events;
  int in_vain = 0;
  for (int i = 0; i < 200; ++i) {
    for (const auto& [kind, gap] : {std::pair{1u, Nanoseconds{20'000}},
                                    std::pair{2u, Nanoseconds{500'000}}}) {
      events.Note(kind);
      const uint32_t situation = events.situation();
      const Nanoseconds budget = spin.budget(situation);
      if (budget >= gap) {
        spin.Paid(situation);
      } else {
        in_vain += budget > 0;
        spin.Woken(gap, situation);
      }
    }
  }
  EXPECT_LT(in_vain, 5);
  EXPECT_EQ(spin.budget(events.situation()), 0u);
  events.Note(1);
  EXPECT_GE(spin.budget(events.situation()), 20'000u);
}

// While we sleep, a round takes as long as waking everybody does; once we spin,
// the peer's answer is there in time.
TEST(AdaptiveSpinTest, WaitsThatOnlySleepingMadeLongAreSpunThrough) {
  AdaptiveSpin spin(kLimit);
  for (int i = 0; i < 100; ++i) {
    if (spin.budget() > 0) {
      spin.Paid();
    } else {
      spin.Woken(90'000);
    }
  }
  EXPECT_EQ(spin.budget(), kLimit);
}

// Waits that are near, yet too long each time, cost few spins.
TEST(AdaptiveSpinTest, NearWaitsThatStayTooLongAreSeldomTried) {
  AdaptiveSpin spin(kLimit);
  EXPECT_LT(Feed(spin, 3 * kLimit, 10'000), 60);
}

TEST(AdaptiveSpinTest, LimitOfZeroNeverSpins) {
  AdaptiveSpin spin(0);
  for (int i = 0; i < 10; ++i) spin.Woken(1);
  EXPECT_EQ(spin.budget(), 0u);
}

}  // namespace
}  // namespace bulkhead
