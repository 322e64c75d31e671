// Queues: rings, doorbells in registers and in memory, round robin, full
// completion queues.

#include "services/nvme/queues.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

uint32_t Shadow(ControllerRig& rig, uint64_t at) {
  uint32_t value = 0;
  rig.context.memory().LoadAcquire32({at}, &value);
  return value;
}

TEST(NvmeQueuesTest, RingsWrapAndThePhaseTurns) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, /*entries=*/4);
  for (int i = 0; i < 11; ++i) {
    const Completion done = rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1));
    EXPECT_EQ(StatusOf(done), Status::kSuccess) << i;
    EXPECT_EQ(done.sq_id, 1);
    EXPECT_EQ(done.sq_head, (i + 1) % 4);
  }
}

TEST(NvmeQueuesTest, SixtyFourPairsOf1024EntriesWork) {
  ControllerRig rig;
  for (uint16_t id = 1; id <= kMaxIoQueues; ++id) {
    Command command = MakeCommand(AdminOpcode::kCreateCompletionQueue);
    command.prp1 = kQueuesAt + id * 0x20000ull;
    command.cdw10 = id | 1023u << 16;
    command.cdw11 = 3u | uint32_t{id % kVectors} << 16;
    ASSERT_EQ(StatusOf(rig.Submit(0, command)), Status::kSuccess) << id;
    command = MakeCommand(AdminOpcode::kCreateSubmissionQueue);
    command.prp1 = kQueuesAt + id * 0x20000ull + 0x10000;
    command.cdw10 = id | 1023u << 16;
    command.cdw11 = 1u | uint32_t{id} << 16;
    ASSERT_EQ(StatusOf(rig.Submit(0, command)), Status::kSuccess) << id;
  }
}

// A host that submits for ever and never looks at its completions.
TEST(NvmeQueuesTest, NothingIsFetchedWithoutRoomForItsCompletion) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, /*entries=*/8);
  for (int i = 0; i < 7; ++i) rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  for (int i = 0; i < 7; ++i) rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  EXPECT_EQ(rig.disks[0]->Count(block::Operation::kRead), 7u);

  for (int i = 0; i < 14; ++i) {
    EXPECT_TRUE(rig.Reap(1).has_value()) << i;
    rig.Turns();
  }
  EXPECT_EQ(rig.disks[0]->Count(block::Operation::kRead), 14u);
}

// §4.13: each queue gets its burst.
TEST(NvmeQueuesTest, RoundRobinServesEveryQueue) {
  ControllerRig rig;
  ASSERT_EQ(StatusOf(rig.SetFeature(Feature::kArbitration, 1)),
            Status::kSuccess);  // bursts of two
  for (uint16_t id = 1; id <= 3; ++id) rig.CreateIoQueuePair(id, 64);
  rig.disks[0]->ClearLog();
  for (int i = 0; i < 10; ++i) {
    for (uint16_t id = 1; id <= 3; ++id) {
      rig.Push(id, BlockCommand(IoOpcode::kRead, id, 1));
    }
  }
  for (uint16_t id = 1; id <= 3; ++id) rig.Ring(id);
  rig.Turns();

  const auto& log = rig.disks[0]->log();
  ASSERT_EQ(log.size(), 30u);
  for (size_t i = 0; i + 6 <= 30; i += 6) {
    std::vector<int> seen(4);
    for (size_t j = i; j < i + 6; ++j) ++seen[log[j].offset_bytes / 512];
    EXPECT_EQ(seen[1], 2);
    EXPECT_EQ(seen[2], 2);
    EXPECT_EQ(seen[3], 2);
  }
}

