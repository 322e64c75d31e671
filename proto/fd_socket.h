// One message on a unix socket: bytes, and the descriptors that ride on them.
//
// TRUST    The peer's. It never gets more descriptors into this process than
//          the caller has room for.
// ERRORS   As recvmsg and sendmsg: -1 and errno, never EINTR.
// THREADS  Any. Nothing is allocated, given the room that is asked for.

#ifndef BULKHEAD_PROTO_FD_SOCKET_H_
#define BULKHEAD_PROTO_FD_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/fd.h"

namespace bulkhead {

// More than any caller takes or gives at once.
inline constexpr size_t kMaxRidingFds = 64;

// One recvmsg into `room`. Descriptors that came along, at most `max_fds`, take
// the place of what was in *fds, which has that capacity; they close on exec.
// *result has MSG_CTRUNC when there were more.
ssize_t ReceiveWithFds(int socket, absl::Span<uint8_t> room, int flags,
                       size_t max_fds, std::vector<Fd>* fds, int* result);

// One sendmsg, which does not wait and raises no signal. The descriptors stay
// the caller's.
ssize_t SendWithFds(int socket, absl::Span<const uint8_t> bytes,
                    absl::Span<const int> fds);

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_FD_SOCKET_H_
