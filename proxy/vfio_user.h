// The vfio-user wire format: constants and structures, no logic.
//
// SPEC     vfio-user (docs/interop/vfio-user.rst of QEMU, first published with
//          libvfio-user), version 0.0; the payloads of GET_* and SET_IRQS are
//          those of linux/vfio.h. All in the host's byte order.
// TRUST    A structure is copied out of a received message before it is read.
// ERRORS   None: constants and structures.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_VFIO_USER_H_
#define BULKHEAD_PROXY_VFIO_USER_H_

#include <cstddef>
#include <cstdint>

namespace bulkhead::proxy::vfio_user {

enum class Command : uint16_t {
  kVersion = 1,
  kDmaMap = 2,
  kDmaUnmap = 3,
  kDeviceGetInfo = 4,
  kDeviceGetRegionInfo = 5,
  kDeviceGetRegionIoFds = 6,
  kDeviceGetIrqInfo = 7,
  kDeviceSetIrqs = 8,
  kRegionRead = 9,
  kRegionWrite = 10,
  kDmaRead = 11,
  kDmaWrite = 12,
  kDeviceReset = 13,
  kDirtyPages = 14,
  kRegionWriteMulti = 15,
};

inline constexpr uint32_t kTypeMask = 0xf;
inline constexpr uint32_t kTypeCommand = 0;
inline constexpr uint32_t kTypeReply = 1;
inline constexpr uint32_t kNoReply = 1 << 4;
inline constexpr uint32_t kError = 1 << 5;

struct Header {
  uint16_t message_id;
  uint16_t command;
  uint32_t size_bytes;  // header included
  uint32_t flags;
  uint32_t error;
};
static_assert(sizeof(Header) == 16);

struct Version {
  uint16_t major;
  uint16_t minor;  // JSON text and a NUL follow
};
static_assert(sizeof(Version) == 4);

inline constexpr uint32_t kDmaReadable = 1 << 0;
inline constexpr uint32_t kDmaWritable = 1 << 1;
struct DmaMap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t offset;
  uint64_t address;
  uint64_t size_bytes;
};
static_assert(sizeof(DmaMap) == 32);

inline constexpr uint32_t kDmaUnmapAll = 1 << 1;
struct DmaUnmap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t address;
  uint64_t size_bytes;
};
static_assert(sizeof(DmaUnmap) == 24);

inline constexpr uint32_t kDeviceCanReset = 1 << 0;
inline constexpr uint32_t kDeviceIsPci = 1 << 1;
struct DeviceInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t num_regions;
  uint32_t num_irqs;
};
static_assert(sizeof(DeviceInfo) == 16);

inline constexpr uint32_t kRegionReadable = 1 << 0;
inline constexpr uint32_t kRegionWritable = 1 << 1;
inline constexpr uint32_t kRegionMappable = 1 << 2;
inline constexpr uint32_t kRegionHasCapabilities = 1 << 3;
struct RegionInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t cap_offset;  // from the start of this structure
  uint64_t size_bytes;
  uint64_t offset;
};
static_assert(sizeof(RegionInfo) == 32);

inline constexpr uint16_t kSparseMmapCapability = 1;
struct SparseMmap {  // with one area
  uint16_t id;
  uint16_t version;
  uint32_t next;
  uint32_t nr_areas;
  uint32_t reserved;
  uint64_t area_offset;
  uint64_t area_size_bytes;
};
static_assert(sizeof(SparseMmap) == 32);

enum IrqIndex : uint32_t {
  kIntx = 0,
  kMsi = 1,
  kMsix = 2,
  kErr = 3,
  kReq = 4,
  kIrqCount = 5,
};

inline constexpr uint32_t kIrqEventfd = 1 << 0;
inline constexpr uint32_t kIrqMaskable = 1 << 1;
inline constexpr uint32_t kIrqAutomasked = 1 << 2;
inline constexpr uint32_t kIrqNoResize = 1 << 3;
struct IrqInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t count;
};
static_assert(sizeof(IrqInfo) == 16);

inline constexpr uint32_t kSetDataNone = 1 << 0;
inline constexpr uint32_t kSetDataBool = 1 << 1;
inline constexpr uint32_t kSetDataEventfd = 1 << 2;
inline constexpr uint32_t kSetDataMask = 0x7;
inline constexpr uint32_t kSetMask = 1 << 3;
inline constexpr uint32_t kSetUnmask = 1 << 4;
inline constexpr uint32_t kSetTrigger = 1 << 5;
inline constexpr uint32_t kSetActionMask = 0x38;
struct SetIrqs {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;
  uint32_t start;
  uint32_t count;  // one byte per sub-index follows with kSetDataBool
};
static_assert(sizeof(SetIrqs) == 20);

struct RegionAccess {
  uint64_t offset;
  uint32_t region;
  uint32_t count;  // data follows where there is any
};
static_assert(sizeof(RegionAccess) == 16);

struct MultiWrite {
  uint64_t offset;
  uint32_t region;
  uint32_t count;  // at most 8
  uint8_t data[8];
};
static_assert(sizeof(MultiWrite) == 24);

// PCI regions: BARs 0-5, ROM 6, configuration space 7, VGA 8.
inline constexpr uint32_t kRegionCount = 9;

}  // namespace bulkhead::proxy::vfio_user

#endif  // BULKHEAD_PROXY_VFIO_USER_H_
