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

#include <string.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "proxy/stream_io.h"

namespace bulkhead::proxy {

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
    // A taken fd is set to -1; what is left is closed by the next call.
    absl::Span<int> fds;

    int TakeFd(size_t index) {
      if (index >= fds.size()) return -1;
      const int fd = fds[index];
      fds[index] = -1;
      return fd;
    }
    template <typename T>
    bool Copy(T* out) const {
      return CopyFront(payload, out);
    }
  };

  MessageStream() = default;
  ~MessageStream() { Clear(); }
  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;

  // Forgets everything, closing unclaimed descriptors.
  void Clear() {
    CloseFds();
    begin_ = end_ = 0;
  }

  // The next whole message, from what has been received or else from one
  // recvmsg on `socket` (which does not wait). Valid until the next call.
  Next Receive(int socket, Message* message) {
    const Next next = Take(message);
    if (next != Next::kNothing) return next;
    const ReceivedBytes received = ReceiveBytes(socket, Room());
    switch (received.state) {
      case ReceivedBytes::State::kNothing:
        return Next::kNothing;
      case ReceivedBytes::State::kClosed:
        return Next::kClosed;
      case ReceivedBytes::State::kSome:
      case ReceivedBytes::State::kBroken:
        break;
    }
    const bool added =
        Added(received.bytes, {received.fds.data(), received.fd_count});
    if (!added || received.state == ReceivedBytes::State::kBroken) {
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
      if (fd_count_ != 0) fds_end_ -= begin_;
      end_ -= begin_;
      begin_ = 0;
    }
    return absl::MakeSpan(buffer_).subspan(end_);
  }

  bool Added(size_t bytes, absl::Span<const int> fds) {
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

  Next Take(Message* message) {
    if (fds_shown_) CloseFds();
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
    message->fds = {};
    if (fd_count_ != 0 && begin_ >= fds_end_) {
      message->fds = absl::MakeSpan(fds_.data(), fd_count_);
      fds_shown_ = true;
    }
    return Next::kMessage;
  }

 private:
  void CloseFds() {
    for (size_t i = 0; i < fd_count_; ++i) {
      if (fds_[i] >= 0) close(fds_[i]);
    }
    fd_count_ = 0;
    fds_shown_ = false;
  }

  // Two messages: room for one whole behind the rest of another.
  std::array<uint8_t, 2 * kMaxMessageBytes> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  // Descriptors of the last message that begins before fds_end_.
  std::array<int, kMaxMessageFds> fds_;
  size_t fd_count_ = 0;
  size_t fds_end_ = 0;
  bool fds_shown_ = false;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MESSAGE_STREAM_H_
