#include "services/block/qcow2/grow.h"

#include <algorithm>
#include <array>

#include "services/block/qcow2/format.h"
#include "services/runtime/endian.h"

namespace bulkhead::block::qcow2 {
namespace {

// To the end of its last cluster.
int WriteL1(Image* image, uint64_t offset, uint64_t bytes) {
  const std::vector<uint64_t>& l1 = image->l1();
  std::array<Be64, 512> piece;
  for (uint64_t at = 0; at < bytes / 8; at += piece.size()) {
    const uint64_t n = std::min<uint64_t>(piece.size(), bytes / 8 - at);
    for (uint64_t i = 0; i < n; ++i) {
      piece[i] = at + i < l1.size() ? l1[at + i] : 0;
    }
    if (const int error =
            WriteBytes(image->file(), piece.data(), n * 8, offset + at * 8);
        error != 0) {
      return error;
    }
  }
  return image->file().Sync();
}

// SPEC: "size", "crypt_method", "l1_size", "l1_table_offset" follow each other.
struct SizeFields {
  Be64 size_bytes;
  Be32 crypt_method;
  Be32 l1_entries;
  Be64 l1_offset;
};
static_assert(sizeof(SizeFields) == 24);

}  // namespace

int GrowDisk(Image* image, Refcounts* refcounts, GrownDisk* grown) {
  const Header& header = image->header();
  const uint64_t cluster = header.cluster_bytes();
  const uint64_t per_table = header.bytes_per_l2_table();
  const uint64_t needed = (grown->size_bytes + per_table - 1) / per_table;
  grown->uncertain = false;
  grown->l1_offset = header.l1_offset;
  grown->l1_entries = header.l1_entries;
  if (needed > header.l1_entries) {
    const uint64_t clusters = (needed * 8 + cluster - 1) / cluster;
    uint64_t first;
    if (const int error = refcounts->AllocateRun(clusters, &first);
        error != 0) {
      return error;
    }
    grown->l1_offset = first << header.cluster_bits;
    grown->l1_entries = static_cast<uint32_t>(needed);
    if (const int error = WriteL1(image, grown->l1_offset, clusters * cluster);
        error != 0) {
      refcounts->Decrease(first, clusters);
      return error;
    }
  }
  const SizeFields fields = {grown->size_bytes, header.crypt_method,
                             grown->l1_entries, grown->l1_offset};
  int error = WriteBytes(image->file(), &fields, sizeof(fields), kDiskSizeAt);
  if (error == 0) error = image->file().Sync();
  grown->uncertain = error != 0;
  return error;
}

}  // namespace bulkhead::block::qcow2
