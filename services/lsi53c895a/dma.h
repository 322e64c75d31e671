// Dma is what the chip can reach as a bus master: guest RAM through bounded
// copies, and its own on-chip RAM, which never leaves the process. It cannot
// reach a register, its own or another device's.
//
// TRUST    Addresses and lengths are the guest's.
// ERRORS   false: the range is neither wholly in guest RAM nor wholly on chip;
//          nothing useful was copied. The caller answers with DSTAT.BF.
// THREADS  The service's loop.
// SPEC     §2.2.2 (internal SCRIPTS RAM), §2.1.1 (addressing).

#ifndef BULKHEAD_SERVICES_LSI53C895A_DMA_H_
#define BULKHEAD_SERVICES_LSI53C895A_DMA_H_

#include <cstdint>
#include <cstring>

#include "services/lsi53c895a/state.h"
#include "services/runtime/guest_memory.h"

namespace bulkhead::lsi53c895a {

class Dma {
 public:
  Dma(ChipState& state, GuestMemory& memory) : state_(state), memory_(memory) {}
  Dma(const Dma&) = delete;
  Dma& operator=(const Dma&) = delete;

  // Follow BAR 2 and the command register.
  void SetScriptsRam(uint64_t address) {
    ram_address_ = address;
    ram_bytes_ = kScriptsRamBytes;
  }
  void UnmapScriptsRam() { ram_bytes_ = 0; }
  void SetBusMaster(bool enabled) { bus_master_ = enabled; }

  bool Read(uint64_t address, void* to, size_t size_bytes) const {
    const uint64_t offset = address - ram_address_;
    if (offset < ram_bytes_ && size_bytes <= ram_bytes_ - offset) {
      std::memcpy(to, &state_.ram[offset], size_bytes);
      return true;
    }
    return bus_master_ && memory_.Read({address}, to, size_bytes);
  }

  bool Write(uint64_t address, const void* from, size_t size_bytes) {
    const uint64_t offset = address - ram_address_;
    if (offset < ram_bytes_ && size_bytes <= ram_bytes_ - offset) {
      std::memcpy(&state_.ram[offset], from, size_bytes);
      return true;
    }
    return bus_master_ && memory_.Write({address}, from, size_bytes);
  }

 private:
  ChipState& state_;
  GuestMemory& memory_;
  uint64_t ram_address_ = 0;
  uint64_t ram_bytes_ = 0;
  bool bus_master_ = false;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_DMA_H_
