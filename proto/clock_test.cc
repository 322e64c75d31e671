#include "proto/clock.h"

#include <unistd.h>

#include <cerrno>

#include "gtest/gtest.h"
#include "proto/adaptive_spin.h"

namespace bulkhead {
namespace {

// A kernel whose clock source keeps the vDSO from answering, under a policy
// that refuses the call which it makes then.
int Refused(clockid_t clock, timespec* time) {
  if (clock == CLOCK_MONOTONIC) {
    errno = EPERM;
    return -1;
  }
  return clock_gettime(clock, time);
}

class ClockTest : public testing::Test {
 protected:
  ~ClockTest() override { clock_internal::is_coarse = false; }
};

TEST_F(ClockTest, AnOrdinaryClockIsFine) {
  const Nanoseconds start = MonotonicNow();
  Nanoseconds now = start;
  while (now == start) now = MonotonicNow();
  EXPECT_GT(now, start);
  EXPECT_LT(now - start, Nanoseconds{1'000'000'000});
  EXPECT_FALSE(ClockIsCoarse());
}

TEST_F(ClockTest, ARefusedClockGoesOnInTicksAndNeverBack) {
  const Nanoseconds before = MonotonicNow();
  const Nanoseconds first = clock_internal::Now(&Refused);
  EXPECT_TRUE(ClockIsCoarse());
  EXPECT_GE(first, before);
  EXPECT_LE(first - before, 2 * clock_internal::kLongestTick);
  usleep(30'000);
  const Nanoseconds later = clock_internal::Now(&Refused);
  EXPECT_GE(later - first, Nanoseconds{10'000'000});
}

// A spin of microseconds would last until the next tick.
TEST_F(ClockTest, NobodySpinsByACoarseClock) {
  AdaptiveSpin spin(50'000);
  spin.Woken(1'000);
  spin.Woken(1'000);
  EXPECT_GT(spin.budget(), 0u);
  clock_internal::Now(&Refused);
  EXPECT_EQ(spin.budget(), 0u);
}

}  // namespace
}  // namespace bulkhead
