// EventLoop waits for many fds at once (epoll, level-triggered) and calls whom
// they belong to.
//
// TRUST    Readiness only; what is read is the handler's business.
// ERRORS   An fd that cannot be waited for is not watched; a failed wait ends
//          RunUntil with false.
// THREADS  One thread. A handler may add and remove fds, also its own.

#ifndef BULKHEAD_BASE_EVENT_LOOP_H_
#define BULKHEAD_BASE_EVENT_LOOP_H_

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/fd.h"

namespace bulkhead {

using Clock = std::chrono::steady_clock;

class EventLoop {
 public:
  using Handler = std::function<void(uint32_t events)>;

  EventLoop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  // Calls `handler` whenever one of `events` (EPOLLIN, ...), a hang-up or an
  // error is there. The fd stays the caller's, who removes it before closing.
  void Add(int fd, uint32_t events, Handler handler);
  void Remove(int fd);

  // Handles events until `done` returns true (checked after each round) or the
  // deadline has come. Returns whether `done` did.
  bool RunUntil(const std::function<bool()>& done, Clock::time_point deadline);

 private:
  Fd epoll_;
  std::map<int, std::shared_ptr<Handler>> handlers_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_BASE_EVENT_LOOP_H_
