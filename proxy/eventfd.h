// Eventfds that QEMU made: by them it hears of interrupts, and one of KVM's
// tells that the guest has ended INTx.
//
// TRUST    The fds are QEMU's; what is no eventfd is refused by IsEventfd.
// ERRORS   None: a write that fails is one that QEMU no longer waits for.
// THREADS  Any. Nothing is allocated.

#ifndef BULKHEAD_PROXY_EVENTFD_H_
#define BULKHEAD_PROXY_EVENTFD_H_

#include "base/fd.h"

namespace bulkhead::proxy {

// An anonymous inode that does not block: no file, pipe, socket or memfd, and
// nothing that the shim or the service could be made to wait for.
bool IsEventfd(const Fd& fd);

// Writes it, if there is one.
void RaiseEventfd(const Fd& fd);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_EVENTFD_H_
