// The tables of an image with a sound header: L1, L2 (plain, extended or those
// of version 1), refcount table and blocks, filled by the input; everything is
// mapped, counted and reserved.
//
// Input: a byte that chooses the kind, then entries of 6 bytes: where (2),
// which bits or offset (4).

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "services/block/memory_file.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/format.h"
#include "services/block/qcow2/image.h"
#include "services/block/qcow2/refcounts.h"

namespace bulkhead::block::qcow2 {
namespace {

// Header, refcount table, refcount block, L1, two L2 tables, data.
constexpr uint64_t kClusters = 10;
constexpr uint64_t kL2At = 4;

struct Kind {
  uint32_t version;
  unsigned cluster_bits;
  uint64_t incompatible;
};
constexpr Kind kKinds[] = {
    {1, 9, 0}, {2, 9, 0}, {3, 9, 0}, {3, 12, 0}, {3, 14, kExtendedL2}};

std::string MakeImage(const Kind& kind) {
  const uint64_t cluster = uint64_t{1} << kind.cluster_bits;
  std::string image(kClusters * cluster, 0);
  auto* bytes = reinterpret_cast<uint8_t*>(image.data());
  StoreBe32(bytes, kMagic);
  StoreBe32(bytes + 4, kind.version);
  if (kind.version == 1) {
    StoreBe64(bytes + 24, 2 * 64 * cluster);
    bytes[32] = static_cast<uint8_t>(kind.cluster_bits);
    bytes[33] = 6;
    StoreBe64(bytes + 40, 3 * cluster);
  } else {
    const uint64_t entries =
        cluster / ((kind.incompatible & kExtendedL2) != 0 ? 16 : 8);
    StoreBe32(bytes + 20, kind.cluster_bits);
    StoreBe64(bytes + 24, 2 * entries * cluster);
    StoreBe32(bytes + 36, 2);
    StoreBe64(bytes + 40, 3 * cluster);
    StoreBe64(bytes + 48, cluster);
    StoreBe32(bytes + 56, 1);
    StoreBe64(bytes + 72, kind.incompatible);
    StoreBe32(bytes + 96, 4);
    StoreBe32(bytes + 100, kVersion3Length);
    StoreBe64(bytes + cluster, 2 * cluster);
    for (uint64_t i = 0; i < kClusters; ++i) {
      bytes[2 * cluster + i * 2 + 1] = 1;
    }
  }
  const uint64_t copied = kind.version == 1 ? 0 : kCopied;
  StoreBe64(bytes + 3 * cluster, kL2At * cluster | copied);
  StoreBe64(bytes + 3 * cluster + 8, (kL2At + 1) * cluster | copied);
  return image;
}

void MapAll(Image* image) {
  const uint64_t size = image->header().size_bytes;
  for (uint64_t at = 0; at < size;) {
    const uint64_t place = image->SliceOffset(at);
    if (place == 0) {
      at += image->BytesToEndOfTable(at);
      continue;
    }
    L2Slice* slice = image->cache().Find(place);
    if (slice == nullptr) {
      slice = image->cache().Insert(place);
      if (ReadBytes(image->file(), slice->bytes, image->cache().slice_bytes(),
                    place, BeyondEnd::kFails) != 0) {
        image->cache().Remove(slice);
        at += image->header().cluster_bytes();
        continue;
      }
      slice->state = L2Slice::State::kReady;
    }
    const Extent cluster = image->MapCluster(*slice, at);
    const Extent extent = image->Map(*slice, at, size - at);
    if (extent.length_bytes == 0 || extent.length_bytes > size - at) {
      __builtin_trap();
    }
    const bool in_file = extent.kind == Extent::Kind::kData ||
                         extent.kind == Extent::Kind::kCompressed;
    if (in_file && (extent.host_offset >= image->file_bytes() ||
                    extent.host_offset < sizeof(RawHeaderV1))) {
      __builtin_trap();
    }
    // Each cluster of a run stands for itself in the other view.
    if (cluster.kind == Extent::Kind::kCompressed &&
        extent.kind != Extent::Kind::kCompressed) {
      __builtin_trap();
    }
    at += extent.length_bytes;
  }
}

void UseRefcounts(FileIo* file, const Header& header) {
  auto refcounts = Refcounts::Open(file, header);
  if (!refcounts.ok()) return;
  uint64_t count = 0;
  for (uint64_t c = 0; c < 2 * kClusters; ++c) {
    (void)(*refcounts)->Get(c, &count);
  }
  FreeRun runs[4];
  size_t used = 0;
  if ((*refcounts)->Reserve(5, runs, 4, &used) == 0) {
    for (size_t i = 0; i < used; ++i) {
      (void)(*refcounts)->Decrease(runs[i].first, runs[i].count);
    }
  }
  (void)(*refcounts)->Increase(1, kClusters);
  (void)(*refcounts)->TrimEnd();
}

void RunOne(const uint8_t* data, size_t size) {
  const Kind& kind = kKinds[data[0] % std::size(kKinds)];
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes = MakeImage(kind);
  disk->space = 64 << 20;
  const uint64_t cluster = uint64_t{1} << kind.cluster_bits;
  for (size_t i = 1; i + 6 <= size && i < 6 * 64; i += 6) {
    const uint64_t where =
        cluster + (uint64_t{data[i]} << 8 | data[i + 1]) * 8 % (6 * cluster);
    uint64_t value = uint64_t{data[i + 2]} << 56 | data[i + 5];
    value |= uint64_t{data[i + 3]} << (data[i + 4] & 31);
    if ((data[i + 4] & 64) != 0) value |= uint64_t{data[i + 3]} * cluster;
    StoreBe64(reinterpret_cast<uint8_t*>(&disk->bytes[where]), value);
  }
  MemoryFile file(disk);
  (void)Check(file, {1 << 12, 1 << 20});
  auto image = Image::Open(std::make_unique<MemoryFile>(disk), 1 << 16, "");
  if (!image.ok()) return;
  MapAll(image->get());
  if (kind.version > 1) UseRefcounts(&file, (*image)->header());
}

}  // namespace
}  // namespace bulkhead::block::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0) bulkhead::block::qcow2::RunOne(data, size);
  return 0;
}
