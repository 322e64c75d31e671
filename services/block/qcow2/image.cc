#include "services/block/qcow2/image.h"

#include <string.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMaxSliceBytes = 4096;
constexpr size_t kMinSlices = 16;
// So much longer may an L1 table become: 8 TiB at least, at clusters of 64 KiB.
constexpr uint64_t kGrowthFactor = 16;
constexpr uint64_t kMinGrownEntries = 16 << 10;
constexpr uint64_t kMaxGrownEntries = 1 << 20;

absl::StatusOr<std::vector<uint64_t>> ReadTable(FileIo& file, uint64_t offset,
                                                uint64_t entries) {
  std::vector<Be64> raw(entries);
  if (const int error = ReadBytes(file, raw.data(), raw.size() * 8, offset,
                                  BeyondEnd::kFails);
      error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("reading a table: ", strerror(-error)));
  }
  return std::vector<uint64_t>(raw.begin(), raw.end());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Image>> Image::Open(std::unique_ptr<FileIo> file,
                                                   size_t cache_bytes,
                                                   const std::string& aes_key) {
  absl::StatusOr<Header> header = ReadHeader(*file);
  if (!header.ok()) return header.status();
  std::unique_ptr<Image> image(new Image(std::move(file), *std::move(header)));
  if (absl::Status s = image->TakeKey(aes_key); !s.ok()) return s;
  if (absl::Status s = image->ReadL1(); !s.ok()) return s;
  const bool is_v1 = image->header_.version == 1;
  absl::Status checked = is_v1 ? image->CheckV1Tables() : image->NoteMetadata();
  if (!checked.ok()) return checked;
  const size_t slice_bytes = std::min<size_t>(
      kMaxSliceBytes, image->header_.l2_entries() * image->entry_bytes_);
  image->entries_per_slice_ = slice_bytes / image->entry_bytes_;
  image->cache_ = std::make_unique<L2Cache>(
      slice_bytes, std::max(kMinSlices, cache_bytes / slice_bytes));
  return image;
}

Image::Image(std::unique_ptr<FileIo> file, Header header)
    : file_(std::move(file)),
      header_(std::move(header)),
      file_bytes_(static_cast<uint64_t>(std::max<int64_t>(0, file_->Size()))),
      entry_bytes_(header_.extended_l2() ? 16 : 8),
      table_shift_(static_cast<unsigned>(
          std::countr_zero(header_.bytes_per_l2_table()))) {}

absl::Status Image::TakeKey(const std::string& aes_key) {
  coding_.cluster_bits = header_.cluster_bits;
  coding_.disk_bytes = header_.size_bytes;
  coding_.encrypted = header_.encrypted();
  if (!header_.encrypted()) {
    if (aes_key.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        "the image is not encrypted, and the VM description gives a key");
  }
  if (aes_key.size() != kAesKeyBytes) {
    return absl::FailedPreconditionError(
        "the image has legacy AES encryption, and the VM description gives no "
        "key file");
  }
  std::copy(aes_key.begin(), aes_key.end(), coding_.key.begin());
  if (!Decoder::IsPossible(coding_)) {
    return absl::UnimplementedError(
        "a disk of more than 8 TiB with legacy AES encryption");
  }
  return absl::OkStatus();
}

// Version 1 is only read, so tables that overlap do no harm. They must be
// there.
absl::Status Image::CheckV1Tables() const {
  const uint64_t table_bytes = header_.l2_entries() * 8;
  for (const uint64_t table : l1_) {
    if (table == 0) continue;
    if (table % kCompressedSectorBytes != 0 || table >= file_bytes_ ||
        table_bytes > file_bytes_ - table) {
      return absl::InvalidArgumentError(
          absl::StrCat("the L1 table points to ", table,
                       ", which is outside the file or misaligned"));
    }
  }
  return absl::OkStatus();
}

absl::Status Image::ReadL1() {
  auto l1 = ReadTable(*file_, header_.l1_offset, header_.l1_entries);
  if (!l1.ok()) return l1.status();
  l1_ = *std::move(l1);
  return absl::OkStatus();
}

