#include "console/output.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace bulkhead::console {
namespace {

bool CanWrite(int fd, int timeout_ms) {
  pollfd ready = {.fd = fd, .events = POLLOUT, .revents = 0};
  return poll(&ready, 1, timeout_ms) == 1;
}

}  // namespace

Output::Output(EventLoop* loop) : loop_(loop) {}

Output::~Output() {
  if (watching_) loop_->Remove(STDOUT_FILENO);
}

void Output::Line(const std::string& text) {
  std::string line = text + "\n";
  if (dropped_ > 0) {
    line = absl::StrCat("launcher: ", dropped_, " lines dropped\n", line);
  }
  // A pipe that is ready takes PIPE_BUF bytes without blocking. The reader of
  // a terminal or pipe gets a moment.
  for (size_t at = 0; at < line.size();) {
    const size_t piece = std::min<size_t>(line.size() - at, PIPE_BUF);
    if (!CanWrite(STDERR_FILENO, 200) ||
        write(STDERR_FILENO, line.data() + at, piece) < 0) {
      ++dropped_;
      return;
    }
    at += piece;
  }
  dropped_ = 0;
}

bool Output::Console(absl::string_view bytes) {
  if (closed_) return true;  // to nowhere
  waiting_.append(bytes.data(), bytes.size());
  WriteSome();
  return !console_full();
}

void Output::WriteSome() {
  while (!waiting_.empty() && CanWrite(STDOUT_FILENO, 0)) {
    const size_t piece = std::min<size_t>(waiting_.size(), PIPE_BUF);
    const ssize_t wrote = write(STDOUT_FILENO, waiting_.data(), piece);
    if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) break;
    if (wrote <= 0) {
      closed_ = true;
      waiting_.clear();
      break;
    }
    waiting_.erase(0, wrote);
  }
  const bool watch = !waiting_.empty();
  if (watch == watching_) return;
  watching_ = watch;
  if (watch) {
    loop_->Add(STDOUT_FILENO, EPOLLOUT, [this](uint32_t) { WriteSome(); });
  } else {
    loop_->Remove(STDOUT_FILENO);
  }
}

void Output::Flush() {
  const auto deadline = Clock::now() + std::chrono::seconds(1);
  while (!waiting_.empty() && Clock::now() < deadline) {
    if (CanWrite(STDOUT_FILENO, 100)) WriteSome();
  }
}

}  // namespace bulkhead::console
