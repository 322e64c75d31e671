// ReadFd and WriteFd are read() and write() spelled as preadv2() and pwritev2()
// at the present position: a service with disks needs those two anyway, so its
// policy need not allow two more system calls.
//
// TRUST    What an fd delivers is as hostile as whoever holds its other end.
// ERRORS   -1 and errno, as read() and write(); EINTR is tried again.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_RUNTIME_FD_IO_H_
#define BULKHEAD_SERVICES_RUNTIME_FD_IO_H_

#include <sys/types.h>

#include <cstddef>

namespace bulkhead {

ssize_t ReadFd(int fd, void* to, size_t size_bytes);
ssize_t WriteFd(int fd, const void* from, size_t size_bytes);

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_FD_IO_H_
