// The virtio block device's configuration, requests and bits. No logic.
//
// TRUST    Structures are overlaid on copies of a driver's memory.
// ERRORS   None.
// THREADS  Any.
// SPEC     VIRTIO 1.2 §5.2.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_SPEC_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_SPEC_H_

#include <cstddef>
#include <cstdint>

#include "services/runtime/endian.h"
#include "services/virtio/spec.h"

namespace bulkhead::virtio_blk {

inline constexpr uint16_t kDeviceType = 2;        // §5.2.1
inline constexpr uint32_t kClassCode = 0x010000;  // mass storage, SCSI
inline constexpr uint32_t kSectorBytes = 512;     // §5.2.4

// §5.2.3.
inline constexpr uint64_t kFeatureSizeMax = virtio::Feature(1);
inline constexpr uint64_t kFeatureSegMax = virtio::Feature(2);
inline constexpr uint64_t kFeatureGeometry = virtio::Feature(4);
inline constexpr uint64_t kFeatureReadOnly = virtio::Feature(5);
inline constexpr uint64_t kFeatureBlockSize = virtio::Feature(6);
inline constexpr uint64_t kFeatureFlush = virtio::Feature(9);
inline constexpr uint64_t kFeatureTopology = virtio::Feature(10);
inline constexpr uint64_t kFeatureConfigWce = virtio::Feature(11);
inline constexpr uint64_t kFeatureMultiQueue = virtio::Feature(12);
inline constexpr uint64_t kFeatureDiscard = virtio::Feature(13);
inline constexpr uint64_t kFeatureWriteZeroes = virtio::Feature(14);

// §5.2.4: struct virtio_blk_config.
struct Config {
  Le64 capacity;  // in sectors of 512 bytes
  Le32 size_max;
  Le32 seg_max;
  Le16 cylinders;
  uint8_t heads;
  uint8_t sectors;
  Le32 blk_size;
  uint8_t physical_block_exp;
  uint8_t alignment_offset;
  Le16 min_io_size;
  Le32 opt_io_size;
  uint8_t writeback;
  uint8_t unused0;
  Le16 num_queues;
  Le32 max_discard_sectors;
  Le32 max_discard_seg;
  Le32 discard_sector_alignment;
  Le32 max_write_zeroes_sectors;
  Le32 max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap;
  uint8_t unused1[3];
};
static_assert(sizeof(Config) == 60);

// §5.2.6: struct virtio_blk_req without its data.
struct RequestHeader {
  Le32 type;
  Le32 reserved;
  Le64 sector;
};
static_assert(sizeof(RequestHeader) == 16);

inline constexpr uint32_t kTypeIn = 0;
inline constexpr uint32_t kTypeOut = 1;
inline constexpr uint32_t kTypeFlush = 4;
inline constexpr uint32_t kTypeGetId = 8;
inline constexpr uint32_t kTypeGetLifetime = 10;
inline constexpr uint32_t kTypeDiscard = 11;
inline constexpr uint32_t kTypeWriteZeroes = 13;
inline constexpr uint32_t kTypeSecureErase = 14;

inline constexpr uint8_t kStatusOk = 0;
inline constexpr uint8_t kStatusIoError = 1;
inline constexpr uint8_t kStatusUnsupported = 2;

inline constexpr size_t kIdBytes = 20;

// struct virtio_blk_discard_write_zeroes.
struct Range {
  Le64 sector;
  Le32 num_sectors;
  Le32 flags;
};
static_assert(sizeof(Range) == 16);
inline constexpr uint32_t kRangeUnmap = 1;

// What this device chooses.
inline constexpr uint32_t kMaxRanges = 16;
inline constexpr uint32_t kMaxDiscardSectors = 1u << 22;      // 2 GiB
inline constexpr uint32_t kMaxWriteZeroesSectors = 1u << 16;  // 32 MiB
inline constexpr uint32_t kSizeMax = 4u << 20;
// Data of one read or write, however its descriptors overlap. The spec sets no
// limit of its own: this is what seg_max segments of size_max need, and what a
// driver that has not agreed to those (OVMF's) puts into one segment.
inline constexpr uint64_t kMaxDataBytes = 1u << 30;

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_SPEC_H_
