#include "services/runtime/queue_threads.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "proto/adaptive_spin.h"
#include "services/runtime/fd_io.h"

namespace bulkhead {
namespace {

constexpr size_t kStackBytes = 256 << 10;

void Ring(int event_fd) {
  const uint64_t one = 1;
  // It fails only when the counter is full, and then it is readable.
  (void)WriteFd(event_fd, &one, sizeof one);
}

}  // namespace

struct QueueThreads::Thread {
  unsigned group = 0;
  std::vector<pollfd> poll;  // its own event, then what the device watches
  AdaptiveSpin spin{0};
  std::atomic<bool> asleep{false};
  Counters counters;
  pthread_t handle = {};
};

struct QueueThreads::Shared {
  explicit Shared(QueueGroups& served) : queues(served) {}
  ~Shared() {
    for (const Thread& thread : threads) {
      if (!thread.poll.empty()) close(thread.poll.front().fd);
    }
    if (event_fd >= 0) close(event_fd);
  }

  void Serve(Thread& thread);
  void RunApart(Thread& thread);
  bool Spin(Thread& thread, Nanoseconds* idle_since, Turn* turn);
  void Sleep(Thread& thread, Nanoseconds deadline);

  QueueGroups& queues;
  std::vector<Thread> threads;
  int event_fd = -1;
  std::atomic<bool> attention{false};
  // The groups are to come to rest. Looked at after each turn.
  std::atomic<bool> rest_wanted{false};

  std::mutex mutex;
  std::condition_variable started;
  std::condition_variable rested;
  uint64_t starts = 0;
  size_t at_rest = 0;  // threads that wait for the next start
  bool quit = false;
};

void QueueThreads::Shared::Serve(Thread& thread) {
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    const uint64_t seen = starts;
    ++at_rest;
    rested.notify_one();
    while (starts == seen && !quit) started.wait(lock);
    if (quit) return;
    lock.unlock();
    RunApart(thread);
    lock.lock();
  }
}

void QueueThreads::Shared::RunApart(Thread& thread) {
  while (!rest_wanted.load(std::memory_order_acquire)) {
    ++thread.counters.turns;
    Nanoseconds now = MonotonicNow();
    Turn turn = queues.RunGroup(thread.group, now);
    if (!turn.attention && !turn.busy && Spin(thread, &now, &turn)) continue;
    if (turn.attention) {
      attention.store(true, std::memory_order_release);
      Ring(event_fd);
      return;
    }
    if (turn.busy) continue;
    Sleep(thread, turn.deadline);
    if (const Nanoseconds woken = MonotonicNow(); woken < turn.deadline) {
      thread.spin.Woken(woken - now);
    }
  }
}

// True: there is something to do at once. `*idle_since` becomes the time of the
// last work, `*turn` the last turn.
bool QueueThreads::Shared::Spin(Thread& thread, Nanoseconds* idle_since,
                                Turn* turn) {
  const Nanoseconds budget = thread.spin.budget();
  if (budget == 0 || !turn->poll) return false;
  ++thread.counters.spins;
  Nanoseconds until = *idle_since + budget;
  for (Nanoseconds now = MonotonicNow(); now < until; now = MonotonicNow()) {
    if (rest_wanted.load(std::memory_order_acquire)) return true;
    ++thread.counters.turns;
    *turn = queues.RunGroup(thread.group, now);
    if (turn->attention || !turn->poll) return false;
    if (turn->worked || turn->busy) {
      thread.spin.Paid();
      ++thread.counters.spins_that_paid;
      *idle_since = now;
      until = now + budget;
    }
    PauseInSpin(now - *idle_since);
    sched_yield();  // whom we have just woken may have been put on this CPU
  }
  return false;
}

// Who brings work after `asleep` is set sees it and rings; what came before is
// found by the last look at the queues.
void QueueThreads::Shared::Sleep(Thread& thread, Nanoseconds deadline) {
  thread.asleep.store(true);
  const bool work = queues.PrepareGroupToSleep(thread.group);
  if (work || rest_wanted.load()) {
    thread.asleep.store(false, std::memory_order_relaxed);
    return;
  }
  timespec timeout;
  const timespec* timeout_or_none = nullptr;
  if (deadline != kNoDeadline) {
    const Nanoseconds now = MonotonicNow();
    timeout = ToTimespec(deadline > now ? deadline - now : 0);
    timeout_or_none = &timeout;
  }
  ++thread.counters.sleeps;
  const int ready =
      ppoll(thread.poll.data(), thread.poll.size(), timeout_or_none, nullptr);
  thread.asleep.store(false, std::memory_order_relaxed);
  if (ready <= 0) return;
  if (thread.poll.front().revents != 0) {
    uint64_t count;
    (void)ReadFd(thread.poll.front().fd, &count, sizeof count);
  }
  for (size_t i = 1; i < thread.poll.size(); ++i) {
    // A descriptor that is broken or at its end would be ready for ever.
    if ((thread.poll[i].revents & (POLLNVAL | POLLERR | POLLHUP)) != 0) {
      thread.poll[i].fd = -1;
    }
  }
}

