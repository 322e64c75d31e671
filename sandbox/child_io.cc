#include "sandbox/child_io.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace bulkhead::sandbox {

// sendmsg is what every policy allows; its filter is in force when an exec
// fails.
void ChildIo::Send(const Report& report) {
  iovec bytes = {.iov_base = const_cast<Report*>(&report),
                 .iov_len = sizeof(report)};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (sendmsg(socket_, &message, MSG_NOSIGNAL) != sizeof(report)) _exit(1);
}

void ChildIo::AwaitParent(Step step) {
  char go;
  ssize_t size;
  do {
    size = read(socket_, &go, 1);
  } while (size < 0 && errno == EINTR);
  if (size == 0) _exit(1);
  if (size < 0) Fail(step);
}

void ChildIo::Fail(Step step, int32_t detail) {
  Send({Report::kFailed, step, errno, detail});
  _exit(1);
}

void ChildIo::Unavailable(Step step, int error, int32_t detail) {
  Send({Report::kUnavailable, step, error, detail});
}

}  // namespace bulkhead::sandbox
