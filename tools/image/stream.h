// The jailed side's input and output: whole buffers, with the two system calls
// that its policy has for it.
//
// TRUST    The bytes are the image's: neither side looks into them.
// ERRORS   A negative errno.
// THREADS  One.

#ifndef BULKHEAD_TOOLS_IMAGE_STREAM_H_
#define BULKHEAD_TOOLS_IMAGE_STREAM_H_

#include <errno.h>
#include <sys/uio.h>

#include <cstdint>

#include "absl/strings/string_view.h"

namespace bulkhead::image_tool {

inline int WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const iovec segment = {const_cast<char*>(text.data()), text.size()};
    const ssize_t n = pwritev2(fd, &segment, 1, /*offset=*/-1, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

// Bytes read, fewer than asked only at the end.
inline int64_t ReadUpTo(int fd, char* to, uint64_t bytes) {
  uint64_t done = 0;
  while (done < bytes) {
    const iovec segment = {to + done, bytes - done};
    const ssize_t n = preadv2(fd, &segment, 1, /*offset=*/-1, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;
    done += static_cast<uint64_t>(n);
  }
  return static_cast<int64_t>(done);
}

}  // namespace bulkhead::image_tool

#endif  // BULKHEAD_TOOLS_IMAGE_STREAM_H_
