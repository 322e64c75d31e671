// AdaptiveSpin decides how long the loop looks for the next frame before it
// sleeps. Waking a sleeper costs two to four times what a frame costs, but to
// spin in vain takes a CPU from the guest. So:
//
//   - the time grows while sleeps turn out to have been short, and shrinks when
//     they were long: an idle service does not spin at all;
//   - each spin that was in vain makes the loop sleep at once for a while,
//   twice
//     as often each time, until a spin pays again: a service whose peer needs
//     this CPU does not hold it.
//
// TRUST    Nothing.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_
#define BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_

#include <algorithm>
#include <cstdint>

#include "services/runtime/device.h"

namespace bulkhead {

class AdaptiveSpin {
 public:
  static constexpr Nanoseconds kLeast = 5'000;
  static constexpr uint32_t kMostPauses = 256;

  // `limit`: the longest spin; 0 turns spinning off.
  explicit AdaptiveSpin(Nanoseconds limit) : limit_(limit) {}

  // How long to spin now.
  Nanoseconds budget() const { return pauses_left_ > 0 ? 0 : time_; }

  // Work has come while the loop spun.
  void Paid() { pauses_ = 0; }

  // Work has come `waited` after the loop ran out of it, and woke it up.
  void Woken(Nanoseconds waited) {
    if (budget() > 0) {
      pauses_ = std::clamp(2 * pauses_, uint32_t{1}, kMostPauses);
      pauses_left_ = pauses_;
    } else if (pauses_left_ > 0) {
      --pauses_left_;
    }
    if (waited > limit_) {
      time_ = time_ / 2 < kLeast ? 0 : time_ / 2;
    } else if (waited > time_) {
      time_ = std::min(limit_, std::max(2 * time_, 2 * kLeast));
    }
  }

 private:
  Nanoseconds limit_;
  Nanoseconds time_ = 0;
  uint32_t pauses_ = 0;       // sleeps at once after the next spin in vain
  uint32_t pauses_left_ = 0;  // ... of which are still to come
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_
