#include "proto/fd_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

namespace bulkhead {
namespace {

struct Control {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kMaxRidingFds * sizeof(int))];
};

}  // namespace

ssize_t ReceiveWithFds(int socket, absl::Span<uint8_t> room, int flags,
                       size_t max_fds, std::vector<Fd>* fds, int* result) {
  fds->clear();
  Control control;
  iovec bytes = {room.data(), room.size()};
  msghdr message = {};
  ssize_t size_bytes;
  do {
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_LEN(max_fds * sizeof(int));
    size_bytes = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (size_bytes < 0 && errno == EINTR);
  *result = message.msg_flags;
  if (size_bytes < 0) return size_bytes;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const unsigned char* data = CMSG_DATA(header);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, data + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
  return size_bytes;
}

ssize_t SendWithFds(int socket, absl::Span<const uint8_t> bytes,
                    absl::Span<const int> fds) {
  Control control;
  iovec rest = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr message = {};
  message.msg_iov = &rest;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

}  // namespace bulkhead
