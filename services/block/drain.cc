#include "services/block/drain.h"

#include <poll.h>
#include <time.h>

namespace bulkhead::block {
namespace {

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

bool Drain(Backend& backend, uint64_t deadline_ns) {
  while (backend.in_flight() > 0) {
    backend.Poll();
    if (backend.in_flight() == 0) return true;
    if (NowNs() >= deadline_ns) return false;
    pollfd event = {backend.event_fd(), POLLIN, 0};
    const timespec at_most = {0, 10'000'000};
    ppoll(&event, 1, &at_most, nullptr);
  }
  return true;
}

}  // namespace bulkhead::block
