// TinyImage is a whole qcow2 image of a few KiB, built byte by byte, for tests
// that want to spoil one field of it: 512-byte clusters, a disk of 64 KiB, two
// L2 tables, and one cluster of every kind.
//
//   cluster  0 header   1 refcount table   2 refcount block   3 L1 table
//            4, 5 L2 tables   6 data   7 kept for a zero cluster
//            8 a compressed cluster
//   disk     cluster 0 data   1 zero, with a cluster   2 compressed
//            3 zero   all else unallocated
//
// THREADS  A value.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_TINY_IMAGE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_TINY_IMAGE_H_

#include <cstdint>
#include <string>

namespace bulkhead::block::qcow2 {

class TinyImage {
 public:
  static constexpr uint64_t kCluster = 512;
  static constexpr uint64_t kDiskBytes = 64 << 10;
  static constexpr uint64_t kRefcountTable = 1 * kCluster;
  static constexpr uint64_t kRefcountBlock = 2 * kCluster;
  static constexpr uint64_t kL1 = 3 * kCluster;
  static constexpr uint64_t kL2 = 4 * kCluster;
  static constexpr uint64_t kData = 6 * kCluster;
  static constexpr uint64_t kKept = 7 * kCluster;
  static constexpr uint64_t kCompressedData = 8 * kCluster;
  static constexpr uint64_t kClusters = 9;

  TinyImage();

  void Set16(uint64_t offset, uint16_t value);
  void Set32(uint64_t offset, uint32_t value);
  void Set64(uint64_t offset, uint64_t value);
  // L2 entry of the disk's cluster `index`, below 64.
  void SetL2(uint64_t index, uint64_t entry) { Set64(kL2 + index * 8, entry); }

  std::string& bytes() { return bytes_; }
  // What the disk holds.
  static std::string Content();

 private:
  std::string bytes_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_TINY_IMAGE_H_
