#include "proxy/message_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bulkhead::proxy {

using vfio_user::Header;

void MessageStream::CloseFds() {
  for (size_t i = 0; i < fd_count_; ++i) {
    if (fds_[i] >= 0) close(fds_[i]);
  }
  fd_count_ = 0;
  fds_shown_ = false;
}

void MessageStream::Clear() {
  CloseFds();
  begin_ = end_ = 0;
}

absl::Span<uint8_t> MessageStream::Room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (buffer_.size() - begin_ < kMaxMessageBytes) {
    memmove(buffer_.data(), &buffer_[begin_], end_ - begin_);
    if (fd_count_ != 0) fds_end_ -= begin_;
    end_ -= begin_;
    begin_ = 0;
  }
  return absl::MakeSpan(buffer_).subspan(end_);
}

bool MessageStream::Added(size_t bytes, absl::Span<const int> fds) {
  const bool in_the_middle = fd_count_ != 0 || fds.size() > kMaxMessageFds;
  if (!fds.empty() && in_the_middle) {
    for (int fd : fds) close(fd);
    return false;
  }
  end_ += bytes;
  if (!fds.empty()) {
    memcpy(fds_.data(), fds.data(), fds.size() * sizeof(int));
    fd_count_ = fds.size();
    fds_end_ = end_;
  }
  return true;
}

MessageStream::Next MessageStream::Take(Message* message) {
  if (fds_shown_) CloseFds();
  const size_t present = end_ - begin_;
  if (present < sizeof(Header)) return Next::kNothing;
  memcpy(&message->header, &buffer_[begin_], sizeof(Header));
  const uint32_t size_bytes = message->header.size_bytes;
  if (size_bytes < sizeof(Header) || size_bytes > kMaxMessageBytes) {
    return Next::kBroken;
  }
  if (present < size_bytes) return Next::kNothing;
  message->payload = {&buffer_[begin_ + sizeof(Header)],
                      size_bytes - sizeof(Header)};
  begin_ += size_bytes;
  message->fds = {};
  if (fd_count_ != 0 && begin_ >= fds_end_) {
    message->fds = absl::MakeSpan(fds_.data(), fd_count_);
    fds_shown_ = true;
  }
  return Next::kMessage;
}

MessageStream::Next MessageStream::Receive(int fd, Message* message) {
  Next next = Take(message);
  if (next != Next::kNothing) return next;

  const absl::Span<uint8_t> room = Room();
  iovec bytes = {room.data(), room.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxMessageFds * sizeof(int))>
      control;
  msghdr received = {};
  ssize_t size_bytes;
  do {
    received.msg_iov = &bytes;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    size_bytes = recvmsg(fd, &received, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size_bytes < 0 && errno == EINTR);
  if (size_bytes < 0) {
    return errno == EAGAIN ? Next::kNothing : Next::kClosed;
  }
  if (size_bytes == 0) return Next::kClosed;

  std::array<int, kMaxMessageFds> fds;
  size_t fd_count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&received); header != nullptr;
       header = CMSG_NXTHDR(&received, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && fd_count < fds.size(); ++i) {
      memcpy(&fds[fd_count++], CMSG_DATA(header) + i * sizeof(int),
             sizeof(int));
    }
  }
  if (!Added(static_cast<size_t>(size_bytes), {fds.data(), fd_count}) ||
      (received.msg_flags & MSG_CTRUNC) != 0) {
    return Next::kBroken;
  }
  return Take(message);
}

}  // namespace bulkhead::proxy
