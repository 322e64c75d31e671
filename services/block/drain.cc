#include "services/block/drain.h"

#include <poll.h>
#include <time.h>

#include "proto/clock.h"

namespace bulkhead::block {

bool Drain(Backend& backend, uint64_t deadline_ns) {
  while (backend.in_flight() > 0) {
    backend.Poll();
    if (backend.in_flight() == 0) return true;
    if (MonotonicNow() >= deadline_ns) return false;
    pollfd event = {backend.event_fd(), POLLIN, 0};
    const timespec at_most = {0, 10'000'000};
    ppoll(&event, 1, &at_most, nullptr);
  }
  return true;
}

}  // namespace bulkhead::block
