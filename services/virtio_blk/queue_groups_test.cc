// Queues served in groups, by several threads: each request is served as by one
// thread, and what is not a request finds all of them at rest.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>

#include "services/pci/spec.h"
#include "services/virtio_blk/testing/live_device.h"

namespace bulkhead::virtio_blk {
namespace {

constexpr unsigned kQueues = 4;
constexpr unsigned kSlots = LiveDevice::kSlots;
constexpr uint32_t kBytes = 4096;
constexpr uint64_t kSectors = kBytes / kSectorBytes;

class QueueGroupsTest : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    live_ = std::make_unique<LiveDevice>(
        LiveDevice::Setup{.spin_limit_us = 20,
                          .queues = kQueues,
                          .queue_threads = GetParam(),
                          .in_process = true});
    ASSERT_TRUE(live_->Boot());
  }
  uint8_t* data(unsigned queue, unsigned slot) {
    return live_->ram() + LiveDevice::DataOf(queue, slot);
  }
  // A block of its own for each slot of each queue.
  static uint64_t SectorOf(unsigned queue, unsigned slot) {
    return (uint64_t{queue} * kSlots + slot) * kSectors;
  }
  void SubmitAll(uint32_t type) {
    for (unsigned slot = 0; slot < kSlots; ++slot) {
      for (unsigned queue = 0; queue < kQueues; ++queue) {
        ASSERT_TRUE(
            live_->Submit(queue, slot, type, SectorOf(queue, slot), kBytes));
      }
    }
  }
  void CollectAll() {
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      ASSERT_EQ(live_->Collect(queue), kSlots) << "queue " << queue;
    }
  }
  void Fill(int round) {
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        std::memset(data(queue, slot),
                    static_cast<int>(queue * kSlots + slot) + round, kBytes);
      }
    }
  }

  std::unique_ptr<LiveDevice> live_;
};

INSTANTIATE_TEST_SUITE_P(Threads, QueueGroupsTest, testing::Values(1, 2, 3, 4));

TEST_P(QueueGroupsTest, RequestsOfAllQueuesMoveTheirOwnBytes) {
  for (int round = 0; round < 20; ++round) {
    Fill(round);
    SubmitAll(kTypeOut);
    CollectAll();
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      std::memset(data(queue, 0), 0, kSlots * kBytes);
    }
    SubmitAll(kTypeIn);
    CollectAll();
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      for (unsigned slot = 0; slot < kSlots; ++slot) {
        ASSERT_EQ(data(queue, slot)[kBytes - 1],
                  static_cast<uint8_t>(queue * kSlots + slot + round));
      }
    }
  }
  auto statistics = live_->rig().Statistics();
  EXPECT_EQ(statistics["virtio_chains"], 20u * 2 * kQueues * kSlots);
  EXPECT_EQ(statistics["block_write_requests"], 20u * kQueues * kSlots);
  EXPECT_EQ(statistics["block_read_requests"], 20u * kQueues * kSlots);
  EXPECT_EQ(statistics["group_turns"] > 0, GetParam() > 1);
}

// Every access but a doorbell brings the threads to rest, in the midst of work.
TEST_P(QueueGroupsTest, RegistersAreReadAndWrittenWhileRequestsRun) {
  const uint64_t capacity = (16 << 20) / kSectorBytes;
  for (int round = 0; round < 30; ++round) {
    SubmitAll(round % 2 == 0 ? kTypeIn : kTypeOut);
    for (int i = 0; i < 5; ++i) {
      ASSERT_EQ(live_->driver().ReadDevice(0, 4), capacity);
      // The cache's mode: it reaches every group's storage.
      live_->driver().WriteDevice(offsetof(Config, writeback), 1,
                                  static_cast<uint64_t>(i % 2));
    }
    CollectAll();
  }
  EXPECT_EQ(live_->rig().Statistics()["group_rests"] > 0, GetParam() > 1);
}

// §2.4.1: after a reset nothing is touched that was submitted before it.
TEST_P(QueueGroupsTest, AResetEndsWhatOtherThreadsHaveInFlight) {
  for (int round = 0; round < 30; ++round) {
    SubmitAll(kTypeIn);
    if (round % 2 == 0) {
      ASSERT_TRUE(live_->driver().Reset());
    } else {
      ASSERT_EQ(live_->rig().Reset(), OK);
    }
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      std::memset(data(queue, 0), 0x5a, kSlots * kBytes);
    }
    usleep(2000);
    for (unsigned queue = 0; queue < kQueues; ++queue) {
      for (uint32_t at = 0; at < kSlots * kBytes; ++at) {
        ASSERT_EQ(data(queue, 0)[at], 0x5a)
            << "queue " << queue << " at " << at;
      }
    }
    ASSERT_TRUE(live_->Boot());
    ASSERT_EQ(live_->DoOn(kQueues - 1, kTypeIn, 0, kBytes), kStatusOk);
  }
}

// §4.1.4.3.1: of one queue, while the others go on.
TEST_P(QueueGroupsTest, OneQueueIsResetWhileTheOthersAreServed) {
  for (int round = 0; round < 20; ++round) {
    SubmitAll(kTypeIn);
    live_->driver().SelectQueue(1);
    live_->driver().WriteCommon(offsetof(virtio::CommonConfig, queue_reset), 2,
                                1);
    for (int i = 0; i < 1000; ++i) {
      if (live_->driver().ReadCommon(
              offsetof(virtio::CommonConfig, queue_reset), 2) == 0) {
        break;
      }
    }
    for (const unsigned queue : {0u, 2u, 3u}) {
      ASSERT_EQ(live_->Collect(queue), kSlots);
    }
    ASSERT_TRUE(live_->Boot());
  }
}

