// The qcow2 file format: structures and bits as the specification names them.
// No logic beyond taking entries apart.
//
// TRUST    Representation only: every field of an image is hostile.
// SPEC     QEMU docs/interop/qcow2.txt (version 2 and 3), section names below.
// ERRORS   None: structures.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_FORMAT_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_FORMAT_H_

#include <cstdint>

#include "services/runtime/endian.h"

namespace bulkhead::block::qcow2 {

// "Header"
struct RawHeader {
  Be32 magic;
  Be32 version;
  Be64 backing_file_offset;
  Be32 backing_file_size;
  Be32 cluster_bits;
  Be64 size;
  Be32 crypt_method;
  Be32 l1_size;
  Be64 l1_table_offset;
  Be64 refcount_table_offset;
  Be32 refcount_table_clusters;
  Be32 nb_snapshots;
  Be64 snapshots_offset;
  // Version 3.
  Be64 incompatible_features;
  Be64 compatible_features;
  Be64 autoclear_features;
  Be32 refcount_order;
  Be32 header_length;
  // "Additional fields", present when header_length says so.
  uint8_t compression_type;
  uint8_t padding[7];
};
static_assert(sizeof(RawHeader) == 112);

// Version 1, which QEMU calls "qcow": no refcounts, no snapshots; an L2 table
// has a size of its own.
struct RawHeaderV1 {
  Be32 magic;
  Be32 version;
  Be64 backing_file_offset;
  Be32 backing_file_size;
  Be32 mtime;
  Be64 size;
  uint8_t cluster_bits;
  uint8_t l2_bits;
  Be16 padding;
  Be32 crypt_method;
  Be64 l1_table_offset;
};
static_assert(sizeof(RawHeaderV1) == 48);

// Its L2 entries: bit 63 says compressed; then `cluster_bits` bits of length
// in bytes, then the offset.
inline constexpr uint64_t kV1Compressed = uint64_t{1} << 63;
inline constexpr unsigned kV1MaxClusterBits = 16;
inline constexpr unsigned kV1MinL2Bits = 6;
inline constexpr unsigned kV1MaxL2Bits = 13;

inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr uint32_t kVersion2Length = 72;
inline constexpr uint32_t kVersion3Length = 104;
inline constexpr uint64_t kIncompatibleFeaturesAt = 72;
inline constexpr uint64_t kAutoclearFeaturesAt = 88;
inline constexpr uint64_t kDiskSizeAt = 24;  // crypt_method, l1_size, l1_table
inline constexpr uint64_t kRefcountTableOffsetAt = 48;  // and clusters, at 56

// crypt_method
inline constexpr uint32_t kCryptNone = 0;
inline constexpr uint32_t kCryptAes = 1;
inline constexpr uint32_t kCryptLuks = 2;

// incompatible_features
inline constexpr uint64_t kDirty = uint64_t{1} << 0;
inline constexpr uint64_t kCorrupt = uint64_t{1} << 1;
inline constexpr uint64_t kExternalData = uint64_t{1} << 2;
inline constexpr uint64_t kCompressionType = uint64_t{1} << 3;
inline constexpr uint64_t kExtendedL2 = uint64_t{1} << 4;

// autoclear_features
inline constexpr uint64_t kBitmapsConsistent = uint64_t{1} << 0;

// compression_type
inline constexpr uint8_t kZlib = 0;
inline constexpr uint8_t kZstd = 1;

// "Header extensions"
struct RawExtension {
  Be32 type;
  Be32 length;
};
static_assert(sizeof(RawExtension) == 8);
inline constexpr uint32_t kExtensionEnd = 0;
inline constexpr uint32_t kExtensionBackingFormat = 0xe2792aca;
inline constexpr uint32_t kExtensionFeatureNames = 0x6803f857;
inline constexpr uint32_t kExtensionBitmaps = 0x23852875;

// "Feature name table"
struct RawFeatureName {
  uint8_t type;  // 0 incompatible, 1 compatible, 2 autoclear
  uint8_t bit;
  char name[46];
};
static_assert(sizeof(RawFeatureName) == 48);

// "Bitmaps extension"
struct RawBitmapsExtension {
  Be32 nb_bitmaps;
  Be32 reserved;
  Be64 bitmap_directory_size;
  Be64 bitmap_directory_offset;
};
static_assert(sizeof(RawBitmapsExtension) == 24);

struct RawBitmapDirectoryEntry {
  Be64 bitmap_table_offset;
  Be32 bitmap_table_size;
  Be32 flags;
  uint8_t type;
  uint8_t granularity_bits;
  Be16 name_size;
  Be32 extra_data_size;
};
static_assert(sizeof(RawBitmapDirectoryEntry) == 24);

// "Snapshots"
struct RawSnapshot {
  Be64 l1_table_offset;
  Be32 l1_size;
  Be16 id_str_size;
  Be16 name_size;
  Be32 date_sec;
  Be32 date_nsec;
  Be64 vm_clock_nsec;
  Be32 vm_state_size;
  Be32 extra_data_size;
};
static_assert(sizeof(RawSnapshot) == 40);

// "Cluster mapping": L1 and L2 entries.
inline constexpr uint64_t kOffsetMask = 0x00fffffffffffe00;  // bits 9-55
inline constexpr uint64_t kCopied = uint64_t{1} << 63;
inline constexpr uint64_t kCompressed = uint64_t{1} << 62;
inline constexpr uint64_t kZeroFlag = 1;  // version 3, standard clusters
inline constexpr uint64_t kL1Reserved = ~(kOffsetMask | kCopied);
// Extended L2 entries: a second word, of which bit x says that subcluster x is
// allocated, and bit 32 + x that it reads as zeroes.
inline constexpr uint64_t kAllSubclustersAllocated = 0x00000000ffffffff;
inline constexpr uint64_t kAllSubclustersZero = 0xffffffff00000000;
inline constexpr uint64_t kStandardReserved =
    ~(kOffsetMask | kCopied | kCompressed | kZeroFlag);

inline constexpr unsigned kMinClusterBits = 9;
inline constexpr unsigned kMaxClusterBits = 21;
inline constexpr uint32_t kMaxRefcountOrder = 6;
inline constexpr unsigned kSubclusters = 32;  // "Extended L2 Entries"
inline constexpr uint32_t kCompressedSectorBytes = 512;

// Limits that the specification leaves open, taken where QEMU has them, so
// that what it accepts is accepted here.
inline constexpr uint64_t kMaxL1Bytes = 32 << 20;
inline constexpr uint64_t kMaxRefcountTableBytes = 8 << 20;
inline constexpr uint32_t kMaxSnapshots = 65536;
inline constexpr uint64_t kMaxSnapshotTableBytes = 64 << 20;
inline constexpr uint32_t kMaxBackingNameBytes = 1023;
inline constexpr uint64_t kMaxVirtualSize = uint64_t{1} << 62;

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_FORMAT_H_
