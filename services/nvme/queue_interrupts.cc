// Interrupts of Queues: whose completions are told when.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "services/nvme/queues.h"

namespace bulkhead::nvme {
namespace {

constexpr Nanoseconds kCoalescingUnit = 100'000;  // §5.21.1.8

// What a host may take to answer an interrupt, before another one is sent.
constexpr Nanoseconds kAnswerTime = 100'000;

}  // namespace

// §5.21.1.8: a vector is held back until so many completions are there, or so
// much time has gone by. Never for the admin queue.
void Queues::CountForInterrupt(uint16_t cq_id) {
  const uint32_t threshold = features_.coalescing & 0xff;
  const uint16_t vector = state_.completion[cq_id].vector;
  Vectors& raised = groups_[group_of_completion(cq_id)].raised;
  if (!coalesces() || cq_id == 0 ||
      features_.coalescing_disabled[vector] != 0) {
    raised[vector] = true;
    return;
  }
  if (++counted_[vector] > threshold) {
    raised[vector] = true;
    return;
  }
  if (counted_[vector] == 1) since_[vector] = 0;  // as of the next look
  holds_back_ = true;
}

Vectors Queues::TakeInterrupts(unsigned group, Nanoseconds now,
                               Nanoseconds* deadline) {
  Vectors& raised = groups_[group].raised;
  if (holds_back_) {
    holds_back_ = false;
    const Nanoseconds time =
        (features_.coalescing >> 8 & 0xff) * kCoalescingUnit;
    for (unsigned vector = 0; vector < kVectors; ++vector) {
      if (counted_[vector] == 0 || raised[vector]) continue;
      if (since_[vector] == 0) since_[vector] = now;
      if (now - since_[vector] >= time) {
        raised[vector] = true;
      } else {
        holds_back_ = true;
        *deadline = std::min(*deadline, since_[vector] + time);
      }
    }
  }
  Vectors now_raised = raised;
  raised.reset();
  for (uint64_t left = now_raised.to_ullong(); left != 0; left &= left - 1) {
    const auto vector = static_cast<uint32_t>(std::countr_zero(left));
    now_raised[vector] = IsToBeTold(group, vector, now, deadline);
  }
  // Not touched where nothing is ever counted: groups may share a vector.
  for (uint64_t left = now_raised.to_ullong(); left != 0; left &= left - 1) {
    uint32_t& counted = counted_[static_cast<size_t>(std::countr_zero(left))];
    if (counted != 0) counted = 0;
  }
  return now_raised;
}

void Queues::CountQueuesOfVectors() {
  told_ = {};
  holds_ = {};
  sole_queue_.fill(kNoQueue);
  std::array<uint32_t, kVectors> users = {};
  for (uint16_t id = 0; id < kQueues; ++id) {
    const CompletionQueue& queue = state_.completion[id];
    if (queue.entries == 0 || queue.interrupts == 0) continue;
    sole_queue_[queue.vector] = ++users[queue.vector] == 1 ? id : kNoQueue;
  }
}

// Of a vector that is raised. Until its host has taken what the last interrupt
// told it of, the vector stays raised and waits.
bool Queues::IsToBeTold(unsigned group, uint32_t vector, Nanoseconds now,
                        Nanoseconds* deadline) {
  const uint16_t id = sole_queue_[vector];
  if (id == kNoQueue || id == 0 || group_of_completion(id) != group) {
    return true;
  }
  if (IsShadowed(id)) ReadHead(id);
  const CompletionQueue& queue = state_.completion[id];
  InterruptHold& hold = holds_[vector];
  const bool is_due = queue.head != queue.tail;  // or it has looked already
  Told& told = told_[vector];
  const uint32_t untaken = Distance(queue.head, told.tail, queue.entries);
  Nanoseconds wait_until = kNoDeadline;
  if (is_due && now - told.since < kAnswerTime && untaken > 0 &&
      untaken <= Used(queue)) {
    wait_until = told.since + kAnswerTime;
  } else if (reserved_[id] == 0 && !HasWork(group, false) &&
             hold.Holds(is_due, begun_[id], now)) {
    // With more to do, the host had better take these meanwhile.
    wait_until = hold.deadline();
  }
  if (wait_until != kNoDeadline) {
    groups_[group].raised[vector] = true;
    *deadline = std::min(*deadline, wait_until);
    return false;
  }
  hold.End();
  if (is_due) told = {now, queue.tail};
  return is_due;
}

// A host that interrupts by INTx is told to ring the head's register, always.
Vectors Queues::Unread() {
  Vectors unread;
  for (uint16_t id = 0; id < kQueues; ++id) {
    CompletionQueue& queue = state_.completion[id];
    if (queue.entries == 0 || queue.interrupts == 0) continue;
    if (IsShadowed(id)) {
      StoreEventIndex(CompletionOffset(id), queue.head);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      ReadHead(id);
    }
    if (queue.head != queue.tail) unread[queue.vector] = true;
  }
  return unread;
}

}  // namespace bulkhead::nvme
