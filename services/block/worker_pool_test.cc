#include "services/block/worker_pool.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <thread>

namespace bulkhead::block {
namespace {

struct Counted : Work {
  std::thread::id ran_on;
  int done_count = 0;
};

Counted MakeCounted() {
  Counted work;
  work.run = [](Work* w) {
    static_cast<Counted*>(w)->ran_on = std::this_thread::get_id();
  };
  work.done = [](Work* w) { ++static_cast<Counted*>(w)->done_count; };
  return work;
}

bool Readable(const WorkerPool& pool, int timeout_ms) {
  pollfd event = {pool.event_fd(), POLLIN, 0};
  return poll(&event, 1, timeout_ms) == 1;
}

TEST(WorkerPoolTest, WorkRunsElsewhereAndFinishesInPoll) {
  auto pool = WorkerPool::Create(2, AtEnd::kJoin);
  ASSERT_TRUE(pool.ok()) << pool.status();
  Counted work = MakeCounted();
  (*pool)->Post(&work);
  ASSERT_TRUE(Readable(**pool, 10000));
  EXPECT_EQ(work.done_count, 0);
  EXPECT_EQ((*pool)->Poll(), 1u);
  EXPECT_EQ(work.done_count, 1);
  EXPECT_NE(work.ran_on, std::this_thread::get_id());
}

// A loop that sleeps on the event must neither hang nor spin.
TEST(WorkerPoolTest, EventIsRaisedForEveryRoundAndClearedByPoll) {
  auto pool = WorkerPool::Create(1, AtEnd::kJoin);
  ASSERT_TRUE(pool.ok());
  Counted works[64];
  for (int round = 0; round < 200; ++round) {
    for (Counted& work : works) {
      work = MakeCounted();
      (*pool)->Post(&work);
    }
    while ((*pool)->pending() > 0) {
      ASSERT_TRUE(Readable(**pool, 10000)) << "lost wake-up";
      (*pool)->Poll();
    }
    for (const Counted& work : works) EXPECT_EQ(work.done_count, 1);
  }
  for (int i = 0; i < 3; ++i) (*pool)->Poll();
  EXPECT_FALSE(Readable(**pool, 0));
}

TEST(WorkerPoolTest, WithoutThreadsWorkRunsInPostAndFinishesInPoll) {
  auto pool = WorkerPool::Create(0, AtEnd::kJoin);
  ASSERT_TRUE(pool.ok());
  Counted work = MakeCounted();
  (*pool)->Post(&work);
  EXPECT_EQ(work.ran_on, std::this_thread::get_id());
  EXPECT_EQ(work.done_count, 0);
  EXPECT_EQ((*pool)->Poll(), 1u);
  EXPECT_EQ(work.done_count, 1);
}

TEST(WorkerPoolTest, EndWaitsForWhatRunsButFinishesNothing) {
  static std::atomic<bool> go{false};
  static std::atomic<bool> ran{false};
  Work work;
  work.run = [](Work*) {
    while (!go.load()) std::this_thread::yield();
    ran.store(true);
  };
  work.done = [](Work*) { FAIL() << "done after the end"; };
  for (const AtEnd at_end : {AtEnd::kJoin, AtEnd::kPark}) {
    go.store(false);
    ran.store(false);
    auto pool = WorkerPool::Create(1, at_end);
    ASSERT_TRUE(pool.ok());
    (*pool)->Post(&work);
    std::thread opener([] { go.store(true); });
    pool->reset();
    EXPECT_TRUE(ran.load());
    opener.join();
  }
}

}  // namespace
}  // namespace bulkhead::block
