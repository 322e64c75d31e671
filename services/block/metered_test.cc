#include "services/block/metered.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <list>
#include <thread>

#include "proto/frame.pb.h"
#include "proto/service_config.pb.h"
#include "services/block/open.h"
#include "services/block/rig.h"

namespace bulkhead::block {
namespace {

constexpr uint64_t kDisk = 1 << 20;

class MeteredTest : public ::testing::Test {
 protected:
  MeteredTest() : fd_(memfd_create("disk", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_, kDisk), 0);
    config_.mutable_image()->set_fd(fd_);
    config_.mutable_image()->set_format(RAW);
    config_.mutable_image()->set_name("disk.raw");
  }
  ~MeteredTest() override { close(fd_); }

  Rig OpenRig() {
    auto backend = Open(config_, {.workers = 1, .locks_down = false});
    EXPECT_TRUE(backend.ok()) << backend.status();
    return Rig(*std::move(backend));
  }
  uint64_t Counter(Rig& rig, const std::string& name) {
    Statistics statistics;
    rig.backend().ReportStatistics(&statistics);
    for (const Statistic& counter : statistics.counters()) {
      if (counter.name() == name) return counter.value();
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }

  int fd_;
  BackendConfig config_;
};

// Milliseconds that `count` requests of `bytes` take, all submitted at once.
int64_t TimeOf(Rig& rig, int count, uint64_t bytes,
               Operation operation = Operation::kRead) {
  const auto start = std::chrono::steady_clock::now();
  std::list<std::unique_ptr<RigRequest>> requests;
  for (int i = 0; i < count; ++i) {
    requests.push_back(Rig::Make(operation, 0, bytes));
    rig.Submit(requests.back().get());
  }
  for (auto& request : requests) {
    EXPECT_EQ(rig.Finish(request.get()), IoStatus::kOk);
  }
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now() - start)
      .count();
}

TEST_F(MeteredTest, BurstPassesAtOnceAndTheRestAtTheRate) {
  config_.mutable_throttle()->set_iops(100);
  config_.mutable_throttle()->set_burst_ios(10);
  Rig rig = OpenRig();
  // 10 at once, 20 more at 100 a second.
  const int64_t took_ms = TimeOf(rig, 30, 512);
  EXPECT_GE(took_ms, 180);
  EXPECT_EQ(rig.missed_wake_ups(), 0);
  EXPECT_GE(Counter(rig, "block_throttled_requests"), 18u);
}

// Each request waits for an alarm that is set while the one before still rings.
TEST_F(MeteredTest, AlarmSetWhileTheLastOneRingsWakesTheLoop) {
  config_.mutable_throttle()->set_iops(20'000);
  config_.mutable_throttle()->set_burst_ios(1);
  Rig rig = OpenRig();
  for (int i = 0; i < 40; ++i) TimeOf(rig, 100, 512);
  EXPECT_EQ(rig.missed_wake_ups(), 0);
}

TEST_F(MeteredTest, HeldRequestsCanBeDroppedAndOthersPassLater) {
  config_.mutable_throttle()->set_iops(10);
  config_.mutable_throttle()->set_burst_ios(1);
  Rig rig = OpenRig();
  std::list<std::unique_ptr<RigRequest>> requests;
  for (int i = 0; i < 100; ++i) {
    requests.push_back(Rig::Make(Operation::kRead, 0, 512));
    rig.Submit(requests.back().get());
  }
  EXPECT_EQ(rig.Finish(requests.front().get()), IoStatus::kOk);
  rig.backend().DropHeld();
  EXPECT_EQ(rig.backend().in_flight(), 0u);
  EXPECT_TRUE(requests.back()->ended);
  EXPECT_EQ(requests.back()->status, IoStatus::kUnavailable);
  TimeOf(rig, 1, 512);
  EXPECT_EQ(rig.missed_wake_ups(), 0);
}

TEST_F(MeteredTest, BandwidthIsLimitedWhateverTheRequestsSize) {
  config_.mutable_throttle()->set_bytes_per_second(1 << 20);
  config_.mutable_throttle()->set_burst_bytes(64 << 10);
  Rig rig = OpenRig();
  // Far larger than the burst: it passes, and the next ones pay for it.
  EXPECT_GE(TimeOf(rig, 3, 128 << 10), 180);
}

// A guest that zeroes a disk has the host write it, or nearly.
TEST_F(MeteredTest, ZeroesCostTheBandwidthOfTheWriteTheyStandFor) {
  config_.mutable_throttle()->set_bytes_per_second(1 << 20);
  config_.mutable_throttle()->set_burst_bytes(64 << 10);
  Rig rig = OpenRig();
  EXPECT_GE(TimeOf(rig, 3, 128 << 10, Operation::kWriteZeroes), 180);
  EXPECT_GE(Counter(rig, "block_throttled_requests"), 2u);
}

// Six times the disk would take six seconds. fstrim does not hold up a guest.
TEST_F(MeteredTest, DiscardsCostAnOperationAndNoBandwidth) {
  config_.mutable_throttle()->set_bytes_per_second(1 << 20);
  config_.mutable_throttle()->set_burst_bytes(64 << 10);
  config_.mutable_throttle()->set_iops(10);
  config_.mutable_throttle()->set_burst_ios(4);
  Rig rig = OpenRig();
  // By operations alone: four at once, two more at ten a second.
  EXPECT_GE(TimeOf(rig, 6, kDisk, Operation::kDiscard), 180);
  EXPECT_GE(Counter(rig, "block_throttled_requests"), 1u);
  EXPECT_LE(Counter(rig, "block_throttled_requests"), 2u);
}

TEST_F(MeteredTest, FlushesAreNotHeldBack) {
  config_.mutable_throttle()->set_iops(1);
  config_.mutable_throttle()->set_burst_ios(1);
  Rig rig = OpenRig();
  EXPECT_EQ(rig.Write(0, std::string(512, 'x')), IoStatus::kOk);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(900));
}

TEST_F(MeteredTest, RequestsBytesFailuresAndLatenciesAreCounted) {
  Rig rig = OpenRig();
  EXPECT_EQ(rig.Write(0, std::string(4096, 'x')), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(0, 4096), std::string(4096, 'x'));
  std::string data;
  EXPECT_EQ(rig.Read(kDisk, 512, &data), IoStatus::kInvalid);
  EXPECT_EQ(Counter(rig, "block_write_requests"), 1u);
  EXPECT_EQ(Counter(rig, "block_write_bytes"), 4096u);
  EXPECT_EQ(Counter(rig, "block_read_requests"), 2u);
  EXPECT_EQ(Counter(rig, "block_read_failures"), 1u);
  Statistics statistics;
  rig.backend().ReportStatistics(&statistics);
  ASSERT_GT(statistics.latencies_size(), 0);
  EXPECT_EQ(statistics.latencies(0).name(), "block_read");
  uint64_t timed = 0;
  for (const uint64_t count : statistics.latencies(0).counts()) timed += count;
  EXPECT_EQ(timed, 2u);
}

// In a batch a request begins when the one before it ended; the first of the
// next batch does not.
TEST_F(MeteredTest, TimeBetweenTwoBatchesIsNoLatency) {
  Rig rig = OpenRig();
  for (const int seconds_before : {0, 1}) {
    std::this_thread::sleep_for(std::chrono::seconds(seconds_before));
    rig.backend().BeginBatch();
    TimeOf(rig, 2, 512);
    rig.backend().EndBatch();
  }
  Statistics statistics;
  rig.backend().ReportStatistics(&statistics);
  const auto& reads = statistics.latencies(0);
  ASSERT_EQ(reads.name(), "block_read");
  constexpr int kBucketOfASecond = 29;  // from 2^29 ns
  uint64_t timed = 0;
  for (int i = 0; i < kBucketOfASecond; ++i) timed += reads.counts(i);
  EXPECT_EQ(timed, 4u);
}

// A disk that is closed while requests are held back must not hang.
TEST_F(MeteredTest, ClosingWithAnAlarmSetEndsAtOnce) {
  config_.mutable_throttle()->set_iops(1);
  config_.mutable_throttle()->set_burst_ios(1);
  auto request = Rig::Make(Operation::kRead, 0, 512);
  auto held = Rig::Make(Operation::kRead, 0, 512);
  Rig rig = OpenRig();
  rig.Submit(request.get());
  rig.Submit(held.get());
  const auto start = std::chrono::steady_clock::now();
  rig.Close();
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(900));
  EXPECT_FALSE(held->ended);
}

TEST(TokenBucketTest, WhatIsTakenTooMuchIsOwed) {
  TokenBucket bucket(/*rate_per_second=*/1000, /*burst=*/10);
  const uint64_t second = 1'000'000'000;
  EXPECT_EQ(bucket.PassesAt(110, second), second);
  bucket.Take(110, second);  // 100 beyond the burst: a tenth of a second
  EXPECT_EQ(bucket.PassesAt(1, second), second + 101 * second / 1000);
  EXPECT_EQ(bucket.PassesAt(10, second * 2), second * 2);
}

TEST(TokenBucketTest, RateZeroIsNoLimit) {
  TokenBucket bucket(0, 0);
  bucket.Take(~uint64_t{0}, 5);
  EXPECT_EQ(bucket.PassesAt(1, 7), 7u);
}

}  // namespace
}  // namespace bulkhead::block
