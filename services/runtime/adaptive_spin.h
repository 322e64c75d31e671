// AdaptiveSpin decides how long the loop looks for the next frame before it
// sleeps. Waking a sleeper costs two to four times what a frame costs, but to
// spin in vain takes a CPU from the guest. So the time grows while sleeps turn
// out to have been short, and shrinks when they were long; an idle service does
// not spin at all.
//
// TRUST    Nothing.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_
#define BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_

#include <algorithm>

#include "services/runtime/device.h"

namespace bulkhead {

class AdaptiveSpin {
 public:
  static constexpr Nanoseconds kLeast = 5'000;

  // `limit`: the longest spin; 0 turns spinning off.
  explicit AdaptiveSpin(Nanoseconds limit) : limit_(limit) {}

  // How long to spin now.
  Nanoseconds budget() const { return budget_; }

  // Work has come `waited` after the loop ran out of it.
  void Woken(Nanoseconds waited) {
    if (waited <= budget_) return;  // spinning paid
    if (waited <= limit_) {
      budget_ = std::min(limit_, std::max(2 * budget_, 2 * kLeast));
    } else {
      budget_ = budget_ / 2 < kLeast ? 0 : budget_ / 2;
    }
  }

 private:
  Nanoseconds limit_;
  Nanoseconds budget_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_ADAPTIVE_SPIN_H_
