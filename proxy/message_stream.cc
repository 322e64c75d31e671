#include "proxy/message_stream.h"

#include <poll.h>

namespace bulkhead::proxy {

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
