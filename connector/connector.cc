#include "connector/connector.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/backend_connector.h"
#include "proto/frame.pb.h"

namespace bulkhead::connector {
namespace {

constexpr uint64_t kFirstPauseMs = 50;
constexpr uint64_t kLongestPauseMs = 5000;
// A connection that lasted so long was a good one.
constexpr uint64_t kLastedMs = 10'000;
constexpr int kConnectMs = 10'000;

uint64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 +
         static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

}  // namespace

Connector::Connector(int control, int service)
    : control_(control), service_(service) {}

absl::Status Connector::Configure(const ConnectorConfig& config) {
  name_ = config.name();
  if (!config.socket_name().empty()) {
    Address address;
    auto* local = reinterpret_cast<sockaddr_un*>(&address.bytes);
    local->sun_family = AF_UNIX;
    const std::string& path = config.socket_name();
    if (path.size() >= sizeof(local->sun_path) ||
        path.find('/') != std::string::npos) {
      return absl::InvalidArgumentError("not the name of a socket");
    }
    memcpy(local->sun_path, path.data(), path.size());
    address.size = sizeof(sockaddr_un);
    addresses_.push_back(address);
  }
  for (const std::string& bytes : config.addresses()) {
    Address address;
    if (bytes.size() > sizeof(address.bytes)) {
      return absl::InvalidArgumentError("an address is too long");
    }
    memcpy(&address.bytes, bytes.data(), bytes.size());
    address.size = static_cast<socklen_t>(bytes.size());
    if (address.bytes.ss_family != AF_INET &&
        address.bytes.ss_family != AF_INET6) {
      return absl::InvalidArgumentError("an address is of no known family");
    }
    addresses_.push_back(address);
  }
  if (addresses_.empty()) return absl::InvalidArgumentError("no address");
  return absl::OkStatus();
}

void Connector::Run() {
  for (;;) {
    const uint64_t now = NowMs();
    if (wanted_ && now >= next_try_ms_) {
      if (socket_ >= 0) {
        Failed(ETIMEDOUT);
      } else {
        Try(now);
      }
    }
    pollfd events[3] = {{control_, POLLIN, 0},
                        {service_open_ ? service_ : -1, POLLIN, 0},
                        {socket_, POLLOUT, 0}};
    timespec time = {};
    const timespec* timeout = nullptr;
    if (wanted_) {
      const uint64_t later = NowMs();
      const uint64_t left = next_try_ms_ > later ? next_try_ms_ - later : 0;
      time = {static_cast<time_t>(left / 1000),
              static_cast<long>(left % 1000 * 1'000'000)};
      timeout = &time;
    }
    if (ppoll(events, 3, timeout, nullptr) <= 0) continue;
    // The launcher sends nothing more; it closes.
    if (events[0].revents != 0) return;
    if (events[1].revents != 0) OnService();
    if (events[2].revents != 0 && socket_ >= 0) OnConnecting();
  }
}

void Connector::OnService() {
  char byte = 0;
  iovec segment = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &segment;
  message.msg_iovlen = 1;
  const ssize_t got = recvmsg(service_, &message, MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN)) service_open_ = false;
  if (got != 1 || byte != kConnectPlease || wanted_) return;
  wanted_ = true;
  const uint64_t now = NowMs();
  pause_ms_ = handed_over_ms_ == 0 || now - handed_over_ms_ >= kLastedMs
                  ? 0
                  : std::clamp(2 * pause_ms_, kFirstPauseMs, kLongestPauseMs);
  next_try_ms_ = now + pause_ms_;
}

void Connector::Try(uint64_t now_ms) {
  const Address& address = addresses_[next_address_];
  const bool local = address.bytes.ss_family == AF_UNIX;
  socket_ = socket(address.bytes.ss_family,
                   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) {
    Failed(errno);
    return;
  }
  if (!local) {
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  if (connect(socket_, reinterpret_cast<const sockaddr*>(&address.bytes),
              address.size) == 0) {
    HandOver();
  } else if (errno == EINPROGRESS) {
    next_try_ms_ = now_ms + kConnectMs;  // by when it must have come
  } else {
    Failed(errno);
  }
}

void Connector::OnConnecting() {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
    error = errno;
  }
  if (error != 0) {
    Failed(error);
  } else {
    HandOver();
  }
}

void Connector::Failed(int error) {
  CloseSocket();
  next_address_ = (next_address_ + 1) % addresses_.size();
  if (!told_) {
    Log(absl::StrCat("no connection to ", name_, ": ", strerror(error),
                     "; trying on"));
  }
  told_ = true;
  // All addresses are tried before there is a pause.
  if (next_address_ == 0) {
    pause_ms_ = std::clamp(2 * pause_ms_, kFirstPauseMs, kLongestPauseMs);
  }
  next_try_ms_ = NowMs() + (next_address_ == 0 ? pause_ms_ : 0);
}

void Connector::HandOver() {
  char byte = kConnected;
  iovec segment = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &segment;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &socket_, sizeof(socket_));
  if (sendmsg(service_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    if (told_ || handed_over_ms_ != 0) Log("connected to " + name_);
    told_ = false;
    handed_over_ms_ = NowMs();
  }
  wanted_ = false;
  CloseSocket();
}

void Connector::CloseSocket() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

void Connector::Log(const std::string& line) {
  const std::string text = line + "\n";
  const iovec segment = {const_cast<char*>(text.data()), text.size()};
  [[maybe_unused]] const ssize_t n = writev(STDERR_FILENO, &segment, 1);
}

}  // namespace bulkhead::connector
