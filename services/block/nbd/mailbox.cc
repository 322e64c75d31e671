#include "services/block/nbd/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdint>

namespace bulkhead::block::nbd {

void Mailbox::List::Append(Request* request) {
  request->next = nullptr;
  (last != nullptr ? last->next : first) = request;
  last = request;
}

Mailbox::~Mailbox() {
  if (wake_fd_ >= 0) close(wake_fd_);
  if (ended_fd_ >= 0) close(ended_fd_);
}

absl::Status Mailbox::Open() {
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  ended_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd_ < 0 || ended_fd_ < 0) {
    return absl::ErrnoToStatus(errno, "eventfd");
  }
  return absl::OkStatus();
}

// As all of a service's reads and writes: with preadv2 and pwritev2.
void Mailbox::Signal(int fd) {
  uint64_t one = 1;
  const iovec segment = {&one, sizeof(one)};
  [[maybe_unused]] const ssize_t n = pwritev2(fd, &segment, 1, -1, 0);
}

void Mailbox::Clear(int fd) {
  uint64_t count;
  const iovec segment = {&count, sizeof(count)};
  [[maybe_unused]] const ssize_t n = preadv2(fd, &segment, 1, -1, 0);
}

void Mailbox::Put(Request* request) {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    new_.Append(request);
    wake = sleeping_;
    sleeping_ = false;
  }
  if (wake) Signal(wake_fd_);
}

void Mailbox::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stop_ = true;
  sleeping_ = false;
  Signal(wake_fd_);
}

Request* Mailbox::TakeNew(bool may_sleep, bool* sleeps, bool* stop) {
  std::lock_guard<std::mutex> lock(mutex_);
  Request* first = new_.first;
  new_ = List{};
  *stop = stop_;
  sleeping_ = may_sleep && first == nullptr && !stop_;
  *sleeps = sleeping_;
  return first;
}

void Mailbox::End(Request* request) { collected_.Append(request); }

void Mailbox::Deliver() {
  if (collected_.first == nullptr) return;
  bool was_empty;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    was_empty = ended_.first == nullptr;
    (was_empty ? ended_.first : ended_.last->next) = collected_.first;
    ended_.last = collected_.last;
    has_ended_.store(true, std::memory_order_release);
  }
  collected_ = List{};
  if (was_empty) SignalEnded();
}

void Mailbox::SignalEnded() {
  Signal(ended_fd_);
  // After the write: a loop that has seen the number can clear the event.
  signals_.fetch_add(1, std::memory_order_release);
}

Request* Mailbox::TakeEnded() {
  // The event first: what ends after this look raises it again.
  const uint64_t signals = signals_.load(std::memory_order_acquire);
  if (signals != signals_seen_) {
    signals_seen_ = signals;
    Clear(ended_fd_);
  }
  if (!has_ended_.load(std::memory_order_acquire)) return nullptr;
  std::lock_guard<std::mutex> lock(mutex_);
  Request* first = ended_.first;
  ended_ = List{};
  has_ended_.store(false, std::memory_order_relaxed);
  return first;
}

}  // namespace bulkhead::block::nbd
