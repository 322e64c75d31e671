// The clock by which a shim and a service measure.
//
// TRUST    Nothing.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROTO_CLOCK_H_
#define BULKHEAD_PROTO_CLOCK_H_

#include <cstdint>
#include <ctime>

namespace bulkhead {

using Nanoseconds = uint64_t;
inline constexpr Nanoseconds kNoDeadline = ~Nanoseconds{0};

// CLOCK_MONOTONIC. No system call (vDSO).
inline Nanoseconds MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Nanoseconds>(now.tv_sec) * 1'000'000'000 +
         static_cast<Nanoseconds>(now.tv_nsec);
}

inline timespec ToTimespec(Nanoseconds time) {
  return {static_cast<time_t>(time / 1'000'000'000),
          static_cast<long>(time % 1'000'000'000)};
}

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_CLOCK_H_
