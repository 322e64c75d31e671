// AdaptiveSpin decides how long a loop looks for the next message before it
// sleeps. Waking a sleeper costs two to ten times what a message costs, but to
// spin in vain takes a CPU from the guest. So:
//
//   - it spins only where the last waits were short enough for it, or a few
//     times longer: a wait that was slept through holds the wake-up of each
//     process on the way, which spinning saves. Who is idle does not spin at
//     all;
//   - each spin that was in vain makes the loop sleep at once for a while,
//     twice as often each time, until a spin pays again: who has a peer that
//     needs this CPU does not hold it;
//   - what has happened last (the situation) tells much about what comes next:
//     after an interrupt its driver is near, after the driver's last access of
//     a request it is not. Each situation is learnt by itself.
//
// TRUST    A peer's timing decides how long its own partner spins, within the
//          limit.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_PROTO_ADAPTIVE_SPIN_H_
#define BULKHEAD_PROTO_ADAPTIVE_SPIN_H_

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "proto/clock.h"

namespace bulkhead {

// The kinds of the last three events, of four kinds. 0: nothing has happened.
class RecentEvents {
 public:
  static constexpr uint32_t kSituations = 64;

  void Note(uint32_t kind) {
    situation_ = (situation_ << 2 | (kind & 3)) % kSituations;
  }
  uint32_t situation() const { return situation_; }
  uint32_t last() const { return situation_ & 3; }

 private:
  uint32_t situation_ = 0;
};

// Between two looks of a spin that has found nothing for `waited`. The CPU may
// share its core with a guest's, which has it while this one pauses: the longer
// the wait, the more so. It delays what comes by a twentieth at most.
inline void PauseInSpin(Nanoseconds waited) {
  constexpr uint64_t kMostPauses = 32;  // about 1 us
  const uint64_t pauses = std::min(waited / 1000, kMostPauses);
  for (uint64_t i = 0; i < pauses; ++i) __builtin_ia32_pause();
}

class AdaptiveSpin {
 public:
  static constexpr uint32_t kMostPauses = 256;

  // `limit`: the longest spin; 0 turns spinning off.
  explicit AdaptiveSpin(Nanoseconds limit) : limit_(limit) {}

  // How long to spin now.
  Nanoseconds budget(uint32_t situation = 0) const {
    const Experience& known = known_[situation % known_.size()];
    return known.pauses_left == 0 && known.credit >= kEnoughCredit &&
                   !ClockIsCoarse()
               ? limit_
               : 0;
  }

  // Spins, if that has paid, until `look` is true; whether it was.
  template <typename Look>
  bool Spin(uint32_t situation, Look look) {
    const Nanoseconds limit = budget(situation);
    if (limit == 0) return false;
    const Nanoseconds end = MonotonicNow() + limit;
    do {
      if (look()) {
        Paid(situation);
        return true;
      }
      // The kernel puts whom a socket wakes on the CPU of the waker, as if that
      // were about to sleep.
      sched_yield();
    } while (MonotonicNow() < end);
    return false;
  }

  // Work has come while the loop spun.
  void Paid(uint32_t situation = 0) {
    Experience& known = known_[situation % known_.size()];
    known.credit = kMostCredit;
    known.pauses = 0;
  }

  // Work has come `waited` after the loop ran out of it, and woke it up.
  void Woken(Nanoseconds waited, uint32_t situation = 0) {
    Experience& known = known_[situation % known_.size()];
    if (known.pauses_left > 0) {
      --known.pauses_left;
    } else if (known.credit >= kEnoughCredit) {
      known.pauses = std::clamp(2 * known.pauses, uint32_t{1}, kMostPauses);
      known.pauses_left = known.pauses;
    }
    if (waited > kNear * limit_) {
      known.credit -= known.credit > 0;
    } else if (limit_ > 0) {
      known.credit = std::min(known.credit + 1, kMostCredit);
    }
  }

 private:
  // Of limits: a wait so long may be short enough for it once nobody sleeps.
  static constexpr Nanoseconds kNear = 4;
  // Short waits since the long ones.
  static constexpr uint32_t kEnoughCredit = 2;
  static constexpr uint32_t kMostCredit = 4;

  struct Experience {
    uint32_t credit = 0;
    uint32_t pauses = 0;       // sleeps at once after the next spin in vain
    uint32_t pauses_left = 0;  // ... of which are still to come
  };

  Nanoseconds limit_;
  std::array<Experience, RecentEvents::kSituations> known_ = {};
};

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_ADAPTIVE_SPIN_H_
