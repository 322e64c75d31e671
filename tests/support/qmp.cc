#include "tests/support/qmp.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Qmp::~Qmp() {
  if (fd_ >= 0) close(fd_);
}

bool Qmp::Connect(const std::string& path, double timeout_seconds) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  path.copy(address.sun_path, path.size());
  const Clock::time_point start = Clock::now();
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  while (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
         0) {
    if (SecondsSince(start) > timeout_seconds) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  json greeting;
  return ReadMessage(&greeting, timeout_seconds) && greeting.contains("QMP") &&
         Execute("qmp_capabilities").contains("return");
}

bool Qmp::TakeFrom(pid_t process, int fd) {
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, process, 0));
  if (pidfd < 0) return false;
  fd_ = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
  close(pidfd);
  return fd_ >= 0;
}

bool Qmp::ReadMessage(json* message, double timeout_seconds) {
  const Clock::time_point start = Clock::now();
  for (;;) {
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      *message = json::parse(buffer_.substr(0, end), nullptr, false);
      buffer_.erase(0, end + 1);
      return !message->is_discarded();
    }
    const double left = timeout_seconds - SecondsSince(start);
    pollfd ready = {.fd = fd_, .events = POLLIN, .revents = 0};
    if (left <= 0 || poll(&ready, 1, static_cast<int>(left * 1000) + 1) <= 0) {
      return false;
    }
    char chunk[4096];
    const ssize_t got = read(fd_, chunk, sizeof(chunk));
    if (got <= 0) return false;
    buffer_.append(chunk, got);
  }
}

json Qmp::Execute(const std::string& command, json arguments,
                  double timeout_seconds) {
  json request = {{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  const std::string text = request.dump() + "\n";
  if (write(fd_, text.data(), text.size()) < 0) {
    return {{"error", "QEMU has closed its monitor"}};
  }
  const Clock::time_point start = Clock::now();
  json message;
  while (ReadMessage(&message, timeout_seconds - SecondsSince(start))) {
    if (message.contains("event")) {
      events_.push_back(message["event"]);
    } else {
      return message;
    }
  }
  return {{"error", "no answer"}};
}

double Qmp::AnswerSeconds(double timeout_seconds) {
  const Clock::time_point start = Clock::now();
  const json answer = Execute("query-status", json::object(), timeout_seconds);
  return answer.contains("return") ? SecondsSince(start) : -1;
}

bool Qmp::WaitForEvent(const std::string& name, double timeout_seconds) {
  const auto seen = std::find(events_.begin(), events_.end(), name);
  if (seen != events_.end()) {
    events_.erase(events_.begin(), seen + 1);
    return true;
  }
  events_.clear();
  const Clock::time_point start = Clock::now();
  json message;
  while (ReadMessage(&message, timeout_seconds - SecondsSince(start))) {
    if (message.contains("event") && message["event"] == name) return true;
  }
  return false;
}

}  // namespace bulkhead::testing
