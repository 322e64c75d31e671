// The clock by which a shim and a service measure.
//
// TRUST    Nothing.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_PROTO_CLOCK_H_
#define BULKHEAD_PROTO_CLOCK_H_

#include <atomic>
#include <cstdint>
#include <ctime>

namespace bulkhead {

using Nanoseconds = uint64_t;
inline constexpr Nanoseconds kNoDeadline = ~Nanoseconds{0};

inline Nanoseconds FromTimespec(const timespec& time) {
  return static_cast<Nanoseconds>(time.tv_sec) * 1'000'000'000 +
         static_cast<Nanoseconds>(time.tv_nsec);
}

namespace clock_internal {

using Getter = int (*)(clockid_t, timespec*);

inline std::atomic<bool> is_coarse = false;

// The last tick's time may be that old. Added, the time does not go back when
// the kernel gives up its clock source in the midst of it all.
inline constexpr Nanoseconds kLongestTick = 10'000'000;

inline Nanoseconds Now(Getter get) {
  timespec now;
  if (get(CLOCK_MONOTONIC, &now) == 0) return FromTimespec(now);
  is_coarse.store(true, std::memory_order_relaxed);
  now = {};
  get(CLOCK_MONOTONIC_COARSE, &now);
  return FromTimespec(now) + kLongestTick;
}

}  // namespace clock_internal

// CLOCK_MONOTONIC, from the vDSO: no system call. Few clock sources (hpet,
// acpi_pm) keep the vDSO from answering; the call that it makes then is one
// that policies refuse, and the time is that of the last timer tick, which it
// always has.
inline Nanoseconds MonotonicNow() {
  return clock_internal::Now(&clock_gettime);
}

// Whether time goes in ticks of milliseconds: nothing short can be measured.
inline bool ClockIsCoarse() {
  return clock_internal::is_coarse.load(std::memory_order_relaxed);
}

inline timespec ToTimespec(Nanoseconds time) {
  return {static_cast<time_t>(time / 1'000'000'000),
          static_cast<long>(time % 1'000'000'000)};
}

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_CLOCK_H_
