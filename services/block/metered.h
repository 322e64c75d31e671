// Metered is a backend around another: it counts and times requests, and holds
// back those that exceed the disk's limits.
//
// Held-back requests wait in order of arrival. A thread that does nothing but
// sleep (on a futex) wakes the loop when the first of them may go: a timer that
// needs no system call of its own.
//
// TRUST    As Backend.
// ERRORS   The inner backend's.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_BLOCK_METERED_H_
#define BULKHEAD_SERVICES_BLOCK_METERED_H_

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/backend.h"
#include "services/block/token_bucket.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {

struct Limits {
  uint64_t iops = 0;
  uint64_t bytes_per_second = 0;
  uint64_t burst_ios = 0;
  uint64_t burst_bytes = 0;

  bool any() const { return iops > 0 || bytes_per_second > 0; }
};

class Metered final : public Backend {
 public:
  static absl::StatusOr<std::unique_ptr<Metered>> Create(
      std::unique_ptr<Backend> inner, const Limits& limits, AtEnd at_end);
  ~Metered() override;

  const Geometry& geometry() const override { return inner_->geometry(); }
  void Submit(Request* request) override;
  void BeginBatch() override {
    in_batch_ = true;
    inner_->BeginBatch();
  }
  void EndBatch() override {
    inner_->EndBatch();
    in_batch_ = false;
    just_now_ns_ = 0;
  }
  size_t Poll() override;
  int event_fd() const override { return inner_->event_fd(); }
  void Wake() override { inner_->Wake(); }
  size_t in_flight() const override { return in_flight_; }
  void DropHeld() override;
  void Grow(Growth* growth) override { inner_->Grow(growth); }
  void Follow(const Geometry& grown) override { inner_->Follow(grown); }
  void SetWriteCache(bool enabled) override { inner_->SetWriteCache(enabled); }
  void ReportStatistics(Statistics* statistics) const override;

 private:
  static constexpr size_t kBuckets = 36;  // up to a minute, in powers of two
  static constexpr size_t kOperations = 5;

  // The inner backend's request for one of ours.
  struct Slot {
    Request inner;
    Request* outer = nullptr;
    Metered* owner = nullptr;
    uint64_t start_ns = 0;
    Slot* next = nullptr;
  };
  struct Counts {
    uint64_t requests = 0;
    uint64_t bytes = 0;
    uint64_t failures = 0;
    std::array<uint64_t, kBuckets> latencies = {};
  };
  // What the sleeping thread and the loop share. The thread lives as long as
  // the backend, so an alarm that is set while the last one rings is not
  // missed.
  struct Alarm : Work {
    static constexpr uint64_t kNotSet = 0;

    std::mutex mutex;
    std::condition_variable changed;
    uint64_t at_ns = kNotSet;
    bool cancelled = false;
    Backend* wakes = nullptr;
  };

  Metered(std::unique_ptr<Backend> inner, const Limits& limits);

  bool IsLimited(const Request& request) const;
  static uint64_t BytesOf(const Request& request);
  uint64_t PassesAt(const Request& request, uint64_t now_ns) const;
  void Pass(Slot* slot, uint64_t now_ns);
  void PassHeld();
  void SetAlarm(uint64_t at_ns);
  static void RingAlarms(Work* work);
  static void OnDone(Request* inner);

  std::unique_ptr<Backend> inner_;
  const bool limited_;
  TokenBucket ios_;
  TokenBucket bytes_;
  bool in_batch_ = false;
  // In a batch, after a request that was done at once: when that was. The next
  // one begins then, which saves a look at the clock; what the device does in
  // between, such as a request to another disk, counts for it.
  uint64_t just_now_ns_ = 0;
  size_t in_flight_ = 0;
  Slot* free_ = nullptr;
  Slot* held_first_ = nullptr;
  Slot* held_last_ = nullptr;
  // At most kMaxInFlight, for which there is room: those that were ever used.
  std::vector<Slot> slots_;
  std::array<Counts, kOperations> counts_;
  uint64_t held_ns_ = 0;
  uint64_t held_requests_ = 0;
  std::unique_ptr<Alarm> alarm_;
  std::unique_ptr<WorkerPool> alarm_pool_;  // one thread; only with limits
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_METERED_H_
