#include "proxy/stream_io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

namespace bulkhead::proxy {
namespace {

constexpr size_t kControlBytes = CMSG_SPACE(kMaxMessageFds * sizeof(int));

void TakeFds(msghdr* message, ReceivedBytes* received) {
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && received->fd_count < kMaxMessageFds; ++i) {
      memcpy(&received->fds[received->fd_count++],
             CMSG_DATA(header) + i * sizeof(int), sizeof(int));
    }
  }
}

}  // namespace

ReceivedBytes ReceiveBytes(int socket, absl::Span<uint8_t> room) {
  ReceivedBytes received;
  iovec bytes = {room.data(), room.size()};
  alignas(cmsghdr) std::array<char, kControlBytes> control;
  msghdr message = {};
  ssize_t size_bytes;
  do {
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    size_bytes = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size_bytes < 0 && errno == EINTR);
  if (size_bytes <= 0) {
    received.state = size_bytes < 0 && errno == EAGAIN
                         ? ReceivedBytes::State::kNothing
                         : ReceivedBytes::State::kClosed;
    return received;
  }
  received.bytes = static_cast<size_t>(size_bytes);
  TakeFds(&message, &received);
  received.state = (message.msg_flags & MSG_CTRUNC) != 0
                       ? ReceivedBytes::State::kBroken
                       : ReceivedBytes::State::kSome;
  return received;
}

bool SendBytes(int socket, absl::Span<const uint8_t> bytes,
               absl::Span<const int> fds, const timespec& patience) {
  while (!bytes.empty()) {
    iovec rest = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, kControlBytes> control = {};
    msghdr message = {};
    message.msg_iov = &rest;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    const ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      fds = {};
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return false;
    pollfd room = {socket, POLLOUT, 0};
    if (ppoll(&room, 1, &patience, nullptr) == 0) return false;
  }
  return true;
}

}  // namespace bulkhead::proxy
