// WaitingChild is a process in its jail (jail.h makes it) that has given up all
// but its launch filter and its exec, and waits for both. `vm` makes them,
// before anything hostile exists; the launcher, which `vm` becomes, lets them
// go.
//
// TRUST    Until its exec it runs the launcher's own code.
// ERRORS   A Report: the step that failed and its errno.
// THREADS  One thread, which must not end while the process lives (it dies with
//          it); an exec is no such end.

#ifndef BULKHEAD_SANDBOX_WAITING_CHILD_H_
#define BULKHEAD_SANDBOX_WAITING_CHILD_H_

#include <sys/types.h>

#include "sandbox/step.h"

namespace bulkhead::sandbox {

struct WaitingChild {
  pid_t pid = -1;
  int pidfd = -1;   // the holder's to close
  int socket = -1;  // SEQPACKET to it; its close ends the child
};

// Watches it (sandbox/violation.h), lets it go and waits for its exec. Closes
// the socket. False: *failure says why, and the child is still to be ended.
// *trace_error: an errno where the host refuses to trace it, which is no
// failure.
bool Release(const WaitingChild& child, int* trace_error, Report* failure);

// Kills a child, released or not, and waits for its end. The pidfd stays.
void EndChild(pid_t pid, int pidfd);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_WAITING_CHILD_H_
