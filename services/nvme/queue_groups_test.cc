// Queues served in groups, by several threads: each command is served as by one
// thread, and what is not a read or write finds all of them at rest.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <tuple>

#include "services/nvme/testing/live_controller.h"

namespace bulkhead::nvme {
namespace {

constexpr unsigned kPairs = FrameDriver::kMostPairs;
constexpr unsigned kSlots = 32;
constexpr uint32_t kBytes = 4096;
constexpr uint32_t kBlocks = kBytes / 512;
constexpr uint64_t kBuffers = FrameDriver::kFreeRam;

Status StatusOf(const Completion& completion) {
  return static_cast<Status>(completion.status >> 1 & 0x7ff);
}

// Threads, and whether doorbells lie in memory.
class NvmeQueueGroupsTest
    : public ::testing::TestWithParam<std::tuple<unsigned, bool>> {
 protected:
  static unsigned threads() { return std::get<0>(GetParam()); }

  void SetUp() override {
    live_ = std::make_unique<LiveController>(LiveController::Setup{
        .queue_threads = threads(), .spin_limit_us = 20, .in_process = true});
    CreateQueues();
  }
  void CreateQueues() {
    live_->driver().CreateQueues(/*interrupts=*/true, kPairs,
                                 /*one_vector=*/false, std::get<1>(GetParam()));
  }
  static uint64_t BufferOf(unsigned pair, unsigned slot) {
    return kBuffers + ((pair - 1) * kSlots + slot) * uint64_t{kBytes};
  }
  uint8_t* data(unsigned pair, unsigned slot) {
    return live_->rig().ram_base() + BufferOf(pair, slot);
  }
  static Command Io(IoOpcode opcode, unsigned pair, unsigned slot) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.cid = static_cast<uint16_t>(slot);
    command.nsid = 1;
    command.prp1 = BufferOf(pair, slot);
    command.cdw10 = ((pair - 1) * kSlots + slot) * kBlocks;
    command.cdw12 = kBlocks - 1;
    return command;
  }
  void SubmitAll(IoOpcode opcode) {
    for (unsigned slot = 0; slot < kSlots; ++slot) {
      for (unsigned pair = 1; pair <= kPairs; ++pair) {
        live_->driver().Push(Io(opcode, pair, slot), pair);
        live_->driver().Ring(pair);
      }
    }
  }
  // Until each queue has answered all, by its interrupts.
  void CollectAll() {
    for (unsigned pair = 1; pair <= kPairs; ++pair) {
      for (unsigned n = 0; n < kSlots;) {
        Completion completion;
        if (live_->driver().Take(&completion, pair)) {
          ASSERT_EQ(StatusOf(completion), Status::kSuccess);
          ++n;
        } else {
          ASSERT_TRUE(live_->rig().WaitForInterrupt(
              MSIX, FrameDriver::kVector + pair - 1))
              << "pair " << pair << ", " << n << " answered";
        }
      }
    }
  }
  void Fill(uint8_t byte) {
    std::memset(data(1, 0), byte, uint64_t{kPairs} * kSlots * kBytes);
  }
  bool IsFilled(uint8_t byte) {
    const uint8_t* all = data(1, 0);
    for (uint64_t i = 0; i < uint64_t{kPairs} * kSlots * kBytes; ++i) {
      if (all[i] != byte) return false;
    }
    return true;
  }
  static Command Admin(AdminOpcode opcode, uint32_t cdw10 = 0,
                       uint32_t cdw11 = 0) {
    Command command = {};
    command.opcode = static_cast<uint8_t>(opcode);
    command.prp1 = 0x800000;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    return command;
  }

  std::unique_ptr<LiveController> live_;
};

INSTANTIATE_TEST_SUITE_P(, NvmeQueueGroupsTest,
                         testing::Combine(testing::Values(1, 2, 3, 4),
                                          testing::Bool()));

TEST_P(NvmeQueueGroupsTest, CommandsOfAllQueuesMoveTheirOwnBytes) {
  for (int round = 0; round < 20; ++round) {
    for (unsigned pair = 1; pair <= kPairs; ++pair) {
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        std::memset(data(pair, slot),
                    static_cast<int>(pair * kSlots + slot) + round, kBytes);
      }
    }
    SubmitAll(IoOpcode::kWrite);
    CollectAll();
    Fill(0);
    SubmitAll(IoOpcode::kRead);
    CollectAll();
    for (unsigned pair = 1; pair <= kPairs; ++pair) {
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        ASSERT_EQ(data(pair, slot)[kBytes - 1],
                  static_cast<uint8_t>(pair * kSlots + slot + round));
      }
    }
  }
  auto statistics = live_->rig().Statistics();
  EXPECT_EQ(statistics["nvme_commands"], 20u * 2 * kPairs * kSlots);
  EXPECT_EQ(statistics["block_write_requests"], 20u * kPairs * kSlots);
  EXPECT_EQ(statistics["group_turns"] > 0, threads() > 1);
}