absl::StatusOr<std::unique_ptr<QueueThreads>> QueueThreads::Create(
    QueueGroups& queues, const Options& options) {
  struct Argument {
    std::shared_ptr<Shared> shared;
    Thread* thread;
  };
  auto shared = std::make_shared<Shared>(queues);
  shared->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (shared->event_fd < 0) return absl::ErrnoToStatus(errno, "eventfd");
  const size_t count = queues.groups() - 1;
  shared->threads = std::vector<Thread>(count);
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = shared->threads[i];
    thread.group = static_cast<unsigned>(i + 1);
    thread.spin = AdaptiveSpin(options.spin_limit);
    const int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (event < 0) return absl::ErrnoToStatus(errno, "eventfd");
    thread.poll.push_back({event, POLLIN, 0});
    if (thread.group >= options.watched.size()) continue;
    for (const int fd : options.watched[thread.group]) {
      thread.poll.push_back({fd, POLLIN, 0});
    }
  }
  std::unique_ptr<QueueThreads> made(new QueueThreads(shared));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  if (options.park_at_end) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  }
  size_t begun = 0;
  int error = 0;
  while (begun < count) {
    auto argument =
        std::make_unique<Argument>(Argument{shared, &shared->threads[begun]});
    error = pthread_create(
        &shared->threads[begun].handle, &attributes,
        [](void* raw) -> void* {
          const std::unique_ptr<Argument> mine(static_cast<Argument*>(raw));
          mine->shared->Serve(*mine->thread);
          return nullptr;
        },
        argument.get());
    if (error != 0) break;
    (void)argument.release();  // the thread's
    ++begun;
  }
  pthread_attr_destroy(&attributes);
  // As with the storage workers: a thread's start makes system calls that the
  // steady filter does not know.
  {
    std::unique_lock<std::mutex> lock(shared->mutex);
    shared->rested.wait(lock, [&] { return shared->at_rest == begun; });
  }
  made->joinable_ = options.park_at_end ? 0 : begun;
  if (error != 0) return absl::ErrnoToStatus(error, "starting a queue thread");
  return made;
}

QueueThreads::QueueThreads(std::shared_ptr<Shared> shared)
    : shared_(std::move(shared)) {}

QueueThreads::~QueueThreads() {
  while (!Stop(/*at_most=*/1'000'000'000)) {
  }
  if (joinable_ == 0) return;
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->quit = true;
    shared_->started.notify_all();
  }
  for (size_t i = 0; i < joinable_; ++i) {
    pthread_join(shared_->threads[i].handle, nullptr);
  }
}

void QueueThreads::Start() {
  if (running_) return;
  running_ = true;
  shared_->rest_wanted.store(false, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(shared_->mutex);
  shared_->at_rest = 0;
  ++shared_->starts;
  shared_->started.notify_all();
}

bool QueueThreads::Stop(Nanoseconds at_most) {
  if (!running_) return true;
  const Nanoseconds until = MonotonicNow() + at_most;
  shared_->rest_wanted.store(true);
  for (Thread& thread : shared_->threads) {
    if (thread.asleep.load()) Ring(thread.poll.front().fd);
  }
  std::unique_lock<std::mutex> lock(shared_->mutex);
  while (shared_->at_rest < shared_->threads.size()) {
    // Not wait_for, which asks the library's clock: see proto/clock.h.
    if (MonotonicNow() >= until) return false;
    shared_->rested.wait_until(lock, std::chrono::steady_clock::time_point(
                                         std::chrono::nanoseconds(until)));
  }
  running_ = false;
  return true;
}

void QueueThreads::Wake(unsigned group) {
  if (!running_ || group == 0 || group > shared_->threads.size()) return;
  Thread& thread = shared_->threads[group - 1];
  if (thread.asleep.load()) Ring(thread.poll.front().fd);
}

int QueueThreads::event_fd() const { return shared_->event_fd; }

bool QueueThreads::TakeAttention() {
  if (!shared_->attention.load(std::memory_order_acquire)) return false;
  // First the event: who raises it again after this is not missed.
  uint64_t count;
  (void)ReadFd(shared_->event_fd, &count, sizeof count);
  shared_->attention.store(false, std::memory_order_relaxed);
  return true;
}

QueueThreads::Counters QueueThreads::counters() const {
  Counters sum;
  for (const Thread& thread : shared_->threads) {
    sum.turns += thread.counters.turns;
    sum.sleeps += thread.counters.sleeps;
    sum.spins += thread.counters.spins;
    sum.spins_that_paid += thread.counters.spins_that_paid;
  }
  return sum;
}

}  // namespace bulkhead
