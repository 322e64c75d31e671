// Compressed clusters, zlib through libqcow and zstd: the first byte chooses,
// the others are the cluster's. zlib itself is asked as well.

#include <errno.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "services/block/memory_file.h"
#include "services/block/qcow2/decoder.h"
#include "services/block/qcow2/inflate.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr unsigned kBits[] = {9, 12, 16};

// What raw inflate makes of it; false: not a whole cluster.
bool InflateByZlib(const std::string& coded, std::vector<uint8_t>* to) {
  z_stream stream = {};
  if (inflateInit2(&stream, -12) != Z_OK) return false;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(coded.data()));
  stream.avail_in = static_cast<uInt>(coded.size());
  stream.next_out = to->data();
  stream.avail_out = static_cast<uInt>(to->size());
  const int result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  return (result == Z_STREAM_END || result == Z_BUF_ERROR) &&
         stream.avail_out == 0;
}

void TryZlib(unsigned bits, const std::string& coded) {
  static const Coding codings[] = {{.cluster_bits = kBits[0]},
                                   {.cluster_bits = kBits[1]},
                                   {.cluster_bits = kBits[2]}};
  static Decoder decoder(Decoder::MemoryFor(codings[2]));
  const Coding& coding = codings[bits];
  const size_t cluster = size_t{1} << coding.cluster_bits;
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes = coded.substr(0, cluster + 512);
  if (disk->bytes.empty()) return;
  MemoryFile file(disk);
  std::vector<uint8_t> ours(cluster, 0xaa);
  std::vector<uint8_t> theirs(cluster, 0x55);
  const int error =
      decoder.Inflate(coding, file, 0, disk->bytes.size(), ours.data());
  if (error != 0 && error != -EBADMSG) __builtin_trap();
  // libqcow is given whole sectors.
  std::string padded = disk->bytes;
  padded.resize((padded.size() + 511) / 512 * 512, 0);
  if (padded.size() >= 2 * cluster) return;
  const bool good = InflateByZlib(padded, &theirs);
  // libdeflate takes a few streams that zlib calls incomplete.
  if (good && (error != 0 || ours != theirs)) __builtin_trap();
}

void TryZstd(unsigned bits, const std::string& coded) {
  static const std::unique_ptr<Inflater> inflater = Inflater::CreateZstd();
  std::vector<uint8_t> to(size_t{1} << kBits[bits]);
  (void)inflater->Inflate(
      {reinterpret_cast<const uint8_t*>(coded.data()), coded.size()},
      {to.data(), to.size()});
}

}  // namespace
}  // namespace bulkhead::block::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string coded(reinterpret_cast<const char*>(data) + 1, size - 1);
  const unsigned bits = (data[0] >> 1) % 3;
  if ((data[0] & 1) != 0) {
    bulkhead::block::qcow2::TryZstd(bits, coded);
  } else {
    bulkhead::block::qcow2::TryZlib(bits, coded);
  }
  return 0;
}