// §5.2, figure 146.
TEST(NvmeQueuesTest, BadDoorbellsAreReportedAsEvents) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 8);
  const auto event_of = [&rig](uint64_t doorbell, uint32_t value) {
    rig.Push(0, MakeCommand(AdminOpcode::kAsynchronousEventRequest));
    rig.Ring(0);
    rig.Turns();
    rig.Write32(doorbell, value);
    rig.Turns();
    const std::optional<Completion> event = rig.Reap(0);
    std::string log;
    rig.GetLog(LogPage::kErrorInformation, 64, &log);  // arms events again
    return event.has_value() ? uint32_t{event->result} : ~0u;
  };
  EXPECT_EQ(event_of(kDoorbells + 8 * 9, 1), 0x010000u) << "no such queue";
  EXPECT_EQ(event_of(kDoorbells + 8, 8), 0x010100u) << "past the ring";
  EXPECT_EQ(event_of(kDoorbells + 12, 3), 0x010100u) << "head past tail";
  EXPECT_EQ(StatusOf(rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1))),
            Status::kSuccess);
}

// ---- §5.7: doorbells in memory

TEST(NvmeQueuesTest, DoorbellsInMemoryAreSeenWithoutAnyRegisterWrite) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 16);
  rig.UseShadowDoorbells();
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(StatusOf(rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1))),
              Status::kSuccess);
  }
  EXPECT_TRUE(rig.controller->Run(rig.context.Now()).poll);
}

TEST(NvmeQueuesTest, GoingToSleepSetsTheEventIndexAndLooksOnceMore) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 16);
  rig.UseShadowDoorbells();
  for (int i = 0; i < 5; ++i) {
    rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1));
  }
  EXPECT_FALSE(rig.controller->PrepareToSleep());
  EXPECT_EQ(Shadow(rig, kEventIndicesAt + 8), 5u);

  // Rung between the last look and the sleep: it stays awake.
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  EXPECT_TRUE(rig.controller->PrepareToSleep());
  rig.Turns();
  EXPECT_TRUE(rig.Reap(1).has_value());

  // Rung after it: the host sees the index and writes the register.
  EXPECT_FALSE(rig.controller->PrepareToSleep());
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Write32(kDoorbells + 8, 7);
  rig.Turns();
  EXPECT_TRUE(rig.Reap(1).has_value());
}

TEST(NvmeQueuesTest, AFullCompletionQueueAsksForItsHead) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 8);
  rig.UseShadowDoorbells();
  for (int i = 0; i < 7; ++i) rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  for (int i = 0; i < 3; ++i) rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  EXPECT_FALSE(rig.controller->PrepareToSleep());
  EXPECT_EQ(Shadow(rig, kEventIndicesAt + 12), 0u);

  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(rig.Reap(1).has_value()) << i;
    rig.Turns();
  }
}

TEST(NvmeQueuesTest, NonsenseInDoorbellMemoryIsIgnored) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 16);
  rig.UseShadowDoorbells();
  rig.context.memory().StoreRelease32({kShadowAt + 8}, 0xfffffff0);
  rig.context.memory().StoreRelease32({kShadowAt + 12}, 0x12345);
  rig.Turns();
  EXPECT_FALSE(rig.fatal());
  EXPECT_EQ(rig.disks[0]->Count(block::Operation::kRead), 0u);
  rig.context.memory().StoreRelease32({kShadowAt + 12}, 0);
  EXPECT_EQ(StatusOf(rig.Submit(1, BlockCommand(IoOpcode::kRead, 0, 1))),
            Status::kSuccess);
}

TEST(NvmeQueuesTest, WithoutBusMasteringNothingMovesUntilItIsBack) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1, 16);
  rig.disks[0]->Hold();
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  rig.SetBusMaster(false);
  rig.disks[0]->ReleaseAll();
  rig.Turns();
  EXPECT_FALSE(rig.Reap(1).has_value());
  EXPECT_FALSE(rig.fatal());

  rig.SetBusMaster(true);
  rig.Turns();
  EXPECT_TRUE(rig.Reap(1).has_value());
}

}  // namespace
}  // namespace bulkhead::nvme
