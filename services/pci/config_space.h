// ConfigSpace is a function's configuration space: bytes, which of their bits
// software can write, and which it clears by writing ones.
//
// TRUST    Offsets and values of Read and Write are the guest's; the caller has
//          checked that they lie inside size_bytes(). The bytes themselves may
//          come from a saved state: Restore takes only what a guest could have
//          written.
// ERRORS   None: a write to a read-only bit is dropped (PCI §6.1).
// THREADS  The loop.
// SPEC     PCI 3.0 §6.1, §6.2, §6.7.

#ifndef BULKHEAD_SERVICES_PCI_CONFIG_SPACE_H_
#define BULKHEAD_SERVICES_PCI_CONFIG_SPACE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "services/pci/spec.h"

namespace bulkhead::pci {

using ConfigBytes = std::array<uint8_t, kExpressConfigBytes>;

class ConfigSpace {
 public:
  // `bytes` is part of the device's state. It is not touched before PowerOn.
  ConfigSpace(ConfigBytes* bytes, size_t size_bytes);

  size_t size_bytes() const { return size_bytes_; }

  // ---- layout, fixed while the device is built

  // A register: what it reads after power-on, which bits are writable, and
  // which are cleared by writing a one.
  void Define8(uint16_t offset, uint8_t value, uint8_t writable = 0);
  void Define16(uint16_t offset, uint16_t value, uint16_t writable = 0,
                uint16_t write_one_to_clear = 0);
  void Define32(uint16_t offset, uint32_t value, uint32_t writable = 0);
  // Marks bits that the device itself changes and no guest can write (a
  // pending bit): Restore keeps what a saved state says of them.
  void DefineStatusBits32(uint16_t offset, uint32_t bits);

  // Appends to the capability list (PCI §6.7), in order, at the first free
  // multiple of four; returns its offset.
  uint16_t AddCapability(uint8_t id, size_t size_bytes);

  // ---- use

  // Every register as after power-on or reset.
  void PowerOn();

  uint64_t Read(uint64_t offset, unsigned size_bytes) const;
  void Write(uint64_t offset, unsigned size_bytes, uint64_t value);

  // The device's own view, past the masks.
  uint16_t Get16(uint16_t offset) const;
  uint32_t Get32(uint16_t offset) const;
  void Set16(uint16_t offset, uint16_t value);
  void Set32(uint16_t offset, uint32_t value);

  // Takes over the bits that a guest can change, or the device reports, from a
  // saved image of the same layout. False, and unchanged, when a read-only bit
  // differs.
  bool Restore(const ConfigBytes& saved);

 private:
  void Define(uint16_t offset, size_t size_bytes, uint32_t value,
              uint32_t writable, uint32_t write_one_to_clear);

  ConfigBytes* bytes_;
  size_t size_bytes_;
  uint16_t last_capability_ = 0;
  uint16_t next_free_ = kFirstCapability;
  ConfigBytes initial_ = {};
  ConfigBytes writable_ = {};
  ConfigBytes write_one_to_clear_ = {};
  ConfigBytes status_ = {};
};

}  // namespace bulkhead::pci

#endif  // BULKHEAD_SERVICES_PCI_CONFIG_SPACE_H_