// Admin commands bring the threads to rest, in the midst of work.
TEST_P(NvmeQueueGroupsTest, AdminCommandsAreCarriedOutWhileOthersRun) {
  for (int round = 0; round < 20; ++round) {
    SubmitAll(round % 2 == 0 ? IoOpcode::kRead : IoOpcode::kWrite);
    // The write cache: it reaches every group's storage.
    EXPECT_EQ(live_->RunAdmin(
                  Admin(AdminOpcode::kSetFeatures,
                        static_cast<uint32_t>(Feature::kVolatileWriteCache),
                        static_cast<uint32_t>(round % 2))),
              Status::kSuccess);
    EXPECT_EQ(live_->RunAdmin(Admin(AdminOpcode::kIdentify,
                                    static_cast<uint32_t>(Cns::kController))),
              Status::kSuccess);
    EXPECT_EQ(live_->rig().Read(0, kCsts, 4), kCstsReady);
    CollectAll();
  }
}

// What every group has counted and recorded is in the controller's logs.
TEST_P(NvmeQueueGroupsTest, LogsTellOfAllGroups) {
  SubmitAll(IoOpcode::kRead);
  CollectAll();
  for (unsigned pair = 1; pair <= kPairs; ++pair) {
    Command beyond = Io(IoOpcode::kRead, pair, 0);
    beyond.cdw10 = 0xffffff00;
    EXPECT_EQ(StatusOf(live_->driver().Run(beyond, pair)),
              Status::kLbaOutOfRange);
  }
  const uint8_t* page = live_->rig().ram_base() + 0x800000;
  ASSERT_EQ(live_->RunAdmin(
                Admin(AdminOpcode::kGetLogPage,
                      static_cast<uint32_t>(LogPage::kSmart) | 127u << 16)),
            Status::kSuccess);
  SmartLog smart;
  std::memcpy(static_cast<void*>(&smart), page, sizeof smart);
  EXPECT_EQ(smart.host_reads[0], uint64_t{kPairs} * kSlots);
  EXPECT_EQ(smart.error_log_entries[0], uint64_t{kPairs});
  ASSERT_EQ(live_->RunAdmin(Admin(
                AdminOpcode::kGetLogPage,
                static_cast<uint32_t>(LogPage::kErrorInformation) | 63u << 16)),
            Status::kSuccess);
  unsigned seen = 0;
  for (unsigned i = 0; i < kPairs; ++i) {
    ErrorLogEntry entry;
    std::memcpy(static_cast<void*>(&entry), page + i * sizeof entry,
                sizeof entry);
    EXPECT_EQ(entry.error_count, kPairs - i);
    seen |= 1u << entry.sq_id;
  }
  EXPECT_EQ(seen, 0b11110u) << "one of each queue";
}

// §7.3.2: after a reset nothing is touched that was submitted before it.
TEST_P(NvmeQueueGroupsTest, AResetEndsWhatOtherThreadsHaveInFlight) {
  for (int round = 0; round < 20; ++round) {
    SubmitAll(IoOpcode::kRead);
    if (round % 2 == 0) {
      live_->driver().Disable();
    } else {
      ASSERT_EQ(live_->rig().Reset(), OK);
    }
    Fill(0x5a);
    usleep(2000);
    ASSERT_TRUE(IsFilled(0x5a));
    live_->driver().Enable();
    CreateQueues();
    ASSERT_EQ(
        StatusOf(live_->driver().Run(Io(IoOpcode::kRead, kPairs, 0), kPairs)),
        Status::kSuccess);
  }
}

// §5.6: a queue goes when nothing of it is in flight; the others stay.
TEST_P(NvmeQueueGroupsTest, QueuesAreDeletedUnderLoad) {
  for (int round = 0; round < 10; ++round) {
    SubmitAll(IoOpcode::kRead);
    for (const uint32_t id : {2u, 4u}) {
      ASSERT_EQ(live_->RunAdmin(Admin(AdminOpcode::kDeleteSubmissionQueue, id)),
                Status::kSuccess);
      ASSERT_EQ(live_->RunAdmin(Admin(AdminOpcode::kDeleteCompletionQueue, id)),
                Status::kSuccess);
    }
    for (const unsigned pair : {1u, 3u}) {
      for (unsigned n = 0; n < kSlots;) {
        Completion completion;
        if (live_->driver().Take(&completion, pair)) {
          ASSERT_EQ(StatusOf(completion), Status::kSuccess);
          ++n;
        }
      }
    }
    live_->driver().Disable();
    live_->driver().Enable();
    CreateQueues();
  }
}

TEST_P(NvmeQueueGroupsTest, MemoryIsUnmappedFromUnderRunningCommands) {
  for (int round = 0; round < 10; ++round) {
    SubmitAll(IoOpcode::kRead);
    ASSERT_EQ(live_->rig().Unmap(kBuffers, 1 << 20), OK);
    Fill(0x77);
    usleep(1000);
    ASSERT_TRUE(IsFilled(0x77));
    ASSERT_EQ(live_->rig().Map(kBuffers, 1 << 20, kBuffers), OK);
    live_->driver().Disable();
    live_->driver().Enable();
    CreateQueues();
  }
}

