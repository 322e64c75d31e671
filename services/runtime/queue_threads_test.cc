#include "services/runtime/queue_threads.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>

namespace bulkhead {
namespace {

constexpr Nanoseconds kSecond = 1'000'000'000;

void Pause(Nanoseconds time) {
  const timespec pause = ToTimespec(time);
  nanosleep(&pause, nullptr);
}

bool Becomes(const std::function<bool()>& condition) {
  for (int i = 0; i < 10'000; ++i) {
    if (condition()) return true;
    Pause(1'000'000);
  }
  return false;
}

// Its queues are counters: what was put in, and what a turn has taken out.
class FakeQueues : public QueueGroups {
 public:
  explicit FakeQueues(unsigned groups) : groups_(groups) {}

  unsigned groups() const override { return groups_; }
  bool MayRunApart() const override { return true; }
  Turn RunGroup(unsigned group, Nanoseconds) override {
    Group& served = state_[group];
    ++served.turns;
    // Not atomic: whoever looks at it without a stop is a data race.
    ++served.plain;
    Turn turn;
    turn.poll = true;
    if (served.put.load(std::memory_order_acquire) != served.taken) {
      ++served.taken;
      turn.worked = true;
    }
    served.done.store(served.taken, std::memory_order_release);
    turn.busy = served.endless.load(std::memory_order_relaxed);
    turn.attention = served.cries.exchange(false);
    if (const Nanoseconds time = served.slow.load(); time > 0) Pause(time);
    return turn;
  }
  bool PrepareGroupToSleep(unsigned group) override {
    return state_[group].put.load() != state_[group].taken;
  }
  void Attend() override {}
  int TakeDoorbell(uint32_t, uint64_t, unsigned, uint64_t) override {
    return -1;
  }

  struct Group {
    std::atomic<uint64_t> put{0};
    std::atomic<uint64_t> done{0};
    std::atomic<uint64_t> turns{0};
    std::atomic<bool> endless{false};
    std::atomic<bool> cries{false};
    std::atomic<Nanoseconds> slow{0};
    uint64_t taken = 0;
    uint64_t plain = 0;
  };
  Group& group(unsigned index) { return state_[index]; }

 private:
  const unsigned groups_;
  std::array<Group, kMaxQueueGroups> state_;
};

class QueueThreadsTest : public ::testing::Test {
 protected:
  void Make(Nanoseconds spin_limit = 0) {
    auto made = QueueThreads::Create(queues_, {.spin_limit = spin_limit,
                                               .watched = {{}, {watched_}},
                                               .park_at_end = false});
    ASSERT_TRUE(made.ok()) << made.status();
    threads_ = *std::move(made);
  }
  ~QueueThreadsTest() override {
    threads_.reset();
    close(watched_);
  }

