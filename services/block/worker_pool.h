// WorkerPool does on other threads what would keep the service's loop waiting.
//
//   pool->Post(&work);       // work.run(&work) on a worker
//   ... pool->Poll();        // work.done(&work) on the loop
//
// TRUST    Work is the engine's own.
// ERRORS   None after Create; Work carries its own result.
// THREADS  Create, Post, Poll and the destructor: the loop. The threads start
//          in Create, before the lock-down, and take the filter with it. In
//          the steady state they need futex and pwritev2 (of the eventfd, as
//          are all writes of a service) only.

#ifndef BULKHEAD_SERVICES_BLOCK_WORKER_POOL_H_
#define BULKHEAD_SERVICES_BLOCK_WORKER_POOL_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "services/block/ring.h"

namespace bulkhead::block {

// Lives with its owner from Post until `done`.
struct Work {
  void (*run)(Work* work) = nullptr;
  void (*done)(Work* work) = nullptr;
  Work* next = nullptr;  // the pool's
  int32_t result = 0;    // of what the ring did: bytes, or -errno
};

// What becomes of the threads with their pool. A locked-down process may not
// end a thread (that takes munmap, madvise and exit), so it parks them.
enum class AtEnd : bool { kJoin, kPark };

class WorkerPool {
 public:
  // threads may be 0: Post then runs the work at once, and Poll finishes it.
  static absl::StatusOr<std::unique_ptr<WorkerPool>> Create(unsigned threads,
                                                            AtEnd at_end);
  // Runs what was posted to its end, but calls `done` no more.
  ~WorkerPool();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Post(Work* work);

  // Another way for work to be done: `done` of what is in it comes from Poll as
  // well. Set-up; the ring was made for event_fd().
  void set_ring(std::unique_ptr<Ring> ring);
  Ring* ring() { return ring_.get(); }
  // False: the ring is full.
  bool SubmitToRing(Work* work, RingOperation operation, int file,
                    const iovec* segments, size_t count, uint64_t offset_bytes);
  // In between, what is submitted to the ring is collected.
  void HoldRing() {
    if (ring_ != nullptr) ring_->Hold();
  }
  void ReleaseRing() {
    if (ring_ != nullptr) ring_->Release();
  }

  // Makes event_fd readable, for an owner that has more to do by itself.
  void Wake();
  // Calls `done` of what has run; returns how many.
  size_t Poll();
  // Waits until something can be polled. For shutting down, not for serving.
  void WaitForOne();
  // Posted and not yet done.
  size_t pending() const { return pending_; }

  int event_fd() const;
  unsigned threads() const { return threads_; }
  uint64_t ring_enters() const {
    return ring_ != nullptr ? ring_->enters() : 0;
  }

 private:
  struct Shared;
  size_t PollRing();
  WorkerPool(std::shared_ptr<Shared> shared, unsigned threads, AtEnd at_end);

  std::shared_ptr<Shared> shared_;
  unsigned threads_;
  AtEnd at_end_;
  size_t pending_ = 0;
  std::unique_ptr<Ring> ring_;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_WORKER_POOL_H_
