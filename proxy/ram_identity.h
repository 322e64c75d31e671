// RamIdentity is how a process recognizes the guest's RAM among the files that
// QEMU maps, without holding it.
//
// TRUST    The launcher has told it; the fds are QEMU's.
// ERRORS   None: what cannot be looked at is not RAM.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_RAM_IDENTITY_H_
#define BULKHEAD_PROXY_RAM_IDENTITY_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>

namespace bulkhead::proxy {

struct RamIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;

  // Is [offset, offset + bytes) of `fd` a part of it?
  bool Holds(int fd, uint64_t offset, uint64_t bytes) const {
    struct stat status;
    return fd >= 0 && fstatat(fd, "", &status, AT_EMPTY_PATH) == 0 &&
           status.st_dev == device && status.st_ino == inode &&
           offset <= size_bytes && bytes <= size_bytes - offset;
  }
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_RAM_IDENTITY_H_
