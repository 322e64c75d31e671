#include "services/block/qcow2/tiny_image.h"

#include <zlib.h>

#include "services/block/qcow2/format.h"

namespace bulkhead::block::qcow2 {
namespace {

// What the compressed cluster holds: something that deflates well.
std::string Text() {
  std::string text;
  while (text.size() < TinyImage::kCluster) text += "water tight ";
  text.resize(TinyImage::kCluster);
  return text;
}

std::string Deflate(const std::string& from) {
  std::string to(TinyImage::kCluster, 0);
  z_stream stream = {};
  deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 8,
               Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(to.data());
  stream.avail_out = static_cast<uInt>(to.size());
  deflate(&stream, Z_FINISH);
  to.resize(stream.total_out);
  deflateEnd(&stream);
  return to;
}

}  // namespace

TinyImage::TinyImage() : bytes_(kClusters * kCluster, 0) {
  Set32(0, kMagic);
  Set32(4, 3);            // version
  Set32(20, 9);           // cluster_bits
  Set64(24, kDiskBytes);  // size
  Set32(36, 2);           // l1_size
  Set64(40, kL1);
  Set64(48, kRefcountTable);
  Set32(56, 1);  // refcount_table_clusters
  Set32(96, 4);  // refcount_order
  Set32(100, kVersion3Length);
  Set64(kRefcountTable, kRefcountBlock);
  for (uint64_t i = 0; i < kClusters; ++i) Set16(kRefcountBlock + i * 2, 1);
  Set64(kL1, kL2 | kCopied);
  Set64(kL1 + 8, (kL2 + kCluster) | kCopied);
  SetL2(0, kData | kCopied);
  SetL2(1, kKept | kCopied | kZeroFlag);
  // One sector: no additional ones.
  SetL2(2, kCompressedData | kCompressed);
  SetL2(3, kZeroFlag);
  bytes_.replace(kData, kCluster, std::string(kCluster, 'd'));
  bytes_.replace(kKept, kCluster, std::string(kCluster, 'k'));
  const std::string deflated = Deflate(Text());
  bytes_.replace(kCompressedData, deflated.size(), deflated);
}

void TinyImage::Set16(uint64_t offset, uint16_t value) {
  StoreBe16(reinterpret_cast<uint8_t*>(&bytes_[offset]), value);
}
void TinyImage::Set32(uint64_t offset, uint32_t value) {
  StoreBe32(reinterpret_cast<uint8_t*>(&bytes_[offset]), value);
}
void TinyImage::Set64(uint64_t offset, uint64_t value) {
  StoreBe64(reinterpret_cast<uint8_t*>(&bytes_[offset]), value);
}

std::string TinyImage::Content() {
  std::string content(kDiskBytes, 0);
  content.replace(0, kCluster, std::string(kCluster, 'd'));
  content.replace(2 * kCluster, kCluster, Text());
  return content;
}

}  // namespace bulkhead::block::qcow2
