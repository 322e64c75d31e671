// Image is one qcow2 (or qcow) file of a chain as its tables tell it: where a
// part of the disk lies. It reads no data and changes nothing by itself.
//
// TRUST    The file is hostile. What Map answers has been checked: a data
//          extent starts inside the file, on a cluster's edge, and not on
//          metadata that is known.
// ERRORS   Open: as ReadHeader, and InvalidArgument for an L1 table that
//          points outside the file, at other metadata or twice at one table;
//          FailedPrecondition: an encrypted image without a key.
//          Map: kInvalid extents.
// THREADS  Open: set-up. All else: the loop.
// SPEC     qcow2.txt "Cluster mapping".

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_IMAGE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_IMAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/qcow2/cluster_set.h"
#include "services/block/qcow2/decoder.h"
#include "services/block/qcow2/header.h"
#include "services/block/qcow2/l2_cache.h"

namespace bulkhead::block::qcow2 {

// A run of the disk that is alike.
struct Extent {
  enum class Kind : uint8_t {
    kUnallocated,    // whatever the backing file has
    kZero,           // zeroes, with no cluster in the file
    kZeroAllocated,  // zeroes, with a cluster kept for later
    kData,
    kCompressed,  // one cluster: host_offset and compressed_bytes
    kEncrypted,   // one cluster, at host_offset
    kInvalid,     // the entry makes no sense
  };
  Kind kind = Kind::kInvalid;
  bool copied = false;       // kData, kZeroAllocated: nothing else refers to it
  uint64_t host_offset = 0;  // of the first byte (kData: inside its cluster)
  uint64_t length_bytes = 0;
  uint32_t compressed_bytes = 0;
};

class Image {
 public:
  // `aes_key`: 16 bytes, or empty. Encrypted data are not looked at here, and
  // nothing tells a wrong key from the right one.
  static absl::StatusOr<std::unique_ptr<Image>> Open(
      std::unique_ptr<FileIo> file, size_t cache_bytes,
      const std::string& aes_key);

  const Header& header() const { return header_; }
  Header& mutable_header() { return header_; }
  FileIo& file() { return *file_; }
  L2Cache& cache() { return *cache_; }
  const Coding& coding() const { return coding_; }

  // ---- L1
  uint64_t L1Index(uint64_t offset_bytes) const {
    return offset_bytes >> table_shift_;
  }
  uint64_t l1_entry(uint64_t index) const { return l1_[index]; }
  void set_l1_entry(uint64_t index, uint64_t entry) { l1_[index] = entry; }
  uint64_t L1EntryFileOffset(uint64_t index) const {
    return header_.l1_offset + index * 8;
  }

  // ---- Growing. Set-up: takes address space for a longer L1 table, since
  // nothing can be asked for once the service is locked down.
  void ReserveGrowth();
  // The longest disk that there is room for.
  uint64_t MaxSizeBytes() const;
  const std::vector<uint64_t>& l1() const { return l1_; }
  // What the file's header says now.
  void Grown(uint64_t size_bytes, uint64_t l1_offset, uint32_t l1_entries);

  // ---- L2. The file offset of the slice that maps `offset_bytes`; 0: there is
  // no L2 table.
  uint64_t SliceOffset(uint64_t offset_bytes) const;
  // Entry number of `offset_bytes` in its slice.
  size_t IndexInSlice(uint64_t offset_bytes) const {
    return (offset_bytes >> header_.cluster_bits) & (entries_per_slice_ - 1);
  }
  size_t entries_per_slice() const { return entries_per_slice_; }
  uint64_t Entry(const L2Slice& slice, size_t index) const;
  // The subcluster bitmap of extended entries.
  uint64_t EntryBitmap(const L2Slice& slice, size_t index) const;
  // `bitmap` only matters where entries are extended.
  void SetEntry(L2Slice* slice, size_t index, uint64_t entry,
                uint64_t bitmap) const;
  size_t entry_bytes() const { return entry_bytes_; }
  uint64_t EntryFileOffset(const L2Slice& slice, size_t index) const {
    return slice.file_offset + index * entry_bytes_;
  }

  // What `slice` says of the run that starts at `offset_bytes`: at most
  // `max_bytes` of the disk and never beyond the slice.
  Extent Map(const L2Slice& slice, uint64_t offset_bytes,
             uint64_t max_bytes) const;
  // What the entry of the whole cluster says: as Map, but for subclusters that
  // differ: kData if there is a cluster in the file, else kUnallocated.
  Extent MapCluster(const L2Slice& slice, uint64_t offset_bytes) const;
  // The disk's bytes from `offset_bytes` to its L2 table's end; of an image
  // without that table they are unallocated.
  uint64_t BytesToEndOfTable(uint64_t offset_bytes) const;

  // Clusters that hold metadata; never anybody's data.
  ClusterSet& metadata() { return metadata_; }
  uint64_t file_bytes() const { return file_bytes_; }
  void set_file_bytes(uint64_t bytes) { file_bytes_ = bytes; }

 private:
  Image(std::unique_ptr<FileIo> file, Header header);
  absl::Status TakeKey(const std::string& aes_key);
  absl::Status ReadL1();
  absl::Status NoteMetadata();
  uint64_t L1Clusters(uint64_t entries) const {
    return (entries * 8 + header_.cluster_bytes() - 1) >> header_.cluster_bits;
  }
  Extent Decode(uint64_t entry, uint64_t offset_bytes) const;
  Extent DecodeV1(uint64_t entry, uint64_t offset_bytes) const;
  Extent DecodeCompressed(uint64_t entry) const;
  static Extent::Kind KindOfSubcluster(const Extent& cluster, uint64_t bitmap,
                                       unsigned x);
  Extent DecodeExtended(uint64_t entry, uint64_t bitmap,
                        uint64_t offset_bytes) const;
  Extent MapSubclusters(const L2Slice& slice, uint64_t offset_bytes,
                        uint64_t max_bytes) const;
  bool IsUsableData(uint64_t host_offset) const;
  absl::Status CheckV1Tables() const;

  std::unique_ptr<FileIo> file_;
  Header header_;
  Coding coding_;
  std::unique_ptr<L2Cache> cache_;
  std::vector<uint64_t> l1_;
  ClusterSet metadata_;
  ClusterSet larger_metadata_;  // for when the disk grows; empty until then
  uint64_t file_bytes_ = 0;
  size_t entry_bytes_ = 8;
  unsigned table_shift_ = 0;  // of the bytes that one L2 table maps
  size_t entries_per_slice_ = 0;
};

// Which clusters of the file a compressed extent touches.
struct ClusterRange {
  uint64_t first;
  uint64_t count;
};
ClusterRange ClustersOf(const Extent& compressed, unsigned cluster_bits);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_IMAGE_H_
