// What a unix stream socket carries: bytes, and descriptors that ride on them.
//
// TRUST    The peer's. Descriptors are whatever it likes; nothing here waits
//          for it longer than kReplyPatience.
// ERRORS   See each function; a failure ends the connection.
// THREADS  Any. Nothing is allocated.

#ifndef BULKHEAD_PROXY_STREAM_IO_H_
#define BULKHEAD_PROXY_STREAM_IO_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "absl/types/span.h"

namespace bulkhead::proxy {

inline constexpr size_t kMaxMessageFds = 16;

// How long a peer may leave what was sent to it untaken. Its reader is a thread
// of its own, so only one that is stopped or was taken over does.
inline constexpr timespec kReplyPatience = {1, 0};

struct ReceivedBytes {
  enum class State { kSome, kNothing, kClosed, kBroken };
  State state = State::kNothing;
  size_t bytes = 0;
  size_t fd_count = 0;
  std::array<int, kMaxMessageFds> fds;  // the caller's
};

// One recvmsg, which does not wait. kBroken: more descriptors than there is
// room for; those that came are in `fds`.
ReceivedBytes ReceiveBytes(int socket, absl::Span<uint8_t> room);

// All of `bytes`, with `fds` on the first of them. False: the peer has gone, or
// its patience is over.
bool SendBytes(int socket, absl::Span<const uint8_t> bytes,
               absl::Span<const int> fds, const timespec& patience);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_STREAM_IO_H_
