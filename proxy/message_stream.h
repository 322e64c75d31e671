// MessageStream puts messages together from a byte stream that may cut them
// anywhere, with the file descriptors that rode on it. Wire says how a protocol
// frames its messages:
//
//   struct Wire {
//     using Header = ...;                          // what a message begins
//     with static constexpr size_t kMaxMessageBytes;    // header included
//     static uint64_t PayloadBytes(const Header&); // ~0: no such size
//   };
//
// A descriptor arrives with the first byte of the sendmsg that carried it, and
// the kernel ends a recvmsg where such a packet ends. So the descriptors of one
// recvmsg belong to the last message that begins in it.
//
// TRUST    The bytes are hostile. A size that Wire does not allow, more than
//          kMaxMessageFds descriptors, or descriptors on the middle of a
//          message break the stream for good.
// ERRORS   kBroken and kClosed: give the connection up.
// THREADS  One thread. Nothing is allocated after construction.

#ifndef BULKHEAD_PROXY_MESSAGE_STREAM_H_
#define BULKHEAD_PROXY_MESSAGE_STREAM_H_

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/fd_socket.h"

namespace bulkhead::proxy {

inline constexpr size_t kMaxMessageFds = 16;

// How long a peer may leave what was sent to it untaken. Its reader is a thread
// of its own, so only one that is stopped or was taken over does.
inline constexpr timespec kReplyPatience = {1, 0};

// All of `bytes`, with `fds` on the first of them. False: the peer has gone, or
// its patience is over.
bool SendBytes(int socket, absl::Span<const uint8_t> bytes,
               absl::Span<const int> fds, const timespec& patience);

// Copies a structure off the front of `bytes`; false: they are too few.
template <typename T>
bool CopyFront(absl::Span<const uint8_t> bytes, T* out) {
  if (bytes.size() < sizeof(T)) return false;
  memcpy(out, bytes.data(), sizeof(T));
  return true;
}

template <typename Wire>
class MessageStream {
 public:
  using Header = typename Wire::Header;
  static constexpr size_t kMaxMessageBytes = Wire::kMaxMessageBytes;

  enum class Next { kMessage, kNothing, kClosed, kBroken };

  struct Message {
    Header header;
    absl::Span<const uint8_t> payload;
    absl::Span<Fd> fds;  // what is not taken is closed by the next call

    Fd TakeFd(size_t index) {
      return index < fds.size() ? std::move(fds[index]) : Fd();
    }
    template <typename T>
    bool Copy(T* out) const {
      return CopyFront(payload, out);
    }
  };

  MessageStream() {
    fds_.reserve(kMaxMessageFds);
    come_.reserve(kMaxMessageFds);
  }
  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;

  // Forgets everything, closing unclaimed descriptors.
  void Clear() {
    fds_.clear();
    come_.clear();
    fds_shown_ = false;
    begin_ = end_ = 0;
  }

  // The next whole message, from what has been received or else from one
  // recvmsg on `socket` (which does not wait). Valid until the next call.
  Next Receive(int socket, Message* message) {
    const Next next = Take(message);
    if (next != Next::kNothing) return next;
    int flags;
    const ssize_t size_bytes = ReceiveWithFds(socket, Room(), MSG_DONTWAIT,
                                              kMaxMessageFds, &come_, &flags);
    if (size_bytes <= 0) {
      return size_bytes < 0 && errno == EAGAIN ? Next::kNothing : Next::kClosed;
    }
    if (!Added(static_cast<size_t>(size_bytes), &come_) ||
        (flags & MSG_CTRUNC) != 0) {
      return Next::kBroken;
    }
    return Take(message);
  }

  // Has something been received that Take has not yet given out?
  bool HasBytes() const { return begin_ != end_; }

  // The two halves of Receive, without a socket. Room is where to put bytes;
  // Added takes over `fds`, and is false when the stream is broken.
  absl::Span<uint8_t> Room() {
    if (begin_ == end_) {
      begin_ = end_ = 0;
    } else if (buffer_.size() - begin_ < kMaxMessageBytes) {
      memmove(buffer_.data(), &buffer_[begin_], end_ - begin_);
      fds_end_ -= std::min(fds_end_, begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    return absl::MakeSpan(buffer_).subspan(end_);
  }

  bool Added(size_t bytes, std::vector<Fd>* fds) {
    if (!fds->empty()) {
      if (!fds_.empty()) return false;  // they are on the middle of a message
      fds_.swap(*fds);
      fds_end_ = end_ + bytes;
    }
    end_ += bytes;
    return true;
  }

  Next Take(Message* message) {
    if (fds_shown_) fds_.clear();
    fds_shown_ = false;
    const size_t present = end_ - begin_;
    if (present < sizeof(Header)) return Next::kNothing;
    memcpy(&message->header, &buffer_[begin_], sizeof(Header));
    const uint64_t payload_bytes = Wire::PayloadBytes(message->header);
    if (payload_bytes > kMaxMessageBytes - sizeof(Header)) return Next::kBroken;
    const size_t size_bytes = sizeof(Header) + payload_bytes;
    if (present < size_bytes) return Next::kNothing;
    message->payload = {&buffer_[begin_ + sizeof(Header)],
                        static_cast<size_t>(payload_bytes)};
    begin_ += size_bytes;
    fds_shown_ = begin_ >= fds_end_;
    message->fds = fds_shown_ ? absl::MakeSpan(fds_) : absl::Span<Fd>();
    return Next::kMessage;
  }

 private:
  // Two messages: room for one whole behind the rest of another.
  std::array<uint8_t, 2 * kMaxMessageBytes> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  // Descriptors of the last message that begins before fds_end_.
  std::vector<Fd> fds_;
  std::vector<Fd> come_;  // with the last recvmsg
  size_t fds_end_ = 0;
  bool fds_shown_ = false;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MESSAGE_STREAM_H_
