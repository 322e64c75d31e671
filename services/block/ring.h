// Ring is io_uring for what would wait: reads, writes and syncs of the images,
// and nothing else. It is made, restricted and enabled before the lock-down; no
// call that follows could widen it.
//
//   ring->AddFile(fd); ... ring->Enable();                       set-up
//   ring->Submit(work, ...); ... work = ring->Take();            serving
//
// TRUST    Offsets and lengths are the engine's. Segments may be guest memory:
//          the kernel copies their addresses when they are submitted.
// ERRORS   Work::result: bytes, or -errno.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_BLOCK_RING_H_
#define BULKHEAD_SERVICES_BLOCK_RING_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct io_uring;

namespace bulkhead::block {

struct Work;

enum class RingOperation : uint8_t { kRead, kWrite, kSync };

class Ring {
 public:
  // Completions make `event_fd` readable.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(int event_fd);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // The file's number here. `fd` stays the caller's.
  int AddFile(int fd);
  absl::Status Enable();

  // False: the ring is full; the caller has other means.
  bool Submit(Work* work, RingOperation operation, int file,
              const iovec* segments, size_t count, uint64_t offset_bytes);
  // Between Hold and Release submissions are collected.
  void Hold() { held_ = true; }
  void Release();
  // Something is collected.
  bool collects() const { return held_ && unsubmitted_; }

  // One that has ended, with its result; nullptr: none.
  Work* Take();
  // Waits until Take has one. For shutting down.
  void Wait();
  size_t in_flight() const { return in_flight_; }
  // System calls made to submit.
  uint64_t enters() const { return enters_; }

  // The event may be set and nobody has cleared it.
  bool event_may_be_set() const { return in_flight_ > 0 || stale_event_; }
  void EventCleared() { stale_event_ = false; }

 private:
  explicit Ring(std::unique_ptr<io_uring> ring);

  std::unique_ptr<io_uring> ring_;
  std::vector<int> files_;
  size_t in_flight_ = 0;
  uint64_t enters_ = 0;
  bool held_ = false;
  bool unsubmitted_ = false;
  bool stale_event_ = false;
};

// Why the host does not permit io_uring, or "".
absl::Status ProbeRing();

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_RING_H_
