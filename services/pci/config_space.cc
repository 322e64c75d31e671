#include "services/pci/config_space.h"

#include <cstdlib>
#include <cstring>

namespace bulkhead::pci {

ConfigSpace::ConfigSpace(ConfigBytes* bytes, size_t size_bytes)
    : bytes_(bytes), size_bytes_(size_bytes) {
  if (size_bytes > bytes->size()) std::abort();
}

void ConfigSpace::Define(uint16_t offset, size_t size_bytes, uint32_t value,
                         uint32_t writable, uint32_t write_one_to_clear) {
  if (offset + size_bytes > size_bytes_) std::abort();
  for (size_t i = 0; i < size_bytes; ++i) {
    initial_[offset + i] = static_cast<uint8_t>(value >> (8 * i));
    writable_[offset + i] = static_cast<uint8_t>(writable >> (8 * i));
    write_one_to_clear_[offset + i] =
        static_cast<uint8_t>(write_one_to_clear >> (8 * i));
  }
}

void ConfigSpace::Define8(uint16_t offset, uint8_t value, uint8_t writable) {
  Define(offset, 1, value, writable, 0);
}

void ConfigSpace::Define16(uint16_t offset, uint16_t value, uint16_t writable,
                           uint16_t write_one_to_clear) {
  Define(offset, 2, value, writable, write_one_to_clear);
}

void ConfigSpace::Define32(uint16_t offset, uint32_t value, uint32_t writable) {
  Define(offset, 4, value, writable, 0);
}

void ConfigSpace::DefineStatusBits32(uint16_t offset, uint32_t bits) {
  if (offset + size_t{4} > size_bytes_) std::abort();
  for (size_t i = 0; i < 4; ++i) {
    status_[offset + i] |= static_cast<uint8_t>(bits >> (8 * i));
  }
}

uint16_t ConfigSpace::AddCapability(uint8_t id, size_t size_bytes) {
  const uint16_t offset = next_free_;
  const size_t end = (offset + size_bytes + 3) & ~size_t{3};
  if (end > kConventionalConfigBytes) std::abort();
  next_free_ = static_cast<uint16_t>(end);
  if (last_capability_ == 0) {
    initial_[kCapabilitiesPointer] = static_cast<uint8_t>(offset);
    initial_[kStatus] |= kStatusCapabilitiesList;
  } else {
    initial_[last_capability_ + 1] = static_cast<uint8_t>(offset);
  }
  initial_[offset] = id;
  initial_[offset + 1] = 0;
  last_capability_ = offset;
  return offset;
}

void ConfigSpace::PowerOn() {
  *bytes_ = {};
  std::memcpy(bytes_->data(), initial_.data(), size_bytes_);
}

uint64_t ConfigSpace::Read(uint64_t offset, unsigned size_bytes) const {
  uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes && offset + i < size_bytes_; ++i) {
    value |= uint64_t{(*bytes_)[offset + i]} << (8 * i);
  }
  return value;
}

void ConfigSpace::Write(uint64_t offset, unsigned size_bytes, uint64_t value) {
  for (unsigned i = 0; i < size_bytes && offset + i < size_bytes_; ++i) {
    const size_t at = offset + i;
    const auto byte = static_cast<uint8_t>(value >> (8 * i));
    uint8_t& stored = (*bytes_)[at];
    stored = static_cast<uint8_t>((stored & ~writable_[at]) |
                                  (byte & writable_[at]));
    stored &= static_cast<uint8_t>(~(byte & write_one_to_clear_[at]));
  }
}

uint16_t ConfigSpace::Get16(uint16_t offset) const {
  return static_cast<uint16_t>(Read(offset, 2));
}

uint32_t ConfigSpace::Get32(uint16_t offset) const {
  return static_cast<uint32_t>(Read(offset, 4));
}

void ConfigSpace::Set16(uint16_t offset, uint16_t value) {
  (*bytes_)[offset] = static_cast<uint8_t>(value);
  (*bytes_)[offset + 1u] = static_cast<uint8_t>(value >> 8);
}

void ConfigSpace::Set32(uint16_t offset, uint32_t value) {
  Set16(offset, static_cast<uint16_t>(value));
  Set16(static_cast<uint16_t>(offset + 2), static_cast<uint16_t>(value >> 16));
}

bool ConfigSpace::Restore(const ConfigBytes& saved) {
  for (size_t i = 0; i < saved.size(); ++i) {
    const int free = writable_[i] | write_one_to_clear_[i] | status_[i];
    if (((saved[i] ^ initial_[i]) & ~free & 0xff) != 0) return false;
  }
  *bytes_ = saved;
  return true;
}

}  // namespace bulkhead::pci
