// The real service, a process under its real filters, driven with the frames
// that a shim sends: what a hostile driver does to it, and that it lives on.

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "services/nvme/testing/live_controller.h"

namespace bulkhead::nvme {
namespace {

constexpr uint64_t kDiskBytes = 16 << 20;
constexpr uint64_t kBuffer = 0x400000;
constexpr uint64_t kList = FrameDriver::kFreeRam;

class NvmeServiceTest : public ::testing::Test {
 protected:
  NvmeServiceTest() : live_(kDiskBytes) {}
  ~NvmeServiceTest() override {
    EXPECT_EQ(live_.rig().Finish(), 0) << "the service ends as it should";
  }

  static Command Io(IoOpcode opcode, uint64_t slba, uint32_t blocks) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    command.prp1 = kBuffer;
    command.prp2 = kBuffer + 4096;
    command.cdw10 = static_cast<uint32_t>(slba);
    command.cdw12 = blocks - 1;
    return command;
  }
  Status Run(const Command& command) { return live_.Run(command); }

  LiveController live_;
};

TEST_F(NvmeServiceTest, WritesReachTheImageAndReadsComeBack) {
  live_.driver().CreateQueues(/*interrupts=*/true);
  live_.rig().set_ram(kBuffer, std::string(4096, 'w'));
  EXPECT_EQ(Run(Io(IoOpcode::kWrite, 8, 8)), Status::kSuccess);
  EXPECT_TRUE(live_.rig().WaitForInterrupt(MSIX, FrameDriver::kVector));
  EXPECT_EQ(Run(Io(IoOpcode::kFlush, 0, 1)), Status::kSuccess);
  char bytes[4096];
  ASSERT_EQ(pread(live_.disk_fd(), bytes, sizeof bytes, 4096), 4096);
  EXPECT_EQ(std::string(bytes, 4096), std::string(4096, 'w'));
}

// Two threads, and what they do is within the filter as well.
TEST(NvmeThreadsTest, TwoThreadsServeFourQueuesUnderTheFilter) {
  for (const bool in_memory : {true, false}) {
    LiveController live(
        LiveController::Setup{.queue_threads = 2, .spin_limit_us = 20});
    live.driver().CreateQueues(/*interrupts=*/true, 4, /*one_vector=*/false,
                               in_memory);
    for (uint32_t i = 0; i < 400; ++i) {
      const unsigned pair = i % 4 + 1;
      Command command = {};
      command.opcode =
          static_cast<uint8_t>(i % 8 < 4 ? IoOpcode::kWrite : IoOpcode::kRead);
      command.nsid = 1;
      command.prp1 = kBuffer;
      command.cdw10 = i * 8;
      command.cdw12 = 7;
      ASSERT_EQ(live.driver().Run(command, pair).status >> 1, 0) << i;
    }
    EXPECT_GT(live.rig().Statistics()["group_turns"], 0u);
    EXPECT_EQ(live.rig().Reset(), OK);
    EXPECT_EQ(live.rig().Finish(), 0);
  }
}

// CVE-2021-3929 and its like: the controller's own registers are no memory.
TEST_F(NvmeServiceTest, PointersIntoABarTouchNothing) {
  live_.driver().CreateQueues(false);
  for (const uint64_t bar : {uint64_t{0xfebf0000}, uint64_t{1} << 40}) {
    live_.rig().Write(7, 0x10, 4, static_cast<uint32_t>(bar));
    live_.rig().Write(7, 0x14, 4, bar >> 32);
    for (const uint64_t at : {bar, bar + kCc - 4, bar + kDoorbells}) {
      Command command = Io(IoOpcode::kRead, 0, 1);
      command.prp1 = at;
      EXPECT_EQ(Run(command), Status::kDataTransferError);
      command = Io(IoOpcode::kRead, 0, 64);
      command.prp2 = at;
      EXPECT_EQ(Run(command), Status::kDataTransferError);
    }
  }
  EXPECT_EQ(live_.rig().Read(0, kCsts, 4), kCstsReady);
}

TEST_F(NvmeServiceTest, ResetsOfEveryKindUnderLoad) {
  for (int round = 0; round < 30; ++round) {
    live_.driver().CreateQueues(true);
    for (int i = 0; i < 200; ++i) {
      Command command = Io(i % 2 == 0 ? IoOpcode::kRead : IoOpcode::kWrite,
                           static_cast<uint64_t>(i) * 16, 16);
      command.cid = static_cast<uint16_t>(i);
      live_.driver().Push(command);
    }
    live_.driver().Ring();
    if (round % 3 == 0) {
      EXPECT_EQ(live_.rig().Reset(), OK);
    } else if (round % 3 == 1) {
      live_.driver().Disable();
    } else {
      // Guest memory goes away in the middle, and comes back.
      EXPECT_EQ(live_.rig().Unmap(0, 16 << 20), OK);
      EXPECT_EQ(live_.rig().Map(0, 16 << 20, 0), OK);
      live_.driver().Disable();
    }
    live_.driver().Enable();
  }
  live_.driver().CreateQueues(false);
  EXPECT_EQ(Run(Io(IoOpcode::kRead, 0, 1)), Status::kSuccess);
}

TEST_F(NvmeServiceTest, SubmittingForEverWithoutReapingStopsAtTheQueuesEnd) {
  live_.driver().CreateQueues(false);
  for (uint32_t i = 0; i < 3 * FrameDriver::kEntries; ++i) {
    live_.driver().Push(Io(IoOpcode::kRead, 0, 1));
    if (i % 64 == 0) live_.driver().Ring();
  }
  live_.driver().Ring();
  EXPECT_EQ(live_.rig().Ping(), OK);
  EXPECT_LT(live_.rig().Statistics()["nvme_commands"], FrameDriver::kEntries);
  live_.driver().Disable();
  live_.driver().Enable();
}

// Commands, lists and doorbells change while they are read.
TEST_F(NvmeServiceTest, ARacingMutatorGetsStatusesAndNothingElse) {
  live_.driver().CreateQueues(false);
  std::atomic<bool> stop = false;
  uint8_t* const ram = live_.rig().ram_base();
  std::thread mutator([&] {
    uint32_t random = 7;
    while (!stop.load(std::memory_order_relaxed)) {
      random = random * 1664525 + 1013904223;
      const uint64_t at[] = {0x10000 + random % 65536, kList + random % 4096,
                             0x3000 + random % 64};
      for (const uint64_t where : at) {
        __atomic_store_n(ram + where, static_cast<uint8_t>(random >> 16),
                         __ATOMIC_RELAXED);
      }
    }
  });
  Completion completion;
  for (uint32_t i = 0; i < 20'000; ++i) {
    Command command = Io(static_cast<IoOpcode>(i % 13), i % 2048, 1 + i % 1024);
    command.prp2 = kList;
    live_.driver().Push(command);
    live_.driver().Ring();
    while (live_.driver().Take(&completion)) {
    }
    if (i % 1000 == 0) {
      EXPECT_EQ(live_.rig().Ping(), OK);
    }
  }
  stop = true;
  mutator.join();
  live_.driver().Disable();
  live_.driver().Enable();
  live_.driver().CreateQueues(false);
  EXPECT_EQ(Run(Io(IoOpcode::kRead, 0, 1)), Status::kSuccess);
}

}  // namespace
}  // namespace bulkhead::nvme
