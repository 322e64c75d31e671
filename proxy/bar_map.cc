#include "proxy/bar_map.h"

namespace bulkhead::proxy {
namespace {

// The bits below an address that say what kind of BAR it is.
constexpr uint64_t kMemoryFlags = 0xf;
constexpr uint64_t kIoFlags = 0x3;

}  // namespace

void BarMap::OnConfigWrite(uint32_t offset, uint32_t size_bytes,
                           uint32_t value) {
  for (uint32_t i = 0; i < size_bytes; ++i) {
    const uint32_t at = offset + i - kFirstBarOffset;  // may wrap: too large
    if (at >= kBarCount * 4) continue;
    const uint32_t shift = at % 4 * 8;
    uint32_t& bar = registers_[at / 4];
    bar = (bar & ~(uint32_t{0xff} << shift)) | (value >> i * 8 & 0xff) << shift;
  }
}

uint64_t BarMap::Base(uint32_t bar, const RegionShape& shape) const {
  uint64_t address = registers_[bar];
  if (wide_[bar]) address |= uint64_t{registers_[bar + 1]} << 32;
  return address & ~(shape.size_bytes - 1) &
         ~(shape.narrow ? kIoFlags : kMemoryFlags);
}

bool BarMap::Find(const DevicePort& device, uint64_t address,
                  uint32_t size_bytes, bool is_memory, uint32_t* bar,
                  uint64_t* offset) const {
  for (uint32_t i = 0; i < kBarCount; ++i) {
    const RegionShape& shape = device.Region(i);
    if (shape.size_bytes == 0 || shape.narrow == is_memory) continue;
    const uint64_t base = Base(i, shape);
    if (base == 0 || address < base || address - base >= shape.size_bytes ||
        size_bytes > shape.size_bytes - (address - base)) {
      continue;
    }
    *bar = i;
    *offset = address - base;
    return true;
  }
  return false;
}

}  // namespace bulkhead::proxy
