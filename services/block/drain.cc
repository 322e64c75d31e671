#include "services/block/drain.h"

#include <poll.h>
#include <time.h>

#include <algorithm>

#include "proto/clock.h"

namespace bulkhead::block {

bool Drain(Backend& backend, uint64_t deadline_ns) {
  const uint64_t start_ns = MonotonicNow();
  const uint64_t held_until_ns =
      start_ns + (deadline_ns - std::min(start_ns, deadline_ns)) / 2;
  while (backend.in_flight() > 0) {
    backend.Poll();
    const uint64_t now_ns = MonotonicNow();
    if (now_ns >= held_until_ns) backend.DropHeld();
    if (backend.in_flight() == 0) return true;
    if (now_ns >= deadline_ns) return false;
    pollfd event = {backend.event_fd(), POLLIN, 0};
    const timespec at_most = {0, 10'000'000};
    ppoll(&event, 1, &at_most, nullptr);
  }
  return true;
}

}  // namespace bulkhead::block
