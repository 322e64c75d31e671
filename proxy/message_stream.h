// MessageStream puts vfio-user messages together from a byte stream that may
// cut them anywhere, with the file descriptors that rode on it.
//
// A descriptor arrives with the first byte of the sendmsg that carried it, and
// the kernel ends a recvmsg where such a packet ends. So the descriptors of one
// recvmsg belong to the last message that begins in it.
//
// TRUST    The bytes are hostile. A size below the header's or above
//          kMaxMessageBytes, more than kMaxMessageFds descriptors, or
//          descriptors on the middle of a message break the stream for good.
// ERRORS   kBroken and kClosed: give the connection up.
// THREADS  One thread. Nothing is allocated after construction.

#ifndef BULKHEAD_PROXY_MESSAGE_STREAM_H_
#define BULKHEAD_PROXY_MESSAGE_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "proxy/vfio_user.h"

namespace bulkhead::proxy {

// The most data that one region access may carry (max_data_xfer_size).
inline constexpr uint32_t kMaxTransferBytes = 64 * 1024;
inline constexpr uint32_t kMaxMessageBytes = sizeof(vfio_user::Header) +
                                             sizeof(vfio_user::RegionAccess) +
                                             kMaxTransferBytes;
inline constexpr size_t kMaxMessageFds = 16;

struct Message {
  vfio_user::Header header;
  absl::Span<const uint8_t> payload;
  // A taken fd is set to -1; what is left is closed by the next call.
  absl::Span<int> fds;
};

class MessageStream {
 public:
  enum class Next { kMessage, kNothing, kClosed, kBroken };

  MessageStream() = default;
  ~MessageStream() { Clear(); }
  MessageStream(const MessageStream&) = delete;
  MessageStream& operator=(const MessageStream&) = delete;

  // Forgets everything, closing unclaimed descriptors.
  void Clear();

  // The next whole message, from what has been received or else from one
  // recvmsg on `fd` (which does not wait). Valid until the next call.
  Next Receive(int fd, Message* message);

  // Has something been received that Take has not yet given out?
  bool HasBytes() const { return begin_ != end_; }

  // The two halves of Receive, without a socket. Room is where to put bytes;
  // Added takes over `fds`, and is false when the stream is broken.
  absl::Span<uint8_t> Room();
  bool Added(size_t bytes, absl::Span<const int> fds);
  Next Take(Message* message);

 private:
  void CloseFds();

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