// The frame is answered when nobody touches the range any more.
TEST_P(QueueGroupsTest, MemoryIsUnmappedFromUnderRunningRequests) {
  for (int round = 0; round < 20; ++round) {
    const uint64_t at = LiveDevice::DataOf(1, 0);
    SubmitAll(kTypeIn);
    ASSERT_EQ(live_->rig().Unmap(at, 0x10000), OK);
    std::memset(data(1, 0), 0x77, kBytes);
    usleep(1000);
    ASSERT_EQ(data(1, 0)[0], 0x77);
    ASSERT_EQ(live_->rig().Map(at, 0x10000, at), OK);
    for (unsigned queue = 0; queue < kQueues; ++queue) live_->Collect(queue);
  }
}

// §2.1.2: a ring that breaks the rules fails the device, whoever serves it; and
// all is well after a reset.
TEST_P(QueueGroupsTest, ABrokenRingFailsTheDeviceUntilItIsReset) {
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    ASSERT_EQ(live_->DoOn(queue, kTypeIn, 0, kBytes), kStatusOk);
    // The available index runs ahead by more than the queue's size.
    uint16_t* index = reinterpret_cast<uint16_t*>(
        live_->ram() + live_->queue(queue).driver() + 2);
    __atomic_store_n(index, static_cast<uint16_t>(*index + 1000),
                     __ATOMIC_RELEASE);
    live_->driver().Notify(static_cast<uint16_t>(queue));
    ASSERT_TRUE(live_->NeedsReset()) << "queue " << queue;
    ASSERT_TRUE(live_->Boot());
    for (unsigned other = 0; other < kQueues; ++other) {
      ASSERT_EQ(live_->DoOn(other, kTypeOut, 0, kBytes), kStatusOk);
    }
  }
}

// What a guest does on one thread's queues does not keep another's waiting.
TEST_P(QueueGroupsTest, AQueueThatIsAlwaysFullLeavesTheOthersServed) {
  for (unsigned slot = 1; slot < kSlots; ++slot) {
    ASSERT_TRUE(live_->Submit(1, slot, kTypeIn, 0, 0x10000));
  }
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(live_->DoOn(0, kTypeIn, 8, kBytes), kStatusOk);
    ASSERT_EQ(live_->DoOn(2, kTypeIn, 8, kBytes), kStatusOk);
    uint32_t slot;
    uint32_t written;
    while (live_->queue(1).Take(&slot, &written)) {
      ASSERT_TRUE(live_->Submit(1, slot, kTypeIn, 0, 0x10000));
    }
  }
}

// INTx has but one line: the loop serves all queues then.
TEST_P(QueueGroupsTest, WithoutMsixTheLoopServesAllQueues) {
  live_->driver().EnableMsix(false);
  const uint64_t before = live_->rig().Statistics()["group_turns"];
  SubmitAll(kTypeIn);
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    for (int i = 0; i < 10'000 && live_->queue(queue).in_flight() > 0; ++i) {
      uint32_t slot;
      uint32_t written;
      if (!live_->queue(queue).Take(&slot, &written)) usleep(100);
    }
    EXPECT_EQ(live_->queue(queue).in_flight(), 0u) << queue;
  }
  EXPECT_EQ(live_->rig().Statistics()["group_turns"], before);
  live_->driver().EnableMsix(true);
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    EXPECT_EQ(live_->DoOn(queue, kTypeIn, 0, kBytes), kStatusOk);
  }
}

TEST_P(QueueGroupsTest, AStateSavedUnderLoadIsTakenUpAgain) {
  const int state = memfd_create("state", MFD_CLOEXEC);
  SubmitAll(kTypeIn);
  ASSERT_EQ(live_->rig().Quiesce(), OK);
  ASSERT_EQ(live_->rig().SaveState(state), OK);
  ASSERT_EQ(lseek(state, 0, SEEK_SET), 0);
  ASSERT_EQ(live_->rig().LoadState(state), OK);
  ASSERT_EQ(live_->rig().Resume(), OK);
  CollectAll();
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    EXPECT_EQ(live_->DoOn(queue, kTypeOut, 0, kBytes), kStatusOk);
  }
  close(state);
}

TEST_P(QueueGroupsTest, ADiskThatGrowsGrowsForEveryQueue) {
  const uint64_t old_end = (16 << 20) / kSectorBytes;
  SubmitAll(kTypeIn);
  EXPECT_EQ(live_->rig().GrowDisk(0, 32 << 20).error(), OK);
  CollectAll();
  for (int i = 0; i < 1000 && live_->driver().ReadDevice(0, 4) == old_end;
       ++i) {
  }
  ASSERT_EQ(live_->driver().ReadDevice(0, 4), 2 * old_end);
  for (unsigned queue = 0; queue < kQueues; ++queue) {
    std::memset(data(queue, 0), static_cast<int>(queue) + 1, kBytes);
    const uint64_t sector = old_end + queue * kSectors;
    ASSERT_EQ(live_->DoOn(queue, kTypeOut, sector, kBytes), kStatusOk);
    char byte = 0;
    ASSERT_EQ(pread(live_->disk_fd(), &byte, 1,
                    static_cast<off_t>(sector * kSectorBytes)),
              1);
    EXPECT_EQ(byte, static_cast<char>(queue + 1));
  }
}

TEST_P(QueueGroupsTest, TheServiceEndsWellUnderLoad) {
  SubmitAll(kTypeOut);
  EXPECT_EQ(live_->rig().Finish(), 0);
}

}  // namespace
}  // namespace bulkhead::virtio_blk
