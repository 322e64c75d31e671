// The real program under its real policy, driven by frames and rings as a shim
// and a guest drive it.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "services/virtio_blk/testing/live_device.h"

namespace bulkhead::virtio_blk {
namespace {

using virtio::Buffer;

class ServiceTest : public ::testing::Test {
 protected:
  void Start(uint32_t spin_limit_us, bool packed) {
    live_ = std::make_unique<LiveDevice>(
        LiveDevice::Setup{.packed = packed, .spin_limit_us = spin_limit_us});
    ASSERT_TRUE(live_->Boot());
  }
  uint8_t Do(uint32_t type, uint64_t sector, uint32_t bytes) {
    return live_->Do(type, sector, bytes);
  }

  double CpuSeconds() {
    std::ifstream stat("/proc/" + std::to_string(live_->rig().pid()) + "/stat");
    std::string word;
    double ticks = 0;
    for (int i = 1; stat >> word && i <= 15; ++i) {
      if (i >= 14) ticks += atof(word.c_str());
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  std::unique_ptr<LiveDevice> live_;
};

TEST_F(ServiceTest, RequestsAreServedUnderTheFilter) {
  for (const bool packed : {false, true}) {
    Start(/*spin_limit_us=*/0, packed);
    std::memset(live_->ram() + LiveDevice::kDataAt, 'x', 4096);
    for (uint64_t i = 0; i < 500; ++i) {
      ASSERT_EQ(Do(kTypeOut, 8 * i, 4096), kStatusOk) << i;
      ASSERT_EQ(Do(kTypeIn, 8 * i, 4096), kStatusOk) << i;
    }
    EXPECT_EQ(Do(kTypeFlush, 0, 4096), kStatusOk);
    char byte = 0;
    EXPECT_EQ(pread(live_->disk_fd(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'x');
    EXPECT_EQ(live_->rig().Reset(), OK);
    EXPECT_EQ(live_->rig().Finish(), 0);
    live_.reset();
  }
}

// Two threads, and what they do is within the filter as well.
TEST_F(ServiceTest, TwoThreadsServeFourQueuesUnderTheFilter) {
  for (const uint32_t spin_limit_us : {0u, 50u}) {
    live_ = std::make_unique<LiveDevice>(LiveDevice::Setup{
        .spin_limit_us = spin_limit_us, .queues = 4, .queue_threads = 2});
    ASSERT_TRUE(live_->Boot());
    for (unsigned i = 0; i < 400; ++i) {
      const unsigned queue = i % 4;
      std::memset(live_->ram() + LiveDevice::DataOf(queue, 0),
                  static_cast<int>(i), 4096);
      ASSERT_EQ(live_->DoOn(queue, kTypeOut, 8 * i, 4096), kStatusOk) << i;
      ASSERT_EQ(live_->DoOn((i + 1) % 4, kTypeIn, 8 * i, 4096), kStatusOk) << i;
      ASSERT_EQ(live_->ram()[LiveDevice::DataOf((i + 1) % 4, 0)],
                static_cast<uint8_t>(i));
      if (i % 50 == 0) {
        ASSERT_EQ(live_->DoOn(queue, kTypeFlush, 0, 4096), kStatusOk);
        ASSERT_EQ(live_->DoOn(queue, kTypeIn, ~uint64_t{0}, 512),
                  kStatusIoError);
      }
    }
    EXPECT_GT(live_->rig().Statistics()["group_turns"], 0u);
    ASSERT_TRUE(live_->driver().Reset());
    ASSERT_TRUE(live_->Boot());
    EXPECT_EQ(live_->DoOn(1, kTypeIn, 0, 4096), kStatusOk);
    EXPECT_EQ(live_->rig().Finish(), 0);
  }
}

// What a limit holds back ends with the reset: nobody waits half a minute.
TEST_F(ServiceTest, ResetDoesNotWaitForWhatALimitHolds) {
  live_ = std::make_unique<LiveDevice>(LiveDevice::Setup{.iops = 1});
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(live_->Boot());
    for (unsigned slot = 0; slot < LiveDevice::kSlots; ++slot) {
      ASSERT_TRUE(live_->Submit(0, slot, kTypeIn, 0, 4096));
    }
    if (round == 0) {
      ASSERT_TRUE(live_->driver().Reset());  // §2.1: status 0
    } else {
      EXPECT_EQ(live_->rig().Reset(), OK);  // the whole function's
    }
  }
  EXPECT_EQ(live_->rig().Finish(), 0);
}

// No wake-up is lost between polling and sleeping.
TEST_F(ServiceTest, PollingServiceSleepsWithoutMissingWork) {
  Start(/*spin_limit_us=*/50, /*packed=*/false);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(Do(kTypeIn, 0, 512), kStatusOk) << i;
    if (i % 7 == 0) {
      const timespec pause = {0, (i % 13) * 10'000};
      nanosleep(&pause, nullptr);
    }
  }
}

TEST_F(ServiceTest, IdleServiceUsesNoCpu) {
  live_ = std::make_unique<LiveDevice>(
      LiveDevice::Setup{.spin_limit_us = 200, .queues = 2, .queue_threads = 2});
  ASSERT_TRUE(live_->Boot());
  for (unsigned i = 0; i < 500; ++i) {
    ASSERT_EQ(live_->DoOn(i % 2, kTypeIn, 0, 512), kStatusOk);
  }
  const timespec settle = {0, 100'000'000};
  nanosleep(&settle, nullptr);
  const double before = CpuSeconds();
  const timespec second = {1, 0};
  nanosleep(&second, nullptr);
  EXPECT_LE(CpuSeconds() - before, 0.02);
}

// Descriptors and rings that change while the device reads them: the device
// fails or goes on, and works again after a reset.
TEST_F(ServiceTest, RacingMutatorBreaksNothingButItsOwnQueue) {
  Start(/*spin_limit_us=*/50, /*packed=*/false);
  std::atomic<bool> stop{false};
  std::thread mutator([&] {
    uint64_t seed = 7;
    volatile uint8_t* ring = live_->ram() + LiveDevice::kRingAt;
    while (!stop.load(std::memory_order_relaxed)) {
      seed = seed * 6364136223846793005 + 1442695040888963407;
      // Descriptors mostly; the available ring and its index now and then.
      const uint64_t at =
          (seed >> 60) == 0 ? 0x2000 + (seed >> 40) % 16 : (seed >> 40) % 128;
      ring[at] = static_cast<uint8_t>(seed >> 32);
    }
  });
  const RequestHeader header = {kTypeIn, 0u, uint64_t{0}};
  std::memcpy(live_->ram() + LiveDevice::kHeaderAt, &header, sizeof header);
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 20; ++i) {
      const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                                {LiveDevice::kDataAt, 4096, true},
                                {LiveDevice::kStatusAt, 1, true}};
      if (!live_->queue().Add(buffers, 1)) break;
      live_->queue().Publish();
    }
    ASSERT_EQ(live_->rig().Ping(), OK);
    live_->driver().status();
    ASSERT_TRUE(live_->Boot(/*packed=*/false));
  }
  stop = true;
  mutator.join();
  ASSERT_TRUE(live_->Boot(/*packed=*/true));
  EXPECT_EQ(Do(kTypeIn, 0, 4096), kStatusOk);
}

}  // namespace
}  // namespace bulkhead::virtio_blk