// §5.2, figure 146: the host is told, whoever has seen it.
TEST_P(NvmeQueueGroupsTest, AnImpossibleDoorbellIsAnEventAndNoMore) {
  if (std::get<1>(GetParam())) return;  // those in memory are not rung at all
  for (unsigned pair = 1; pair <= kPairs; ++pair) {
    live_->rig().Write(0, kDoorbells + 8 * pair, 4, 0xffffffff);
    ASSERT_EQ(StatusOf(live_->driver().Run(Io(IoOpcode::kRead, pair, 0), pair)),
              Status::kSuccess);
  }
  EXPECT_EQ(live_->rig().Read(0, kCsts, 4), kCstsReady);
}

// §9.5: a ring that is no memory fails the controller until it is reset.
TEST_P(NvmeQueueGroupsTest, ARingThatIsNoMemoryFailsTheController) {
  for (unsigned pair = 1; pair <= kPairs; ++pair) {
    const uint64_t ring = 0x10000 + (pair - 1) * 0x20000;
    ASSERT_EQ(live_->rig().Unmap(ring, 0x10000), OK);
    live_->driver().Push(Io(IoOpcode::kRead, pair, 0), pair);
    live_->driver().Ring(pair);
    int tries = 0;
    while ((live_->rig().Read(0, kCsts, 4) & kCstsFatal) == 0) {
      ASSERT_LT(++tries, 10'000) << "pair " << pair;
    }
    ASSERT_EQ(live_->rig().Map(ring, 0x10000, ring), OK);
    live_->driver().Disable();
    live_->driver().Enable();
    CreateQueues();
    ASSERT_EQ(StatusOf(live_->driver().Run(Io(IoOpcode::kRead, pair, 0), pair)),
              Status::kSuccess);
  }
}

// A pair needs its namespace for itself: with several threads it is not
// offered.
TEST_P(NvmeQueueGroupsTest, FusedPairsAreOfferedByOneThreadOnly) {
  ASSERT_EQ(live_->RunAdmin(Admin(AdminOpcode::kIdentify,
                                  static_cast<uint32_t>(Cns::kController))),
            Status::kSuccess);
  IdentifyController id;
  std::memcpy(static_cast<void*>(&id), live_->rig().ram_base() + 0x800000,
              sizeof id);
  EXPECT_EQ(id.fuses, threads() == 1 ? 1 : 0);
  if (threads() == 1) return;
  for (unsigned pair = 1; pair <= kPairs; ++pair) {
    Command compare = Io(IoOpcode::kCompare, pair, 0);
    compare.flags = kFuseFirst;
    EXPECT_EQ(StatusOf(live_->driver().Run(compare, pair)),
              Status::kInvalidField);
  }
}

TEST_P(NvmeQueueGroupsTest, ADiskThatGrowsGrowsForEveryQueue) {
  SubmitAll(IoOpcode::kRead);
  EXPECT_EQ(live_->rig().GrowDisk(0, 32 << 20).error(), OK);
  CollectAll();
  for (unsigned pair = 1; pair <= kPairs; ++pair) {
    Command write = Io(IoOpcode::kWrite, pair, 0);
    write.cdw10 = (16 << 20) / 512 + pair * kBlocks;
    std::memset(data(pair, 0), static_cast<int>(pair), kBytes);
    // Told of it at the next turn's end, at the latest.
    Status status = Status::kLbaOutOfRange;
    for (int i = 0; i < 1000 && status == Status::kLbaOutOfRange; ++i) {
      status = StatusOf(live_->driver().Run(write, pair));
    }
    ASSERT_EQ(status, Status::kSuccess);
    char byte = 0;
    ASSERT_EQ(pread(live_->disk_fd(), &byte, 1,
                    static_cast<off_t>(write.cdw10 * uint64_t{512})),
              1);
    EXPECT_EQ(byte, static_cast<char>(pair));
  }
}

TEST_P(NvmeQueueGroupsTest, AStateSavedUnderLoadIsTakenUpAgain) {
  const int state = memfd_create("state", MFD_CLOEXEC);
  SubmitAll(IoOpcode::kRead);
  ASSERT_EQ(live_->rig().Quiesce(), OK);
  ASSERT_EQ(live_->rig().SaveState(state), OK);
  ASSERT_EQ(lseek(state, 0, SEEK_SET), 0);
  ASSERT_EQ(live_->rig().LoadState(state), OK);
  ASSERT_EQ(live_->rig().Resume(), OK);
  CollectAll();
  close(state);
}

TEST_P(NvmeQueueGroupsTest, TheServiceEndsWellUnderLoad) {
  SubmitAll(IoOpcode::kWrite);
  EXPECT_EQ(live_->rig().Finish(), 0);
}

}  // namespace
}  // namespace bulkhead::nvme