// Everything that an L2 entry must not call data, as far as it is cheap to
// know; and an L1 table of which no two entries share, or hit, such a place.
absl::Status Image::NoteMetadata() {
  auto refcount_table = ReadTable(
      *file_, header_.refcount_table_offset,
      (uint64_t{header_.refcount_table_clusters} << header_.cluster_bits) / 8);
  if (!refcount_table.ok()) return refcount_table.status();
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t l1_clusters =
      (uint64_t{header_.l1_entries} * 8 + cluster - 1) / cluster;
  metadata_ = ClusterSet(1 + l1_clusters + header_.refcount_table_clusters +
                         l1_.size() + refcount_table->size());
  const auto add_run = [&](uint64_t offset, uint64_t clusters) {
    bool fresh = true;
    for (uint64_t i = 0; i < clusters; ++i) {
      fresh &= metadata_.Add((offset >> header_.cluster_bits) + i);
    }
    return fresh;
  };
  if (!add_run(0, 1) || !add_run(header_.l1_offset, l1_clusters) ||
      !add_run(header_.refcount_table_offset,
               header_.refcount_table_clusters)) {
    return absl::InvalidArgumentError(
        "header, L1 table and refcount table overlap");
  }
  for (const uint64_t block : *refcount_table) {
    if (block == 0) continue;
    if (block % cluster != 0 || block >= file_bytes_ || !add_run(block, 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the refcount table points to ", block,
                       ", which is outside the file, misaligned or in use"));
    }
  }
  for (uint64_t& entry : l1_) {
    const uint64_t table = entry & kOffsetMask;
    if (table == 0) {
      entry = 0;
      continue;
    }
    if (table % cluster != 0 || (entry & kL1Reserved) != 0 ||
        table >= file_bytes_ || cluster > file_bytes_ - table ||
        !add_run(table, 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the L1 table points to ", table,
                       ", which is outside the file, misaligned or in use"));
    }
  }
  return absl::OkStatus();
}

// ---- Growing

void Image::ReserveGrowth() {
  const uint64_t entries = std::max<uint64_t>(
      l1_.size(), std::clamp(l1_.size() * kGrowthFactor, kMinGrownEntries,
                             kMaxGrownEntries));
  l1_.reserve(entries);
  larger_metadata_ =
      ClusterSet(metadata_.capacity() + entries + L1Clusters(entries));
}

uint64_t Image::MaxSizeBytes() const {
  return uint64_t{l1_.capacity()} << table_shift_;
}

void Image::Grown(uint64_t size_bytes, uint64_t l1_offset,
                  uint32_t l1_entries) {
  header_.size_bytes = size_bytes;
  coding_.disk_bytes = size_bytes;
  if (l1_offset == header_.l1_offset) return;
  const uint64_t old = header_.l1_offset >> header_.cluster_bits;
  for (uint64_t i = 0; i < L1Clusters(l1_.size()); ++i) {
    metadata_.Remove(old + i);
  }
  // Once: the larger set has room for the longest table there can be.
  if (larger_metadata_.capacity() > 0) {
    metadata_.ForEach(
        [this](uint64_t cluster) { return larger_metadata_.Add(cluster); });
    metadata_ = std::move(larger_metadata_);
    larger_metadata_ = ClusterSet();
  }
  const uint64_t first = l1_offset >> header_.cluster_bits;
  for (uint64_t i = 0; i < L1Clusters(l1_entries); ++i) {
    metadata_.Add(first + i);
  }
  header_.l1_offset = l1_offset;
  header_.l1_entries = l1_entries;
  l1_.resize(l1_entries, 0);
}

uint64_t Image::SliceOffset(uint64_t offset_bytes) const {
  uint64_t table = l1_[L1Index(offset_bytes)];
  if (header_.version != 1) table &= kOffsetMask;
  if (table == 0) return 0;
  const uint64_t index =
      (offset_bytes >> header_.cluster_bits) & (header_.l2_entries() - 1);
  return table + (index & ~(entries_per_slice_ - 1)) * entry_bytes_;
}

uint64_t Image::BytesToEndOfTable(uint64_t offset_bytes) const {
  const uint64_t bytes = uint64_t{1} << table_shift_;
  return bytes - (offset_bytes & (bytes - 1));
}

uint64_t Image::Entry(const L2Slice& slice, size_t index) const {
  return LoadBe64(slice.bytes + index * entry_bytes_);
}

uint64_t Image::EntryBitmap(const L2Slice& slice, size_t index) const {
  return LoadBe64(slice.bytes + index * entry_bytes_ + 8);
}

void Image::SetEntry(L2Slice* slice, size_t index, uint64_t entry,
                     uint64_t bitmap) const {
  StoreBe64(slice->bytes + index * entry_bytes_, entry);
  if (header_.extended_l2()) {
    StoreBe64(slice->bytes + index * entry_bytes_ + 8, bitmap);
  }
}

bool Image::IsUsableData(uint64_t host_offset) const {
  return host_offset % header_.cluster_bytes() == 0 && host_offset != 0 &&
         host_offset < file_bytes_ &&
         !metadata_.Contains(host_offset >> header_.cluster_bits);
}

