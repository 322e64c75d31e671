// SharedPages is memory that a service shares with the shim (the shadow page)
// or with the guest (doorbells): a sealed memfd and its mapping.
//
// TRUST    Where the other side may write, every byte is hostile at any moment.
// ERRORS   Internal: the kernel refused a step.
// THREADS  Made at set-up; then plain memory.

#ifndef BULKHEAD_SERVICES_RUNTIME_SHARED_PAGES_H_
#define BULKHEAD_SERVICES_RUNTIME_SHARED_PAGES_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace bulkhead {

class SharedPages {
 public:
  enum class Peer { kMayRead, kMayWrite };

  // Sealed against shrinking, growing and further seals; for a peer that may
  // only read, also against any new writable mapping.
  static absl::StatusOr<SharedPages> Create(const char* name, size_t size_bytes,
                                            Peer peer);

  SharedPages(SharedPages&& other) noexcept;
  SharedPages& operator=(SharedPages&&) = delete;
  ~SharedPages();

  int fd() const { return fd_; }
  absl::Span<uint8_t> bytes() const { return {base_, size_bytes_}; }

 private:
  SharedPages(int fd, uint8_t* base, size_t size_bytes)
      : fd_(fd), base_(base), size_bytes_(size_bytes) {}

  int fd_;
  uint8_t* base_;
  size_t size_bytes_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_SHARED_PAGES_H_
