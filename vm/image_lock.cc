#include "vm/image_lock.h"

#include <fcntl.h>

#include <cerrno>

namespace bulkhead::vm {
namespace {

// QEMU's permissions on an image; bit N is the byte at kUseBase + N for one who
// uses it, and at kRefuseBase + N for one who wants nobody else to.
constexpr unsigned kConsistentRead = 1 << 0;
constexpr unsigned kWrite = 1 << 1;
constexpr unsigned kResize = 1 << 3;
constexpr int kPermissions = 5;
constexpr off_t kUseBase = 100;
constexpr off_t kRefuseBase = 200;

int SetLock(int fd, off_t byte) {
  struct flock lock = {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

// EAGAIN when someone else holds the byte.
int TestLock(int fd, off_t byte) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return errno;
  return lock.l_type == F_UNLCK ? 0 : EAGAIN;
}

}  // namespace

int LockImage(int fd, bool write) {
  const unsigned use = kConsistentRead | (write ? kWrite | kResize : 0);
  const unsigned refuse = kWrite | kResize;
  for (int bit = 0; bit < kPermissions; ++bit) {
    if ((use >> bit) & 1) {
      if (int error = SetLock(fd, kUseBase + bit)) return error;
    }
    if ((refuse >> bit) & 1) {
      if (int error = SetLock(fd, kRefuseBase + bit)) return error;
    }
  }
  // Only now, so that of two who come at the same time at least one sees the
  // other.
  for (int bit = 0; bit < kPermissions; ++bit) {
    if ((use >> bit) & 1) {
      if (int error = TestLock(fd, kRefuseBase + bit)) return error;
    }
    if ((refuse >> bit) & 1) {
      if (int error = TestLock(fd, kUseBase + bit)) return error;
    }
  }
  return 0;
}

}  // namespace bulkhead::vm
