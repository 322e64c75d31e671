// AdaptiveSpin decides whether to look again and again before going to sleep.
// Where the other side answers while we look, that saves both sides a wake-up;
// where it does not (it is idle, or needs our CPU), looking is given up for
// longer and longer.

#ifndef BULKHEAD_PROXY_ADAPTIVE_SPIN_H_
#define BULKHEAD_PROXY_ADAPTIVE_SPIN_H_

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace bulkhead::proxy {

using Nanoseconds = uint64_t;

// CLOCK_MONOTONIC.
inline Nanoseconds Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Nanoseconds>(now.tv_sec) * 1'000'000'000 +
         static_cast<Nanoseconds>(now.tv_nsec);
}

class AdaptiveSpin {
 public:
  explicit AdaptiveSpin(Nanoseconds limit) : limit_(limit) {}

  // How long to spin this time; 0: sleep at once.
  Nanoseconds Budget() {
    if (to_skip_ > 0) {
      --to_skip_;
      return 0;
    }
    return limit_;
  }
  // What came of the spinning that Budget allowed.
  void Ended(bool found) {
    failures_ = found ? 0 : std::min(failures_ + 1, kMaxFailures);
    to_skip_ = found ? 0 : (1u << failures_) - 1;
  }

 private:
  static constexpr uint32_t kMaxFailures = 6;

  Nanoseconds limit_;
  uint32_t failures_ = 0;
  uint32_t to_skip_ = 0;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_ADAPTIVE_SPIN_H_
