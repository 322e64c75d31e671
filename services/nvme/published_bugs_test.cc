// Published bugs of emulated NVMe controllers, and what belongs to them, as
// inputs to this one.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

constexpr uint64_t kOwnBar = 0xfebf0000;

// CVE-2021-3929: data that go into the controller's own BAR, whose write then
// resets it in the middle of the transfer. A BAR is no RAM: nothing happens.
TEST(NvmePublishedBugsTest, PrpIntoItsOwnBarIsADataTransferError) {
  ControllerRig rig;
  rig.controller->WriteRegion(kConfigRegion, 0x10, 4, kOwnBar);
  rig.CreateIoQueuePair(1);
  for (const uint64_t at : {kOwnBar + kCc - 4, kOwnBar, kOwnBar + 0x1000}) {
    Command command = BlockCommand(IoOpcode::kRead, 0, 1);
    command.prp1 = at;
    EXPECT_EQ(StatusOf(rig.Submit(1, command)), Status::kDataTransferError);
  }
  Command identify = MakeCommand(AdminOpcode::kIdentify);
  identify.cdw10 = 1;
  identify.prp1 = kOwnBar;
  EXPECT_EQ(StatusOf(rig.Submit(0, identify)), Status::kDataTransferError);
  EXPECT_TRUE(rig.ready());
}

TEST(NvmePublishedBugsTest, RingsInItsOwnBarAreFatalAndNoMore) {
  ControllerRig rig;
  Command command = MakeCommand(AdminOpcode::kCreateCompletionQueue);
  command.prp1 = kOwnBar;
  command.cdw10 = 1 | 15u << 16;
  command.cdw11 = 1;
  ASSERT_EQ(StatusOf(rig.Submit(0, command)), Status::kSuccess);
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateSubmissionQueue);
  command.cdw11 = 1 | 1u << 16;
  ASSERT_EQ(StatusOf(rig.Submit(0, command)), Status::kSuccess);
  rig.Write32(kDoorbells + 8, 1);
  rig.Turns();
  EXPECT_TRUE(rig.fatal());
  rig.Disable();
  rig.Enable();
  EXPECT_TRUE(rig.ready());
}

// CVE-2023-40360: Directive Receive without an endurance group.
TEST(NvmePublishedBugsTest, DirectiveReceiveIsInvalid) {
  ControllerRig rig;
  Command command = MakeCommand(static_cast<AdminOpcode>(0x1a), 1);
  command.cdw10 = 1023;
  command.cdw11 = 0x0201;
  command.prp1 = kBuffer;
  EXPECT_EQ(StatusOf(rig.Submit(0, command)), Status::kInvalidOpcode);
}

// An open case: Abort of a queue beyond those there can be.
TEST(NvmePublishedBugsTest, AbortOfQueuesThatDoNotExist) {
  ControllerRig rig;
  for (const uint32_t sq : {1u, 64u, 65u, 66u, 1000u, 0xffffu}) {
    Command command = MakeCommand(AdminOpcode::kAbort);
    command.cdw10 = sq | 5u << 16;
    EXPECT_EQ(StatusOf(rig.Submit(0, command)), Status::kInvalidField) << sq;
  }
}

// An open case: Copy out of bounds. The command is not claimed.
TEST(NvmePublishedBugsTest, CopyIsInvalid) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  Command command = BlockCommand(static_cast<IoOpcode>(0x19), ~0ull, 65536);
  EXPECT_EQ(StatusOf(rig.Submit(1, command)), Status::kInvalidOpcode);
}

// An open case: CC.EN cleared while a transfer is parked in the backend.
TEST(NvmePublishedBugsTest, ResetWhileDmaIsUnderWay) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  rig.disks[0]->Hold();
  for (const IoOpcode opcode :
       {IoOpcode::kRead, IoOpcode::kWrite, IoOpcode::kCompare,
        IoOpcode::kVerify, IoOpcode::kFlush, IoOpcode::kWriteZeroes}) {
    rig.Push(1, BlockCommand(opcode, 0, 8));
  }
  Command half = BlockCommand(IoOpcode::kCompare, 0, 1);
  half.flags = kFuseFirst;
  rig.Push(1, half);
  rig.Ring(1);
  rig.Turns();
  rig.Write32(kCc, 0);
  rig.Turns();
  rig.disks[0]->ReleaseAll();
  rig.Turns();
  EXPECT_FALSE(rig.ready());
  rig.Enable();
  rig.CreateIoQueuePair(1);
  EXPECT_EQ(StatusOf(rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1))),
            Status::kSuccess);
}

TEST(NvmePublishedBugsTest, QueuesDeletedAndMadeAgainUnderLoad) {
  ControllerRig rig;
  for (int round = 0; round < 20; ++round) {
    rig.CreateIoQueuePair(1);
    rig.disks[0]->Hold();
    for (int i = 0; i < 30; ++i) {
      rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
    }
    rig.Ring(1);
    rig.Turns();
    Command command = MakeCommand(AdminOpcode::kDeleteSubmissionQueue);
    command.cdw10 = 1;
    rig.Push(0, command);
    rig.Ring(0);
    rig.Turns();
    rig.disks[0]->ReleaseAll();
    rig.Turns();
    ASSERT_TRUE(rig.Reap(0).has_value());
    command.opcode = static_cast<uint8_t>(AdminOpcode::kDeleteCompletionQueue);
    ASSERT_EQ(StatusOf(rig.Submit(0, command)), Status::kSuccess);
  }
}

// A guest's store: of its races, ThreadSanitizer has nothing to say.
__attribute__((no_sanitize("thread"))) void StoreAsGuest(std::byte* at,
                                                         uint8_t value) {
  *reinterpret_cast<volatile uint8_t*>(at) = value;
}

// Commands, lists and doorbells change while they are read.
TEST(NvmePublishedBugsTest, ARacingMutatorGetsStatusesAndNothingElse) {
  ControllerRig rig({.capacity_bytes = 1 << 20});
  rig.CreateIoQueuePair(1, 64);
  rig.UseShadowDoorbells();
  std::atomic<bool> stop = false;
  std::byte* const ram = rig.context.memory().host_base();
  std::thread mutator([&] {
    uint32_t random = 1;
    while (!stop.load(std::memory_order_relaxed)) {
      random = random * 1664525 + 1013904223;
      const uint64_t at[] = {rig.SqAt(1) + random % 4096,
                             kLists + random % 4096, kShadowAt + random % 520};
      for (const uint64_t where : at) {
        StoreAsGuest(ram + where, static_cast<uint8_t>(random >> 16));
      }
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    Command command = BlockCommand(static_cast<IoOpcode>(i % 13),
                                   static_cast<uint64_t>(i % 2048),
                                   1 + static_cast<uint32_t>(i) % 1024);
    command.prp2 = kLists;
    rig.Push(1, command);
    rig.Ring(1);
    rig.controller->Run(rig.context.Now());
    while (rig.Reap(1).has_value()) {
    }
    if (i % 1000 == 0) rig.controller->PrepareToSleep();
  }
  stop = true;
  mutator.join();
  rig.Disable();
  rig.Enable();
  EXPECT_TRUE(rig.ready());
}

}  // namespace
}  // namespace bulkhead::nvme
