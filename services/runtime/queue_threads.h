// QueueThreads are the threads that serve a device's queue groups, all but the
// first, which is the loop's.
//
//   threads->Start();            // they run apart
//   threads->Wake(group);        // a doorbell
//   if (!threads->Stop(...))     // all are at rest; the loop has the device
//
// They start before the lock-down, and serve nothing before the first Start. A
// thread that finds no work spins for a while (where CPUs are to spare), and
// then sleeps until its queue's doorbell or its storage wakes it.
//
// TRUST    What a guest does to its queues can keep a thread busy, within each
//          turn's budget; a stop waits for one turn.
// ERRORS   Create: what the kernel refuses.
// THREADS  All calls are the loop's. Steady state of a thread: ppoll, preadv2
//          and pwritev2 of eventfds, futex, sched_yield, and what its storage
//          needs.

#ifndef BULKHEAD_SERVICES_RUNTIME_QUEUE_THREADS_H_
#define BULKHEAD_SERVICES_RUNTIME_QUEUE_THREADS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "services/runtime/queue_groups.h"

namespace bulkhead {

class QueueThreads {
 public:
  struct Options {
    Nanoseconds spin_limit = 0;
    // Descriptors that wake a group, by group; the first entry is not used.
    std::vector<std::vector<int>> watched;
    // A locked-down process may not end a thread (that takes munmap, madvise
    // and exit): they sleep for ever instead.
    bool park_at_end = true;
  };

  // `queues` outlives this, or the last Stop.
  static absl::StatusOr<std::unique_ptr<QueueThreads>> Create(
      QueueGroups& queues, const Options& options);
  // Stops them, however long that takes.
  ~QueueThreads();
  QueueThreads(const QueueThreads&) = delete;
  QueueThreads& operator=(const QueueThreads&) = delete;

  bool running() const { return running_; }
  void Start();
  // True: every thread is at rest, and what it has done is seen. False: one is
  // still in its turn after `at_most`.
  bool Stop(Nanoseconds at_most);
  // A group has work, of which its thread may not know. What tells of it was
  // stored before by the guest, or sequentially consistent.
  void Wake(unsigned group);

  // Readable when a group has come to rest by itself (Turn::attention).
  int event_fd() const;
  // Whether one has, since the last call.
  bool TakeAttention();

  struct Counters {
    uint64_t turns = 0;
    uint64_t sleeps = 0;
    uint64_t spins = 0;
    uint64_t spins_that_paid = 0;
  };
  // Of all threads. At rest.
  Counters counters() const;

 private:
  struct Thread;
  struct Shared;

  explicit QueueThreads(std::shared_ptr<Shared> shared);

  const std::shared_ptr<Shared> shared_;  // parked threads hold it as well
  bool running_ = false;
  size_t joinable_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_QUEUE_THREADS_H_
