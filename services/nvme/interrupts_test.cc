// When and how a host is told of completions (NVMe 1.4 §7.5).

#include <gtest/gtest.h>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

void PushReads(ControllerRig& rig, int count) {
  for (int i = 0; i < count; ++i) {
    rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  }
  rig.Ring(1);
  rig.Turns();
}

TEST(NvmeInterruptsTest, MsixSignalsOncePerBatch) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, /*vector=*/5);
  PushReads(rig, 20);
  EXPECT_EQ(rig.interrupts(5), 1);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(rig.Reap(1).has_value());
}

// §7.5.1: the pin is high while an unmasked queue holds unread entries.
TEST(NvmeInterruptsTest, PinFollowsUnreadCompletionsAndTheMask) {
  ControllerRig rig({.start = false});
  rig.Enable();
  rig.Push(0, MakeCommand(AdminOpcode::kGetFeatures));
  rig.Ring(0);
  rig.Turns();
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());

  rig.Write32(kIntms, 1);
  rig.Turns();
  EXPECT_FALSE(rig.context.fake_interrupts().intx_level());
  rig.Write32(kIntmc, 1);
  rig.Turns();
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());

  EXPECT_TRUE(rig.Reap(0).has_value());
  rig.Turns();
  EXPECT_FALSE(rig.context.fake_interrupts().intx_level());
}

TEST(NvmeInterruptsTest, MsiIsHeldBackWhileMasked) {
  ControllerRig rig({.start = false});
  rig.TurnMsiOn();
  rig.Enable();
  rig.Write32(kIntms, 1);
  rig.Push(0, MakeCommand(AdminOpcode::kGetFeatures));
  rig.Ring(0);
  rig.Turns();
  EXPECT_EQ(rig.context.fake_interrupts().msi(0), 0);

  rig.Write32(kIntmc, 1);
  rig.Turns();
  EXPECT_EQ(rig.context.fake_interrupts().msi(0), 1);
}

// §5.21.1.8: up to 4 completions, or 200 us.
TEST(NvmeInterruptsTest, CoalescedInterruptComesAtTheThresholdOrInTime) {
  ControllerRig rig;
  ASSERT_EQ(StatusOf(rig.SetFeature(Feature::kInterruptCoalescing, 0x0203)),
            Status::kSuccess);
  rig.CreateIoQueuePair(1, 64, 3);

  PushReads(rig, 4);
  EXPECT_EQ(rig.interrupts(3), 1);
  PushReads(rig, 1);
  EXPECT_EQ(rig.interrupts(3), 1);
  EXPECT_LE(rig.controller->Run(rig.context.Now()).deadline,
            rig.context.Now() + 200'000);
  rig.context.Advance(250'000);
  rig.Turns();
  EXPECT_EQ(rig.interrupts(3), 2);
}

// Who answers an interrupt looks at its queue until that is empty.
TEST(NvmeInterruptsTest, AHostThatHasNotAnsweredYetIsNotInterruptedAgain) {
  for (const bool shadowed : {false, true}) {
    ControllerRig rig;
    rig.CreateIoQueuePair(1, 64, 3);
    if (shadowed) rig.UseShadowDoorbells();
    PushReads(rig, 2);
    PushReads(rig, 1);
    EXPECT_EQ(rig.interrupts(3), 1);
    // It has taken what it was told of, and has not seen the third.
    rig.Reap(1);
    rig.Turns();
    EXPECT_EQ(rig.interrupts(3), 1);
    rig.Reap(1);
    rig.Turns();
    EXPECT_EQ(rig.interrupts(3), 2);
    rig.Reap(1);
    PushReads(rig, 1);
    EXPECT_EQ(rig.interrupts(3), 3);
  }
}

TEST(NvmeInterruptsTest, AHostThatHasTakenAllIsNotInterruptedAnyMore) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, 3);
  PushReads(rig, 1);
  PushReads(rig, 1);
  rig.Reap(1);
  rig.Reap(1);
  rig.Turns();
  EXPECT_EQ(rig.interrupts(3), 1);
}

TEST(NvmeInterruptsTest, AHostThatDoesNotAnswerIsInterruptedAgainInTime) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, 3);
  PushReads(rig, 1);
  PushReads(rig, 1);
  EXPECT_EQ(rig.interrupts(3), 1);
  EXPECT_LE(rig.controller->Run(rig.context.Now()).deadline,
            rig.context.Now() + 100'000);
  rig.context.Advance(100'000);
  rig.Turns();
  EXPECT_EQ(rig.interrupts(3), 2);
}

// The host of one queue says nothing about that of the other.
TEST(NvmeInterruptsTest, AVectorOfTwoQueuesIsSignalledForEachCompletion) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, 3);
  rig.CreateIoQueuePair(2, 64, 3);
  PushReads(rig, 1);
  PushReads(rig, 1);
  EXPECT_EQ(rig.interrupts(3), 2);
}

// A host that submits for as long as it is not interrupted, 16 at most, and
// then takes all that is done. Each is done as soon as it is there.
TEST(NvmeInterruptsTest, AHostThatGoesOnSubmittingIsToldOfManyAtOnce) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, 3);
  int requests = 0;
  int untaken = 0;
  int seen = 0;
  for (int step = 0; step < 10'000; ++step) {
    if (untaken < 16) {
      PushReads(rig, 1);
      ++requests;
      ++untaken;
    }
    rig.context.Advance(10'000);
    rig.Turns();
    if (rig.interrupts(3) == seen) continue;
    seen = rig.interrupts(3);
    for (; untaken > 0; --untaken) ASSERT_TRUE(rig.Reap(1).has_value());
    rig.Turns();
  }
  EXPECT_GT(requests, 5'000);
  EXPECT_LT(seen, requests / 8);
}

TEST(NvmeInterruptsTest, AHostWithOneCommandAtATimeIsToldAtOnce) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 64, 3);
  constexpr int kRequests = 5'000;
  int waits_us = 0;
  for (int i = 0; i < kRequests; ++i) {
    PushReads(rig, 1);
    for (; rig.interrupts(3) == i; ++waits_us) {
      rig.context.Advance(1'000);
      rig.Turns();
    }
    ASSERT_TRUE(rig.Reap(1).has_value());
    rig.context.Advance(20'000);  // until it has the next
    rig.Turns();
  }
  EXPECT_LT(waits_us, kRequests * 20 / 50);  // 2 % of the time
}

}  // namespace
}  // namespace bulkhead::nvme
