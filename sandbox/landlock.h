// Landlock: a second lock behind the empty root. From here on no file can be
// opened except to execute the program (and, in a tree, to read), no TCP port
// used, and no process outside the jail reached by an abstract socket or
// signal.
//
// TRUST    The launcher's own code until the exec.
// ERRORS   Through ChildIo: the child ends; a kernel without it is reported.
// THREADS  The child of a single-threaded process.

#ifndef BULKHEAD_SANDBOX_LANDLOCK_H_
#define BULKHEAD_SANDBOX_LANDLOCK_H_

#include "sandbox/child_io.h"
#include "sandbox/jail.h"

namespace bulkhead::sandbox {

// After the root has been entered and no_new_privs set. A kernel without
// Landlock is reported as such.
void ForbidFiles(const JailSpec& spec, ChildIo& io);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_LANDLOCK_H_
