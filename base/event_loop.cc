#include "base/event_loop.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bulkhead {

void EventLoop::Add(int fd, uint32_t events, Handler handler) {
  epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  // A file (stdin from one) cannot be waited for: it is always ready, and its
  // owner reads it without us.
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return;
  handlers_[fd] = std::make_shared<Handler>(std::move(handler));
}

void EventLoop::Remove(int fd) {
  if (handlers_.erase(fd) > 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
}

bool EventLoop::RunUntil(const std::function<bool()>& done,
                         Clock::time_point deadline) {
  while (!done()) {
    const auto now = Clock::now();
    if (now >= deadline) return false;
    const auto left =
        std::min<Clock::duration>(deadline - now, std::chrono::hours(1));
    const auto left_ms =
        std::chrono::ceil<std::chrono::milliseconds>(left).count();
    epoll_event events[16];
    const int count =
        epoll_wait(epoll_.get(), events, 16, static_cast<int>(left_ms));
    if (count < 0 && errno != EINTR) return false;
    for (int i = 0; i < count; ++i) {
      // An earlier handler of this round may have removed it.
      const auto found = handlers_.find(events[i].data.fd);
      if (found == handlers_.end()) continue;
      const std::shared_ptr<Handler> handler = found->second;
      (*handler)(events[i].events);
    }
  }
  return true;
}

}  // namespace bulkhead
