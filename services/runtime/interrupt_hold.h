// InterruptHold lets an interrupt that says "done" wait a little for more of
// its kind. To a guest with many requests under way each interrupt costs more
// than the request that it announces, and comes in the middle of the next one's
// submission. Whether more is to come cannot be known, so it is tried: now and
// then an interrupt is held back, for twice as long as requests have come
// apart, and when one has come meanwhile the next interrupt is held as well. In
// vain it is tried half as often each time, so a guest that has one request at
// a time loses less than a hundredth. A device that has other requests under
// way should not ask: its guest had better take what is done meanwhile.
//
// TRUST    A guest's timing steers only its own interrupts.
// ERRORS   None. No interrupt is held longer than kMostInAll.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_INTERRUPT_HOLD_H_
#define BULKHEAD_SERVICES_RUNTIME_INTERRUPT_HOLD_H_

#include <algorithm>
#include <cstdint>

#include "proto/clock.h"

namespace bulkhead {

class InterruptHold {
 public:
  // For the next event, and for all of them.
  static constexpr Nanoseconds kLeastWait = 2'000;
  static constexpr Nanoseconds kMostWait = 300'000;
  static constexpr Nanoseconds kMostInAll = 1'000'000;
  // Interrupts that pass at once between two tries, at the start and at most.
  static constexpr uint32_t kMostPauses = 256;

  // Whether the interrupt is held back. Asked whenever something may have
  // changed, and at deadline(). `due`: the device asserts it; `events` counts
  // what would have raised it or will (requests begun, requests done).
  bool Holds(bool due, uint64_t events, Nanoseconds now) {
    if (!due) {
      End();
      return false;
    }
    switch (state_) {
      case State::kIdle:
        Begin(events, now);
        return state_ == State::kHolding;
      case State::kHolding:
        if (events != events_) {
          has_found_ = true;
          events_ = events;
          wait_ = Bounded((wait_ + 2 * (now - last_)) / 2);
          last_ = now;
        }
        if (now < deadline()) return true;
        pauses_ =
            has_found_ ? 0 : std::clamp(2 * pauses_, uint32_t{1}, kMostPauses);
        pauses_left_ = pauses_;
        state_ = State::kReleased;
        return false;
      case State::kReleased:
        return false;
    }
    return false;
  }

  // It was raised, if it is one that stays asserted no longer than that; or it
  // is due no more.
  void End() { state_ = State::kIdle; }

  Nanoseconds deadline() const {
    return state_ == State::kHolding
               ? std::min(last_ + wait_, since_ + kMostInAll)
               : kNoDeadline;
  }

 private:
  enum class State { kIdle, kHolding, kReleased };

  static Nanoseconds Bounded(Nanoseconds wait) {
    return std::clamp(wait, kLeastWait, kMostWait);
  }

  void Begin(uint64_t events, Nanoseconds now) {
    const Nanoseconds between =
        (now - since_) / std::max<uint64_t>(events - events_, 1);
    events_ = events;
    since_ = last_ = now;
    if (pauses_left_ > 0) {
      --pauses_left_;
      state_ = State::kReleased;
      return;
    }
    if (!has_found_) wait_ = Bounded(2 * between);
    has_found_ = false;
    state_ = State::kHolding;
  }

  State state_ = State::kIdle;
  bool has_found_ = false;
  uint64_t events_ = 0;
  Nanoseconds since_ = 0;
  Nanoseconds last_ = 0;
  Nanoseconds wait_ = kMostWait;  // about twice the time between events
  uint32_t pauses_ = 0;
  uint32_t pauses_left_ = kMostPauses;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_INTERRUPT_HOLD_H_
