#include "proxy/stream_io.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "proto/fd_socket.h"

namespace bulkhead::proxy {

ReceivedBytes ReceiveBytes(int socket, absl::Span<uint8_t> room) {
  ReceivedBytes received;
  int flags = 0;
  const ssize_t size_bytes =
      ReceiveWithFds(socket, room, MSG_DONTWAIT, absl::MakeSpan(received.fds),
                     &received.fd_count, &flags);
  if (size_bytes <= 0) {
    received.state = size_bytes < 0 && errno == EAGAIN
                         ? ReceivedBytes::State::kNothing
                         : ReceivedBytes::State::kClosed;
    return received;
  }
  received.bytes = static_cast<size_t>(size_bytes);
  received.state = (flags & MSG_CTRUNC) != 0 ? ReceivedBytes::State::kBroken
                                             : ReceivedBytes::State::kSome;
  return received;
}

bool SendBytes(int socket, absl::Span<const uint8_t> bytes,
               absl::Span<const int> fds, const timespec& patience) {
  while (!bytes.empty()) {
    const ssize_t sent = SendWithFds(socket, bytes, fds);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      fds = {};
      continue;
    }
    if (errno != EAGAIN) return false;
    pollfd room = {socket, POLLOUT, 0};
    if (ppoll(&room, 1, &patience, nullptr) == 0) return false;
  }
  return true;
}

}  // namespace bulkhead::proxy
