// The wire format between QEMU's x-pci-proxy-dev and its remote process
// (-machine x-remote): constants and structures, no logic.
//
// SPEC     QEMU 5.2 to 11.1, docs/devel/multi-process; the same in all of them.
//          All in the host's byte order. Descriptors ride on the header.
// TRUST    A structure is copied out of a received message before it is read.
// ERRORS   None: constants and structures.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_MPQEMU_H_
#define BULKHEAD_PROXY_MPQEMU_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace bulkhead::proxy::mpqemu {

// Who asks is x-pci-proxy-dev; the remote process only ever sends kReturn.
enum class Command : int32_t {
  kSyncSysmem = 0,   // SyncSysmem, a descriptor for each entry; no reply
  kReturn = 1,       // the reply: 8 bytes of value, none to a reset
  kConfigWrite = 2,  // ConfigAccess
  kConfigRead = 3,
  kBarWrite = 4,  // BarAccess
  kBarRead = 5,
  kSetIrqfd = 6,  // empty, two descriptors: raise, resample; no reply
  kDeviceReset = 7,
};

struct Header {
  int32_t command;
  uint32_t padding;
  uint64_t size_bytes;  // of what follows
};
static_assert(sizeof(Header) == 16);

inline constexpr size_t kMaxRanges = 8;

// All of the guest's RAM, in as many entries as there are descriptors. It takes
// the place of what was there.
struct SyncSysmem {
  std::array<uint64_t, kMaxRanges> address;
  std::array<uint64_t, kMaxRanges> size_bytes;
  std::array<uint64_t, kMaxRanges> offset;  // in the descriptor's file
};
static_assert(sizeof(SyncSysmem) == 192);

struct ConfigAccess {
  uint32_t address;
  uint32_t value;
  int32_t size_bytes;
};
static_assert(sizeof(ConfigAccess) == 12);

struct BarAccess {
  uint64_t address;  // absolute: what the BAR says, and the offset
  uint64_t value;
  uint32_t size_bytes;
  uint8_t memory;  // 0: I/O space
  std::array<uint8_t, 3> padding;
};
static_assert(sizeof(BarAccess) == 24);

// How MessageStream finds a message's end.
struct Wire {
  using Header = mpqemu::Header;
  static constexpr size_t kMaxMessageBytes =
      sizeof(Header) + sizeof(SyncSysmem);
  static uint64_t PayloadBytes(const Header& header) {
    return header.size_bytes;
  }
};

}  // namespace bulkhead::proxy::mpqemu

#endif  // BULKHEAD_PROXY_MPQEMU_H_
