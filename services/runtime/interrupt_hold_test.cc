#include "services/runtime/interrupt_hold.h"

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

// A device whose guest acknowledges each interrupt before it goes on.
class Guest {
 public:
  // One interrupt: it becomes due, `more` events follow it `gap` apart, and it
  // is acknowledged once it is raised. Returns how long it was held.
  Nanoseconds Interrupt(int more, Nanoseconds gap) {
    const Nanoseconds start = now_;
    ++events_;
    bool held = hold_.Holds(true, events_, now_);
    for (; held && more > 0; --more) {
      if (hold_.deadline() < now_ + gap) break;
      now_ += gap;
      ++events_;
      held = hold_.Holds(true, events_, now_);
    }
    while (held) {
      now_ = hold_.deadline();
      held = hold_.Holds(true, events_, now_);
    }
    const Nanoseconds took = now_ - start;
    hold_.Holds(false, events_, now_);
    now_ += 100'000;
    return took;
  }

 private:
  InterruptHold hold_;
  Nanoseconds now_ = 1'000'000'000;
  uint64_t events_ = 0;
};

TEST(InterruptHoldTest, FirstInterruptsPassAtOnce) {
  Guest guest;
  for (uint32_t i = 0; i < InterruptHold::kMostPauses; ++i) {
    EXPECT_EQ(guest.Interrupt(0, 0), 0u);
  }
}

TEST(InterruptHoldTest, GuestWithOneRequestAtATimeIsHardlyHeldBack) {
  Guest guest;
  Nanoseconds held = 0;
  for (int i = 0; i < 10'000; ++i) held += guest.Interrupt(0, 0);
  EXPECT_LT(held / 10'000, 1'000u);  // of the 100 us between two
}

// However fast it is: 4 us a request, and so 4 us once in a while.
TEST(InterruptHoldTest, FastGuestWithOneRequestAtATimeIsHardlyHeldBack) {
  InterruptHold hold;
  Nanoseconds now = 1'000'000'000;
  Nanoseconds held = 0;
  constexpr Nanoseconds kEach = 4'000;
  for (uint64_t i = 0; i < 10'000; ++i) {
    now += kEach;
    if (hold.Holds(true, i, now)) {
      held += hold.deadline() - now;
      now = hold.deadline();
      EXPECT_FALSE(hold.Holds(true, i, now));
    }
    hold.End();
  }
  EXPECT_LT(held, 10'000 * kEach / 50);
}

TEST(InterruptHoldTest, GuestWithManyRequestsGetsFewInterrupts) {
  Guest guest;
  for (int i = 0; i < 500; ++i) guest.Interrupt(15, 10'000);
  // Fifteen more came in time, and the wait for a sixteenth was short.
  const Nanoseconds held = guest.Interrupt(15, 10'000);
  EXPECT_GE(held, 150'000u);
  EXPECT_LE(held, 150'000u + 20'000u);
}

TEST(InterruptHoldTest, NoInterruptIsHeldForLong) {
  Guest guest;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LE(guest.Interrupt(1'000'000, 50'000), InterruptHold::kMostInAll);
  }
}

TEST(InterruptHoldTest, AcknowledgementByAPollingDriverEndsTheHold) {
  InterruptHold hold;
  for (uint32_t i = 0; i < InterruptHold::kMostPauses; ++i) {
    hold.Holds(true, i, i);
    hold.Holds(false, i, i);
  }
  EXPECT_TRUE(hold.Holds(true, 100, 1000));
  EXPECT_FALSE(hold.Holds(false, 100, 2000));
  EXPECT_EQ(hold.deadline(), kNoDeadline);
}

}  // namespace
}  // namespace bulkhead
