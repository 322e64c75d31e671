// Header is a qcow2 (or qcow) header that has been read and believed: every
// field is inside the bounds that the specification and the file's size set.
//
// TRUST    The file is hostile.
// ERRORS   InvalidArgument: no qcow2 image, or one that contradicts itself;
//          Unimplemented: a feature that is not supported, by name.
// THREADS  Set-up; a Header is plain data after.
// SPEC     qcow2.txt "Header", "Header extensions", "Feature name table".

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_HEADER_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_HEADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/qcow2/format.h"

namespace bulkhead::block::qcow2 {

struct Header {
  uint32_t version = 0;  // 1 (qcow), 2 or 3
  unsigned v1_l2_bits = 0;
  uint32_t crypt_method = kCryptNone;
  unsigned cluster_bits = 0;
  uint64_t size_bytes = 0;  // of the disk
  uint32_t l1_entries = 0;  // as many as the disk needs or more
  uint64_t l1_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  unsigned refcount_order = 4;  // refcount_bits == 1 << refcount_order
  uint32_t snapshots = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0;
  uint64_t compatible = 0;
  uint64_t autoclear = 0;
  uint8_t compression = kZlib;
  // What its feature bits are called, here or by the image itself: hostile
  // text, escaped.
  std::vector<std::string> features;
  std::vector<std::string> unknown_features;  // those that must be known
  std::string backing_name;    // empty: none. Compared, never opened
  std::string backing_format;  // empty: not said
  bool has_bitmaps = false;
  uint32_t bitmaps = 0;
  uint64_t bitmap_directory_offset = 0;
  uint64_t bitmap_directory_bytes = 0;

  uint64_t cluster_bytes() const { return uint64_t{1} << cluster_bits; }
  bool extended_l2() const { return (incompatible & kExtendedL2) != 0; }
  bool encrypted() const { return crypt_method == kCryptAes; }
  bool dirty() const { return (incompatible & kDirty) != 0; }
  bool corrupt() const { return (incompatible & kCorrupt) != 0; }
  unsigned l2_entry_bits() const { return extended_l2() ? 4 : 3; }
  // L2 entries of one table.
  uint64_t l2_entries() const {
    return uint64_t{1} << (version == 1 ? v1_l2_bits
                                        : cluster_bits - l2_entry_bits());
  }
  uint64_t subcluster_bytes() const {
    return extended_l2() ? cluster_bytes() / kSubclusters : cluster_bytes();
  }
  // The disk's bytes that one L2 table maps.
  uint64_t bytes_per_l2_table() const { return l2_entries() << cluster_bits; }
};

absl::StatusOr<Header> ReadHeader(FileIo& file);
// For people who want to know: features that are not supported are named in
// `features` instead of being refused.
absl::StatusOr<Header> DescribeHeader(FileIo& file);
// Whether what the header asks for is supported here.
absl::Status CheckFeatures(const Header& header);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_HEADER_H_
