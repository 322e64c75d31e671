// Dma is how the controller reaches guest memory: as a bus master that the
// guest has enabled, and never anything but RAM. A BAR (its own or another's)
// is not in GuestMemory's table, so a pointer to one fails as a bus error
// would, and no device can be re-entered.
//
// TRUST    Addresses are the guest's.
// ERRORS   false: not wholly RAM, or the function is no bus master.
// THREADS  The service's loop.

#ifndef BULKHEAD_SERVICES_NVME_DMA_H_
#define BULKHEAD_SERVICES_NVME_DMA_H_

#include <cstddef>
#include <cstdint>

#include "services/runtime/guest_memory.h"

namespace bulkhead::nvme {

class Dma {
 public:
  explicit Dma(GuestMemory& memory) : memory_(memory) {}

  void SetBusMaster(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }

  bool Read(uint64_t address, void* to, size_t size_bytes) const {
    return enabled_ && memory_.Read({address}, to, size_bytes);
  }
  bool Write(uint64_t address, const void* from, size_t size_bytes) {
    return enabled_ && memory_.Write({address}, from, size_bytes);
  }
  // A hint that these bytes will be read.
  void Prefetch(uint64_t address, size_t size_bytes) const {
    if (enabled_) memory_.Prefetch({address}, size_bytes);
  }
  void* InOneMapping(uint64_t address, uint64_t size_bytes,
                     DmaDirection direction) const {
    return enabled_ ? memory_.InOneMapping({address}, size_bytes, direction)
                    : nullptr;
  }
  bool Translate(uint64_t address, uint64_t size_bytes, DmaDirection direction,
                 iovec* segments, size_t capacity, size_t* count) const {
    return enabled_ && memory_.Translate({address}, size_bytes, direction,
                                         segments, capacity, count);
  }
  // Naturally aligned.
  bool Load32(uint64_t address, uint32_t* value) const {
    return enabled_ && memory_.LoadAcquire32({address}, value);
  }
  bool Store32(uint64_t address, uint32_t value) {
    return enabled_ && memory_.StoreRelease32({address}, value);
  }

 private:
  GuestMemory& memory_;
  bool enabled_ = false;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_DMA_H_
