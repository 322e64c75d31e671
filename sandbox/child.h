// Child is what the launcher's child does between clone and exec: it takes
// everything away from itself, step by step, and becomes the program. What goes
// wrong is reported to the parent as a step and an errno.
//
// TRUST    The launcher's own code and data until the exec.
// ERRORS   A failed step is reported and ends the child.
// THREADS  The child of a single-threaded process: allocation is safe.

#ifndef BULKHEAD_SANDBOX_CHILD_H_
#define BULKHEAD_SANDBOX_CHILD_H_

#include "sandbox/jail.h"

namespace bulkhead::sandbox {

// `socket` is the child's end of a SOCK_SEQPACKET pair: one byte from the
// parent lets it go on, once when its ids are mapped and once after kReady.
[[noreturn]] void RunChild(const JailSpec& spec, int socket);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_CHILD_H_
