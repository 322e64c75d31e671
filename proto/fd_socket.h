// One message on a unix socket: bytes, and the descriptors that ride on them.
//
// TRUST    The peer's. It never gets more descriptors into this process than
//          the caller has room for.
// ERRORS   As recvmsg and sendmsg: -1 and errno, never EINTR.
// THREADS  Any. Nothing is allocated.

#ifndef BULKHEAD_PROTO_FD_SOCKET_H_
#define BULKHEAD_PROTO_FD_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace bulkhead {

// More than any caller takes or gives at once.
inline constexpr size_t kMaxRidingFds = 64;

// One recvmsg into `room` and `fd_room`. The descriptors are the caller's, and
// close on exec; *result has MSG_CTRUNC when there were more.
ssize_t ReceiveWithFds(int socket, absl::Span<uint8_t> room, int flags,
                       absl::Span<int> fd_room, size_t* fd_count, int* result);

// One sendmsg, which does not wait and raises no signal. The descriptors stay
// the caller's.
ssize_t SendWithFds(int socket, absl::Span<const uint8_t> bytes,
                    absl::Span<const int> fds);

}  // namespace bulkhead

#endif  // BULKHEAD_PROTO_FD_SOCKET_H_
