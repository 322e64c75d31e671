// Namespace is one image as a range of logical blocks.
//
// TRUST    The backend checks every request again.
// ERRORS   None.
// THREADS  The service's loop; a group's backends its own thread.
// SPEC     NVMe 1.4 §6.1.

#ifndef BULKHEAD_SERVICES_NVME_NAMESPACE_H_
#define BULKHEAD_SERVICES_NVME_NAMESPACE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "services/block/backend.h"
#include "services/nvme/state.h"

namespace bulkhead::nvme {

struct Namespace {
  // One for each queue group, all of the same image.
  std::vector<std::unique_ptr<block::Backend>> backends;
  unsigned block_bits = 9;  // 9 or 12
  uint64_t eui64 = 0;
  std::array<uint8_t, 16> nguid = {};
  // As the host was last told of; a backend may grow.
  uint64_t known_blocks = 0;

  block::Backend& backend(unsigned group = 0) const { return *backends[group]; }
  uint64_t blocks(unsigned group = 0) const {
    return backend(group).geometry().capacity_bytes >> block_bits;
  }
};

// NSID n is namespaces[n - 1]. All are active, all the time.
struct Subsystem {
  std::string serial;                 // at most 20 printable characters
  std::vector<Namespace> namespaces;  // at least one

  // Queues are served by so many threads.
  unsigned groups() const {
    return static_cast<unsigned>(namespaces.front().backends.size());
  }
  // A fused pair has its namespace for itself, which needs one thread.
  bool fuses() const { return groups() == 1; }

  Namespace* Find(uint32_t nsid) {
    return nsid >= 1 && nsid <= namespaces.size() ? &namespaces[nsid - 1]
                                                  : nullptr;
  }
};

inline constexpr uint32_t kAllNamespaces = 0xffffffff;

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_NAMESPACE_H_
