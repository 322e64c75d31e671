#include "proxy/eventfd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

namespace bulkhead::proxy {

bool IsEventfd(const Fd& fd) {
  struct stat status;
  if (fstatat(fd.get(), "", &status, AT_EMPTY_PATH) != 0 ||
      (status.st_mode & S_IFMT) != 0) {
    return false;
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

void RaiseEventfd(const Fd& fd) {
  if (!fd.valid()) return;
  const uint64_t one = 1;
  // A full counter means that QEMU has been told often enough.
  [[maybe_unused]] const ssize_t written = write(fd.get(), &one, sizeof one);
}

}  // namespace bulkhead::proxy
