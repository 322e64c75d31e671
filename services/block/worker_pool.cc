#include "services/block/worker_pool.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/status/status.h"

namespace bulkhead::block {
namespace {

constexpr size_t kStackBytes = 256 << 10;

struct List {
  Work* first = nullptr;
  Work* last = nullptr;

  void Append(Work* work) {
    work->next = nullptr;
    (last != nullptr ? last->next : first) = work;
    last = work;
  }
  Work* TakeFirst() {
    Work* work = first;
    first = work->next;
    if (first == nullptr) last = nullptr;
    return work;
  }
};

}  // namespace

// Threads hold it as well, for parked ones outlive the pool.
struct WorkerPool::Shared {
  ~Shared() {
    if (event_fd >= 0) close(event_fd);
  }

  void Signal() {
    uint64_t one = 1;
    // It fails only when the counter is full, and then it is readable.
    const iovec segment = {&one, sizeof(one)};
    [[maybe_unused]] const ssize_t n =
        pwritev2(event_fd, &segment, 1, /*offset=*/-1, 0);
    // After the write: a loop that has seen the number can clear the event.
    signals.fetch_add(1, std::memory_order_release);
  }

  void Serve() {
    std::unique_lock<std::mutex> lock(mutex);
    ++started;
    up.notify_one();
    for (;;) {
      while (waiting.first == nullptr) {
        if (stop) return;
        ++idle;
        posted.wait(lock);
        --idle;
      }
      Work* work = waiting.TakeFirst();
      lock.unlock();
      work->run(work);
      lock.lock();
      Finish(work);
    }
  }

  // With the mutex held.
  void Finish(Work* work) {
    const bool was_empty = finished.first == nullptr;
    finished.Append(work);
    ready.store(true, std::memory_order_release);
    if (was_empty) {
      Signal();
      polled.notify_one();
    }
  }

  std::mutex mutex;
  std::condition_variable posted;
  std::condition_variable polled;
  std::condition_variable up;
  List waiting;
  List finished;
  unsigned idle = 0;
  unsigned started = 0;
  bool stop = false;
  std::atomic<bool> ready{false};    // finished is not empty
  std::atomic<uint64_t> signals{0};  // writes to event_fd
  uint64_t signals_seen = 0;         // the loop's
  int event_fd = -1;
  std::vector<pthread_t> threads;
};

namespace {

template <typename Shared>
void* ThreadMain(void* argument) {
  std::unique_ptr<std::shared_ptr<Shared>> shared(
      static_cast<std::shared_ptr<Shared>*>(argument));
  (*shared)->Serve();
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::Create(unsigned threads,
                                                               AtEnd at_end) {
  auto shared = std::make_shared<Shared>();
  shared->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (shared->event_fd < 0) return absl::ErrnoToStatus(errno, "eventfd");
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  if (at_end == AtEnd::kPark) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  }
  std::unique_ptr<WorkerPool> pool(new WorkerPool(shared, 0, at_end));
  int error = 0;
  for (unsigned i = 0; i < threads && error == 0; ++i) {
    auto* argument = new std::shared_ptr<Shared>(shared);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, ThreadMain<Shared>, argument);
    if (error != 0) {
      delete argument;
      break;
    }
    if (at_end == AtEnd::kJoin) shared->threads.push_back(thread);
    ++pool->threads_;
  }
  pthread_attr_destroy(&attributes);
  // libc's own start of a thread makes system calls (rseq, set_robust_list)
  // that a locked-down process may not: a worker that is not yet in our code
  // when the steady filter comes would be killed for them.
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->up.wait(lock, [&] { return shared->started == pool->threads_; });
  lock.unlock();
  if (error != 0) return absl::ErrnoToStatus(error, "starting an I/O worker");
  return pool;
}

WorkerPool::WorkerPool(std::shared_ptr<Shared> shared, unsigned threads,
                       AtEnd at_end)
    : shared_(std::move(shared)), threads_(threads), at_end_(at_end) {}

WorkerPool::~WorkerPool() {
  size_t running = pending_;
  while (ring_ != nullptr && ring_->in_flight() > 0) {
    ring_->Wait();
    while (ring_->Take() != nullptr) --running;
  }
  {
    std::unique_lock<std::mutex> lock(shared_->mutex);
    for (;;) {
      while (shared_->finished.first != nullptr) {
        shared_->finished.TakeFirst();
        --running;
      }
      if (running == 0) break;
      shared_->polled.wait(lock);
    }
    if (at_end_ == AtEnd::kPark) return;
    shared_->stop = true;
    shared_->posted.notify_all();
  }
  for (const pthread_t thread : shared_->threads) pthread_join(thread, nullptr);
}

void WorkerPool::Post(Work* work) {
  ++pending_;
  if (threads_ == 0) {
    work->run(work);
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->Finish(work);
    return;
  }
  bool wake;
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->waiting.Append(work);
    wake = shared_->idle > 0;
  }
  if (wake) shared_->posted.notify_one();
}

void WorkerPool::Wake() { shared_->Signal(); }

size_t WorkerPool::Poll() {
  Shared& shared = *shared_;
  // First the event, then the list: what is finished after this look raises
  // the event again.
  const uint64_t signals = shared.signals.load(std::memory_order_acquire);
  const bool ring_event = ring_ != nullptr && ring_->event_may_be_set();
  if (signals != shared.signals_seen || ring_event) {
    shared.signals_seen = signals;
    uint64_t count;
    const iovec segment = {&count, sizeof(count)};
    const ssize_t n = preadv2(shared.event_fd, &segment, 1, /*offset=*/-1, 0);
    if (ring_event && n > 0) ring_->EventCleared();
  }
  const size_t from_ring = PollRing();
  if (!shared.ready.load(std::memory_order_acquire)) return from_ring;
  List finished;
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    finished = shared.finished;
    shared.finished = List{};
    shared.ready.store(false, std::memory_order_relaxed);
  }
  size_t count = from_ring;
  while (finished.first != nullptr) {
    Work* work = finished.TakeFirst();
    --pending_;
    ++count;
    work->done(work);
  }
  return count;
}

void WorkerPool::set_ring(std::unique_ptr<Ring> ring) {
  ring_ = std::move(ring);
}

bool WorkerPool::SubmitToRing(Work* work, RingOperation operation, int file,
                              const iovec* segments, size_t count,
                              uint64_t offset_bytes) {
  if (!ring_->Submit(work, operation, file, segments, count, offset_bytes)) {
    return false;
  }
  ++pending_;
  return true;
}

size_t WorkerPool::PollRing() {
  if (ring_ == nullptr) return 0;
  size_t count = 0;
  while (Work* work = ring_->Take()) {
    --pending_;
    ++count;
    work->done(work);
  }
  return count;
}

void WorkerPool::WaitForOne() {
  if (ring_ != nullptr && ring_->in_flight() > 0) {
    ring_->Wait();
    return;
  }
  std::unique_lock<std::mutex> lock(shared_->mutex);
  while (pending_ > 0 && shared_->finished.first == nullptr) {
    shared_->polled.wait(lock);
  }
}

int WorkerPool::event_fd() const { return shared_->event_fd; }

}  // namespace bulkhead::block
