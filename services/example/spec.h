// Registers of the example device. No logic.
//
// TRUST    Constants.
// ERRORS   None.
// THREADS  Any.
// SPEC     services/example/README.md; a real device names its manual here.

#ifndef BULKHEAD_SERVICES_EXAMPLE_SPEC_H_
#define BULKHEAD_SERVICES_EXAMPLE_SPEC_H_

#include <cstdint>

namespace bulkhead::example {

// Red Hat's ids for experiments (QEMU's docs/specs/pci-ids).
inline constexpr uint16_t kVendorId = 0x1b36;
inline constexpr uint16_t kDeviceId = 0x00ff;
inline constexpr uint32_t kClassCode = 0xff0000;  // unclassified

inline constexpr unsigned kRegistersBar = 0;
inline constexpr uint64_t kRegistersBytes = 4096;

// Registers of 32 bits.
inline constexpr uint64_t kId = 0x00;      // read-only
inline constexpr uint64_t kStatus = 0x04;  // write ones to clear
inline constexpr uint64_t kSource = 0x08;  // guest address, 64 bits
inline constexpr uint64_t kLength = 0x10;  // bytes
inline constexpr uint64_t kSum = 0x14;     // read-only: the last result
inline constexpr uint64_t kStart = 0x18;   // write anything: sum the bytes

inline constexpr uint32_t kIdValue = 0x30314842;  // "BH10"
inline constexpr uint32_t kStatusDone = 1;        // raises INTA#
inline constexpr uint32_t kStatusFault = 2;       // the range is not in RAM

}  // namespace bulkhead::example

#endif  // BULKHEAD_SERVICES_EXAMPLE_SPEC_H_
