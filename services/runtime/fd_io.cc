#include "services/runtime/fd_io.h"

#include <errno.h>
#include <sys/uio.h>

namespace bulkhead {
namespace {

constexpr off_t kPresentPosition = -1;

}  // namespace

ssize_t ReadFd(int fd, void* to, size_t size_bytes) {
  const iovec part = {to, size_bytes};
  ssize_t got;
  do {
    got = preadv2(fd, &part, 1, kPresentPosition, 0);
  } while (got < 0 && errno == EINTR);
  return got;
}

ssize_t WriteFd(int fd, const void* from, size_t size_bytes) {
  const iovec part = {const_cast<void*>(from), size_bytes};
  ssize_t written;
  do {
    written = pwritev2(fd, &part, 1, kPresentPosition, 0);
  } while (written < 0 && errno == EINTR);
  return written;
}

}  // namespace bulkhead