  const int watched_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  FakeQueues queues_{3};
  std::unique_ptr<QueueThreads> threads_;
};

TEST_F(QueueThreadsTest, NothingRunsBeforeTheFirstStart) {
  Make();
  queues_.group(1).put = 1;
  Pause(20'000'000);
  EXPECT_EQ(queues_.group(1).turns, 0u);
  EXPECT_FALSE(threads_->running());
  EXPECT_TRUE(threads_->Stop(kSecond));
}

TEST_F(QueueThreadsTest, WakingAGroupServesItAndLeavesTheOthersAsleep) {
  Make();
  threads_->Start();
  ASSERT_TRUE(Becomes([&] { return queues_.group(2).turns > 0; }));
  Pause(20'000'000);
  const uint64_t before = queues_.group(2).turns;
  for (uint64_t i = 1; i <= 200; ++i) {
    queues_.group(1).put = i;
    threads_->Wake(1);
    ASSERT_TRUE(Becomes([&] { return queues_.group(1).done == i; })) << i;
  }
  EXPECT_EQ(queues_.group(2).turns, before);
}

TEST_F(QueueThreadsTest, AWatchedDescriptorWakesItsGroup) {
  Make();
  threads_->Start();
  ASSERT_TRUE(Becomes([&] { return queues_.group(1).turns > 0; }));
  Pause(20'000'000);
  const uint64_t before = queues_.group(1).turns;
  const uint64_t one = 1;
  ASSERT_EQ(write(watched_, &one, sizeof one), 8);
  EXPECT_TRUE(Becomes([&] { return queues_.group(1).turns > before; }));
  uint64_t count;
  ASSERT_EQ(read(watched_, &count, sizeof count), 8);
}

// What a thread has done is seen after a stop, and it does nothing more: plain
// memory is then the loop's (ThreadSanitizer looks).
TEST_F(QueueThreadsTest, AfterAStopTheLoopHasTheDeviceToItself) {
  for (const Nanoseconds spin_limit : {Nanoseconds{0}, Nanoseconds{50'000}}) {
    Make(spin_limit);
    for (int round = 0; round < 500; ++round) {
      threads_->Start();
      if (round % 3 == 0) {
        ++queues_.group(1).put;
        threads_->Wake(1);
      }
      queues_.group(2).endless = round % 2 == 0;
      if (round % 5 == 0) Pause(100'000);
      ASSERT_TRUE(threads_->Stop(10 * kSecond));
      const uint64_t plain = queues_.group(2).plain++;
      EXPECT_EQ(queues_.group(2).plain, plain + 1);
    }
    threads_.reset();
  }
}

// A guest that keeps one queue full neither holds up a stop nor another queue.
TEST_F(QueueThreadsTest, AGroupThatIsNeverDoneStopsAndLeavesTheOtherServed) {
  Make();
  queues_.group(1).endless = true;
  threads_->Start();
  for (uint64_t i = 1; i <= 50; ++i) {
    queues_.group(2).put = i;
    threads_->Wake(2);
    ASSERT_TRUE(Becomes([&] { return queues_.group(2).done == i; }));
  }
  EXPECT_TRUE(threads_->Stop(10 * kSecond));
}

TEST_F(QueueThreadsTest, AStopIsGivenUpAtItsTimeAndMayBeTriedAgain) {
  Make();
  queues_.group(1).slow = kSecond / 4;
  threads_->Start();
  ASSERT_TRUE(Becomes([&] { return queues_.group(1).turns > 0; }));
  ++queues_.group(1).put;
  threads_->Wake(1);
  EXPECT_FALSE(threads_->Stop(1'000'000));
  EXPECT_TRUE(threads_->running());
  queues_.group(1).slow = 0;
  EXPECT_TRUE(threads_->Stop(10 * kSecond));
  EXPECT_FALSE(threads_->running());
}

TEST_F(QueueThreadsTest, AGroupThatWantsAttentionRestsUntilTheNextStart) {
  Make();
  threads_->Start();
  EXPECT_FALSE(threads_->TakeAttention());
  queues_.group(2).cries = true;
  ++queues_.group(2).put;
  threads_->Wake(2);
  ASSERT_TRUE(Becomes([&] { return threads_->TakeAttention(); }));
  EXPECT_FALSE(threads_->TakeAttention());
  const uint64_t turns = queues_.group(2).turns;
  threads_->Wake(2);
  Pause(20'000'000);
  EXPECT_EQ(queues_.group(2).turns, turns);
  // The other goes on.
  queues_.group(1).put = 1;
  threads_->Wake(1);
  EXPECT_TRUE(Becomes([&] { return queues_.group(1).done == 1; }));
  ASSERT_TRUE(threads_->Stop(10 * kSecond));
  threads_->Start();
  EXPECT_TRUE(Becomes([&] { return queues_.group(2).turns > turns; }));
}

TEST_F(QueueThreadsTest, AnIdleGroupSleeps) {
  Make(/*spin_limit=*/50'000);
  threads_->Start();
  ASSERT_TRUE(Becomes([&] { return queues_.group(1).turns > 0; }));
  Pause(50'000'000);
  const uint64_t turns = queues_.group(1).turns;
  Pause(200'000'000);
  EXPECT_LE(queues_.group(1).turns, turns + 2);
}

}  // namespace
}  // namespace bulkhead