// qcow2.txt "Compressed Clusters Descriptor".
Extent Image::DecodeCompressed(uint64_t entry) const {
  const unsigned offset_bits = 62 - (header_.cluster_bits - 8);
  const uint64_t descriptor = entry & (kCompressed - 1);
  Extent extent;
  extent.host_offset = descriptor & ((uint64_t{1} << offset_bits) - 1);
  const uint64_t sectors = (descriptor >> offset_bits) + 1;
  extent.compressed_bytes =
      static_cast<uint32_t>(sectors * kCompressedSectorBytes -
                            extent.host_offset % kCompressedSectorBytes);
  if ((entry & kCopied) != 0 || extent.host_offset < header_.cluster_bytes() ||
      extent.host_offset >= file_bytes_) {
    return extent;
  }
  const ClusterRange range = ClustersOf(extent, header_.cluster_bits);
  for (uint64_t i = 0; i < range.count; ++i) {
    if (metadata_.Contains(range.first + i)) return extent;
  }
  extent.kind = Extent::Kind::kCompressed;
  return extent;
}

Extent Image::DecodeV1(uint64_t entry, uint64_t offset_bytes) const {
  const uint64_t cluster = header_.cluster_bytes();
  Extent extent;
  if (entry == 0) {
    extent.kind = Extent::Kind::kUnallocated;
  } else if ((entry & kV1Compressed) != 0) {
    const unsigned offset_bits = 63 - header_.cluster_bits;
    extent.host_offset = entry & ((uint64_t{1} << offset_bits) - 1);
    extent.compressed_bytes =
        static_cast<uint32_t>(entry >> offset_bits & (cluster - 1));
    if (extent.host_offset >= sizeof(RawHeaderV1) &&
        extent.host_offset < file_bytes_ && extent.compressed_bytes > 0) {
      extent.kind = Extent::Kind::kCompressed;
    }
  } else if (entry % cluster == 0 && entry < file_bytes_) {
    extent.kind =
        header_.encrypted() ? Extent::Kind::kEncrypted : Extent::Kind::kData;
    extent.host_offset =
        header_.encrypted() ? entry : entry + offset_bytes % cluster;
  }
  return extent;
}

Extent Image::Decode(uint64_t entry, uint64_t offset_bytes) const {
  if (header_.version == 1) return DecodeV1(entry, offset_bytes);
  if ((entry & kCompressed) != 0) return DecodeCompressed(entry);
  Extent extent;
  const uint64_t host = entry & kOffsetMask;
  const bool zero = (entry & kZeroFlag) != 0;
  if ((entry & kStandardReserved) != 0 || (zero && header_.version < 3)) {
    return extent;
  }
  if (host == 0) {
    extent.kind = zero ? Extent::Kind::kZero : Extent::Kind::kUnallocated;
    return extent;
  }
  if (!IsUsableData(host)) return extent;
  extent.kind = zero ? Extent::Kind::kZeroAllocated : Extent::Kind::kData;
  extent.copied = (entry & kCopied) != 0;
  extent.host_offset = host + offset_bytes % header_.cluster_bytes();
  if (header_.encrypted() && extent.kind == Extent::Kind::kData) {
    extent.kind = Extent::Kind::kEncrypted;
    extent.host_offset = host;
  }
  return extent;
}

Extent Image::Map(const L2Slice& slice, uint64_t offset_bytes,
                  uint64_t max_bytes) const {
  if (header_.extended_l2()) {
    return MapSubclusters(slice, offset_bytes, max_bytes);
  }
  const uint64_t cluster = header_.cluster_bytes();
  size_t index = IndexInSlice(offset_bytes);
  Extent extent = Decode(Entry(slice, index), offset_bytes);
  extent.length_bytes = std::min(max_bytes, cluster - offset_bytes % cluster);
  if (extent.kind == Extent::Kind::kCompressed ||
      extent.kind == Extent::Kind::kEncrypted ||
      extent.kind == Extent::Kind::kInvalid) {
    return extent;
  }
  while (extent.length_bytes < max_bytes && ++index < entries_per_slice_) {
    const Extent next = Decode(Entry(slice, index), 0);
    if (next.kind != extent.kind || next.copied != extent.copied) break;
    if (next.host_offset != 0 &&
        next.host_offset != extent.host_offset + extent.length_bytes) {
      break;
    }
    extent.length_bytes = std::min(max_bytes, extent.length_bytes + cluster);
  }
  return extent;
}

