// Channel sends and receives frames over one SOCK_SEQPACKET socket.
//
// TRUST    The peer is hostile. A packet larger than kMaxFrameBytes, a frame
//          that does not parse, a sequence out of order, a frame with fds that
//          its type does not allow (or too few or too many): each is
//          absl::StatusCode::kDataLoss, the fds are closed, and the channel
//          must be given up. Field values are the caller's to check.
// ERRORS   Unavailable: the peer has closed. DataLoss: see above.
//          ResourceExhausted: the socket's buffer is full; nothing was sent,
//          outgoing() is as it was and Send may be tried again.
//          InvalidArgument: outgoing() is too large or its fds do not match its
//          type; it was not sent and is given up. Internal: anything else.
// THREADS  One thread.
//
// Send never waits, so that two sides with full buffers cannot wait for each
// other. The rule: whoever asks (the shim, the launcher) goes on receiving
// while it waits for room; only who answers (a service) may stop reading until
// its answer is taken, with WaitToSend.
//
// Both frames live in arenas over fixed memory that is reset per frame, and
// the buffers are reused: nothing is allocated per frame, other than strings
// and frames of many fields (statistics, descriptions).

#ifndef BULKHEAD_PROTO_CHANNEL_H_
#define BULKHEAD_PROTO_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/frame.pb.h"

namespace bulkhead {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr size_t kMaxFrameBytes = 64 * 1024;
// SetInterrupts with a full MSI-X table of 2048 goes in slices of this many.
inline constexpr size_t kMaxFrameFds = 64;

class Channel {
 public:
  // Takes ownership of `fd`, a connected SOCK_SEQPACKET socket that blocks, on
  // which this side has sent `sent` frames before.
  explicit Channel(int fd, uint64_t sent = 0);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  int fd() const { return fd_.get(); }

  // The frame to fill and send next: empty after a Send that succeeded or was
  // InvalidArgument. The reference is valid until then.
  Frame& outgoing();
  // Stamps the sequence and sends `outgoing()`; fds are duplicated by the
  // kernel and stay the caller's. Returns the sequence in *sequence if given.
  absl::Status Send(absl::Span<const int> fds = {},
                    uint64_t* sequence = nullptr);
  // Waits until Send has room: false when timeout_ms (-1: none) has passed
  // first. The peer's close counts as room; Send then says so.
  bool WaitToSend(int timeout_ms);

  // Receives one frame; kNothing: none is waiting (only when !wait).
  // The frame and the fds are valid until the next call; fds that the caller
  // has not taken by then are closed.
  enum class Received { kFrame, kNothing };
  absl::Status Receive(bool wait, Received* received);
  const Frame& incoming() const;
  // A taken fd is invalid.
  absl::Span<const Fd> incoming_fds() const;
  // Takes fd number `index` out of incoming_fds(); the caller owns it.
  int TakeFd(size_t index);

  // Sequence of the last frame sent; 0 before.
  uint64_t last_sent() const { return last_sent_; }

 private:
  struct Buffers;

  const Fd fd_;
  uint64_t last_sent_;
  uint64_t last_received_ = 0;
  std::unique_ptr<Buffers> buffers_;
};

// Checks that do not need a socket: what Receive does after recvmsg. Fuzzed.
// `fd_count` is the number of fds that came along. A body of a type that this
// side does not know is no error: `frame` has BODY_NOT_SET then, and the
// receiver answers UNKNOWN_REQUEST.
absl::Status ParseFrame(absl::Span<const uint8_t> packet, size_t fd_count,
                        uint64_t expected_sequence, Frame* frame);

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_CHANNEL_H_
