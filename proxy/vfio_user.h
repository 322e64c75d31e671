// The vfio-user wire format: constants and structures, no logic.
//
// SPEC     vfio-user (docs/interop/vfio-user.rst of QEMU, first published with
//          libvfio-user), version 0.0. What is here is vfio-user's own; the
//          other payloads, numbers and flags of GET_* and SET_IRQS are those of
//          linux/vfio.h. All in the host's byte order.
// TRUST    A structure is copied out of a received message before it is read.
// ERRORS   None: constants and structures.
// THREADS  Any.

#ifndef BULKHEAD_PROXY_VFIO_USER_H_
#define BULKHEAD_PROXY_VFIO_USER_H_

#include <linux/vfio.h>

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

// The kernel's has grown since.
struct DeviceInfo {
  uint32_t argsz;
  uint32_t flags;
  uint32_t num_regions;
  uint32_t num_irqs;
};
static_assert(sizeof(DeviceInfo) == 16);

// A vfio_region_info_cap_sparse_mmap with one area.
struct SparseMmap {
  vfio_info_cap_header header = {VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0};
  uint32_t nr_areas = 1;
  uint32_t reserved = 0;
  vfio_region_sparse_mmap_area area;
};
static_assert(sizeof(SparseMmap) == sizeof(vfio_region_info_cap_sparse_mmap) +
                                        sizeof(vfio_region_sparse_mmap_area));

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

}  // namespace bulkhead::proxy::vfio_user

#endif  // BULKHEAD_PROXY_VFIO_USER_H_
