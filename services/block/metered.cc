#include "services/block/metered.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "proto/clock.h"
#include "proto/frame.pb.h"

namespace bulkhead::block {
namespace {

constexpr const char* kNames[] = {"read", "write", "flush", "discard",
                                  "write_zeroes"};

}  // namespace

absl::StatusOr<std::unique_ptr<Metered>> Metered::Create(
    std::unique_ptr<Backend> inner, const Limits& limits, AtEnd at_end) {
  std::unique_ptr<Metered> metered(new Metered(std::move(inner), limits));
  if (limits.any()) {
    auto alarm_pool = WorkerPool::Create(1, at_end);
    if (!alarm_pool.ok()) return alarm_pool.status();
    metered->alarm_pool_ = *std::move(alarm_pool);
    metered->alarm_pool_->Post(metered->alarm_.get());
  }
  return metered;
}

Metered::Metered(std::unique_ptr<Backend> inner, const Limits& limits)
    : inner_(std::move(inner)),
      limited_(limits.any()),
      ios_(limits.iops, limits.burst_ios),
      bytes_(limits.bytes_per_second, limits.burst_bytes),
      alarm_(std::make_unique<Alarm>()) {
  alarm_->wakes = inner_.get();
  alarm_->run = RingAlarms;
  alarm_->done = [](Work*) {};
  slots_.reserve(kMaxInFlight);
}

Metered::~Metered() {
  if (alarm_pool_ == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(alarm_->mutex);
    alarm_->cancelled = true;
    alarm_->changed.notify_one();
  }
  // Waits for the sleeper, which wakes the inner backend: first.
  alarm_pool_.reset();
}

bool Metered::IsLimited(const Request& request) const {
  return limited_ && request.operation != Operation::kFlush;
}

// Zeroes cost what the write they stand for costs: a host that has no shorter
// way does write them. A discard does not cost bandwidth: if it did, trimming
// an empty disk would hold up everything else for as long as writing all of it.
uint64_t Metered::BytesOf(const Request& request) {
  return request.operation == Operation::kDiscard ? 0 : request.length_bytes;
}

uint64_t Metered::PassesAt(const Request& request, uint64_t now_ns) const {
  return std::max(ios_.PassesAt(1, now_ns),
                  bytes_.PassesAt(BytesOf(request), now_ns));
}

void Metered::Submit(Request* request) {
  ++in_flight_;
  if (free_ == nullptr && slots_.size() < kMaxInFlight) {
    free_ = &slots_.emplace_back();
    free_->owner = this;
  }
  if (free_ == nullptr) {
    --in_flight_;
    request->status = IoStatus::kInvalid;
    request->done(request);
    return;
  }
  Slot* slot = free_;
  free_ = slot->next;
  slot->next = nullptr;
  slot->outer = request;
  slot->inner = *request;
  slot->inner.owner = slot;
  slot->inner.done = OnDone;
  const uint64_t just_now = std::exchange(just_now_ns_, 0);
  const uint64_t now = just_now != 0 ? just_now : MonotonicNow();
  slot->start_ns = now;
  if (!IsLimited(*request) ||
      (held_first_ == nullptr && PassesAt(*request, now) <= now)) {
    Pass(slot, now);
    return;
  }
  (held_last_ != nullptr ? held_last_->next : held_first_) = slot;
  held_last_ = slot;
  ++held_requests_;
  if (held_first_ == slot) SetAlarm(PassesAt(*request, now));
}

void Metered::Pass(Slot* slot, uint64_t now_ns) {
  const Request& request = slot->inner;
  if (IsLimited(request)) {
    ios_.Take(1, now_ns);
    bytes_.Take(BytesOf(request), now_ns);
  }
  inner_->Submit(&slot->inner);
}

void Metered::PassHeld() {
  while (held_first_ != nullptr) {
    const uint64_t now = MonotonicNow();
    const uint64_t at = PassesAt(held_first_->inner, now);
    if (at > now) {
      SetAlarm(at);
      return;
    }
    Slot* slot = held_first_;
    held_first_ = slot->next;
    if (held_first_ == nullptr) held_last_ = nullptr;
    slot->next = nullptr;
    held_ns_ += now - slot->start_ns;
    Pass(slot, now);
  }
}

void Metered::DropHeld() {
  Slot* slot = held_first_;
  held_first_ = held_last_ = nullptr;
  while (slot != nullptr) {
    Slot* next = slot->next;
    slot->next = nullptr;
    slot->inner.status = IoStatus::kUnavailable;
    OnDone(&slot->inner);
    slot = next;
  }
}

size_t Metered::Poll() {
  const size_t before = in_flight_;
  // In this order: polling takes back the wake-up of an alarm that rang before
  // it, and must not take that of one which PassHeld sets.
  inner_->Poll();
  PassHeld();
  return before > in_flight_ ? before - in_flight_ : 0;
}

void Metered::SetAlarm(uint64_t at_ns) {
  std::lock_guard<std::mutex> lock(alarm_->mutex);
  alarm_->at_ns = at_ns;
  alarm_->changed.notify_one();
}

void Metered::RingAlarms(Work* work) {
  auto* alarm = static_cast<Alarm*>(work);
  std::unique_lock<std::mutex> lock(alarm->mutex);
  while (!alarm->cancelled) {
    if (alarm->at_ns == Alarm::kNotSet) {
      alarm->changed.wait(lock);
      continue;
    }
    if (MonotonicNow() < alarm->at_ns) {
      // Not wait_for, which asks the library's clock: see proto/clock.h.
      alarm->changed.wait_until(lock,
                                std::chrono::steady_clock::time_point(
                                    std::chrono::nanoseconds(alarm->at_ns)));
      continue;
    }
    // Before the lock is given up: the loop, once woken, sets the next one.
    alarm->at_ns = Alarm::kNotSet;
    alarm->wakes->Wake();
  }
}

void Metered::OnDone(Request* inner) {
  Slot* slot = static_cast<Slot*>(inner->owner);
  Metered* self = slot->owner;
  Request* outer = slot->outer;
  Counts& counts = self->counts_[static_cast<size_t>(inner->operation)];
  ++counts.requests;
  counts.bytes += inner->length_bytes;
  if (inner->status != IoStatus::kOk) ++counts.failures;
  const uint64_t now = MonotonicNow();
  if (self->in_batch_) self->just_now_ns_ = now;
  const uint64_t took = std::max<uint64_t>(1, now - slot->start_ns);
  const size_t bucket = static_cast<size_t>(std::bit_width(took)) - 1;
  ++counts.latencies[std::min(bucket, kBuckets - 1)];
  outer->status = inner->status;
  slot->next = self->free_;
  self->free_ = slot;
  --self->in_flight_;
  outer->done(outer);
}

void Metered::ReportStatistics(Statistics* statistics) const {
  const auto add = [statistics](const std::string& name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  for (size_t i = 0; i < kOperations; ++i) {
    const Counts& counts = counts_[i];
    const std::string name = kNames[i];
    add("block_" + name + "_requests", counts.requests);
    add("block_" + name + "_bytes", counts.bytes);
    add("block_" + name + "_failures", counts.failures);
    Histogram* histogram = statistics->add_latencies();
    histogram->set_name("block_" + name);
    for (const uint64_t count : counts.latencies) {
      histogram->add_counts(count);
    }
  }
  add("block_throttled_requests", held_requests_);
  add("block_throttled_nanoseconds", held_ns_);
  add("block_in_flight", in_flight_);
  inner_->ReportStatistics(statistics);
}

}  // namespace bulkhead::block
