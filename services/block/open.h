// Open makes the backend that a BackendConfig describes, from inherited fds.
// It runs before the lock-down: whatever needs system calls that a serving
// process may not make (workers, rings) is done here.
//
// TRUST    The image's bytes are hostile; `config` is the launcher's.
// ERRORS   InvalidArgument names the image (config.image().name()) and what is
//          wrong with it; Unimplemented names the image's feature that is not
//          supported; FailedPrecondition: a parent that the image names and
//          the VM description does not (or the other way round).
// THREADS  Set-up.

#ifndef BULKHEAD_SERVICES_BLOCK_OPEN_H_
#define BULKHEAD_SERVICES_BLOCK_OPEN_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/backend.h"

namespace bulkhead {
class BackendConfig;
}

namespace bulkhead::block {

struct OpenOptions {
  // Threads for I/O that would block; 0: everything inline.
  unsigned workers = 1;
  // The process will lock itself down: its threads can then not end (that
  // takes munmap and exit) and sleep for ever instead.
  bool locks_down = true;
  // Images in memory (tmpfs) are read through a mapping, without system calls.
  bool map_memory = true;
};

absl::StatusOr<std::unique_ptr<Backend>> Open(const BackendConfig& config,
                                              const OpenOptions& options);

// Whether several threads may each have a backend of the disk: a raw image
// without limits. A qcow2 engine's tables, an NBD connection and a token bucket
// belong to one thread.
bool CanBeShared(const BackendConfig& config);
// `count` backends of one disk that CanBeShared. Flushing one flushes all.
// Growth is the first one's, which the others are told of (Backend::Follow).
absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenShared(
    const BackendConfig& config, const OpenOptions& options, unsigned count);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_OPEN_H_
