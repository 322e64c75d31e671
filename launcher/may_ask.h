// MayAsk: whether who has connected is root or the launcher's own user.
//
// TRUST    The kernel's word (SO_PEERCRED).
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_LAUNCHER_MAY_ASK_H_
#define BULKHEAD_LAUNCHER_MAY_ASK_H_

#include <sys/socket.h>
#include <unistd.h>

namespace bulkhead::launcher {

inline bool MayAsk(int fd) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == geteuid());
}

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_MAY_ASK_H_
