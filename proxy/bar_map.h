// BarMap follows the BAR registers that pass by in configuration writes, and so
// translates between absolute addresses and offsets in regions.
//
// TRUST    Addresses and values are the peer's; sizes come from a checked
//          device description.
// ERRORS   An address that no BAR holds: false.
// THREADS  One thread. Nothing is allocated.
// SPEC     PCI 3.0 §6.2.5. A BAR is of 64 bits where SetWide has said so:
//          x-pci-proxy-dev knows none.

#ifndef BULKHEAD_PROXY_BAR_MAP_H_
#define BULKHEAD_PROXY_BAR_MAP_H_

#include <array>
#include <cstdint>

#include "proxy/device_port.h"

namespace bulkhead::proxy {

inline constexpr uint32_t kFirstBarOffset = 0x10;
inline constexpr uint32_t kBarCount = 6;

class BarMap {
 public:
  // A write of `size_bytes` (at most 4) bytes to configuration space.
  void OnConfigWrite(uint32_t offset, uint32_t size_bytes, uint32_t value);
  void Reset() { registers_ = {}; }

  // BAR `bar` takes the next register as its upper half.
  void SetWide(uint32_t bar) { wide_[bar] = bar + 1 < kBarCount; }

  // Where BAR `bar` of `shape` begins.
  uint64_t Base(uint32_t bar, const RegionShape& shape) const;

  // The BAR of `device` that holds all of [address, address + size_bytes) in
  // that address space.
  bool Find(const DevicePort& device, uint64_t address, uint32_t size_bytes,
            bool is_memory, uint32_t* bar, uint64_t* offset) const;

 private:
  std::array<uint32_t, kBarCount> registers_ = {};
  std::array<bool, kBarCount> wide_ = {};
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_BAR_MAP_H_