// qcow2.txt "Extended L2 Entries".
Extent::Kind Image::KindOfSubcluster(const Extent& cluster, uint64_t bitmap,
                                     unsigned x) {
  const bool has_cluster = cluster.host_offset != 0;
  const bool allocated = (bitmap >> x & 1) != 0;
  const bool zero = (bitmap >> (kSubclusters + x) & 1) != 0;
  if ((allocated && zero) || (allocated && !has_cluster)) {
    return Extent::Kind::kInvalid;
  }
  if (allocated) return Extent::Kind::kData;
  if (!zero) return Extent::Kind::kUnallocated;
  return has_cluster ? Extent::Kind::kZeroAllocated : Extent::Kind::kZero;
}

// What an extended entry says of its cluster: kCompressed, kInvalid, or else
// kData with or without a place in the file.
Extent Image::DecodeExtended(uint64_t entry, uint64_t bitmap,
                             uint64_t offset_bytes) const {
  Extent extent = Decode(entry, offset_bytes);
  if (extent.kind == Extent::Kind::kCompressed) {
    if (bitmap != 0) extent.kind = Extent::Kind::kInvalid;
    return extent;
  }
  // The zero flag of ordinary entries has no meaning here.
  if (extent.kind == Extent::Kind::kInvalid || (entry & kZeroFlag) != 0) {
    extent.kind = Extent::Kind::kInvalid;
    return extent;
  }
  extent.kind = Extent::Kind::kData;
  return extent;
}

Extent Image::MapSubclusters(const L2Slice& slice, uint64_t offset_bytes,
                             uint64_t max_bytes) const {
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t subcluster = header_.subcluster_bytes();
  size_t index = IndexInSlice(offset_bytes);
  uint64_t bitmap = EntryBitmap(slice, index);
  Extent extent = DecodeExtended(Entry(slice, index), bitmap, offset_bytes);
  const uint64_t in_cluster = offset_bytes % cluster;
  if (extent.kind != Extent::Kind::kData) {
    extent.length_bytes = std::min(max_bytes, cluster - in_cluster);
    return extent;
  }
  auto x = static_cast<unsigned>(in_cluster / subcluster);
  extent.kind = KindOfSubcluster(extent, bitmap, x);
  extent.length_bytes = subcluster - in_cluster % subcluster;
  while (extent.length_bytes < max_bytes) {
    Extent next = extent;
    if (++x == kSubclusters) {
      if (++index == entries_per_slice_) break;
      x = 0;
      bitmap = EntryBitmap(slice, index);
      next = DecodeExtended(Entry(slice, index), bitmap, 0);
      if (next.kind != Extent::Kind::kData || next.copied != extent.copied) {
        break;
      }
      // Unallocated subclusters may be continued wherever the cluster lies.
      if (next.host_offset != 0
              ? next.host_offset != extent.host_offset + extent.length_bytes
              : extent.host_offset != 0) {
        break;
      }
    }
    if (KindOfSubcluster(next, bitmap, x) != extent.kind) break;
    extent.length_bytes += subcluster;
  }
  extent.length_bytes = std::min(extent.length_bytes, max_bytes);
  return extent;
}

Extent Image::MapCluster(const L2Slice& slice, uint64_t offset_bytes) const {
  const uint64_t cluster = header_.cluster_bytes();
  const uint64_t start = offset_bytes / cluster * cluster;
  if (!header_.extended_l2()) return Map(slice, start, cluster);
  const size_t index = IndexInSlice(start);
  const uint64_t bitmap = EntryBitmap(slice, index);
  Extent extent = DecodeExtended(Entry(slice, index), bitmap, start);
  extent.length_bytes = cluster;
  if (extent.kind != Extent::Kind::kData) return extent;
  const bool has_cluster = extent.host_offset != 0;
  for (unsigned x = 0; x < kSubclusters; ++x) {
    if (KindOfSubcluster(extent, bitmap, x) == Extent::Kind::kInvalid) {
      extent.kind = Extent::Kind::kInvalid;
      return extent;
    }
  }
  if (bitmap == kAllSubclustersZero) {
    extent.kind =
        has_cluster ? Extent::Kind::kZeroAllocated : Extent::Kind::kZero;
  } else if (!has_cluster) {
    extent.kind = Extent::Kind::kUnallocated;
  }
  return extent;
}

ClusterRange ClustersOf(const Extent& compressed, unsigned cluster_bits) {
  const uint64_t first = compressed.host_offset >> cluster_bits;
  const uint64_t last =
      (compressed.host_offset + compressed.compressed_bytes - 1) >>
      cluster_bits;
  return {first, last - first + 1};
}

}  // namespace bulkhead::block::qcow2
