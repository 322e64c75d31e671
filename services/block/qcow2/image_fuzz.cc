// Whole images: a sound one, spoiled field by field as the input says, opened
// and used. Or, with an odd first byte, the input is the image.
//
// Input: mode, number of edits, edits of 4 bytes (field, value), then requests
// of 4 bytes each.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "services/block/memory_file.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/format.h"
#include "services/block/qcow2/tiny_image.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMaxRequests = 48;

// What a field could be made to say, to hurt.
uint64_t Interesting(uint8_t choice, uint8_t detail) {
  constexpr std::array<uint64_t, 4> kFlags = {0, kCopied, kCompressed,
                                              kZeroFlag};
  const uint64_t flags = kFlags[choice & 3] | (choice & 4 ? kCopied : 0);
  switch (choice >> 3 & 7) {
    case 0:
      return flags | uint64_t{detail} * TinyImage::kCluster;
    case 1:
      return flags | detail;
    case 2:
      return flags | uint64_t{1} << (detail % 64);
    case 3:
      return ~uint64_t{0} >> (detail % 64);
    case 4:
      return flags | (uint64_t{detail} << 54) | TinyImage::kCompressedData;
    case 5:
      return flags | (uint64_t{detail} * TinyImage::kCluster + 256);
    default:
      return uint64_t{detail} << 8 * (choice >> 6);
  }
}

void Edit(TinyImage* image, const uint8_t* edit) {
  static constexpr uint64_t kTables[] = {TinyImage::kL1, TinyImage::kL2,
                                         TinyImage::kRefcountTable,
                                         TinyImage::kL2 + TinyImage::kCluster};
  static constexpr uint64_t kHeader32[] = {4,  16, 20,  32,  36, 56,
                                           60, 96, 100, 104, 108};
  static constexpr uint64_t kHeader64[] = {8, 24, 40, 48, 64, 72, 80, 88, 112};
  const uint64_t value = Interesting(edit[2], edit[3]);
  switch (edit[0] % 6) {
    case 0:
      image->Set32(kHeader32[edit[1] % std::size(kHeader32)],
                   static_cast<uint32_t>(value));
      return;
    case 1:
      image->Set64(kHeader64[edit[1] % std::size(kHeader64)], value);
      return;
    case 2:
      image->Set16(TinyImage::kRefcountBlock + edit[1] % 256 * 2,
                   static_cast<uint16_t>(value));
      return;
    case 3:
      image->bytes()[TinyImage::kCompressedData + edit[1]] =
          static_cast<char>(edit[3]);
      return;
    default:
      image->Set64(kTables[edit[2] >> 6] + edit[1] % 64 * 8, value);
  }
}

struct FuzzRequest : Request {
  std::vector<char> buffer;
  iovec segment;
};

void Use(Engine& engine, const uint8_t* data, size_t size) {
  const uint64_t capacity = engine.geometry().capacity_bytes;
  std::vector<std::unique_ptr<FuzzRequest>> requests;
  for (size_t i = 0; i + 4 <= size && requests.size() < kMaxRequests; i += 4) {
    auto request = std::make_unique<FuzzRequest>();
    request->operation = static_cast<Operation>(data[i] % 5);
    request->may_unmap = (data[i] & 64) != 0;
    request->force_unit_access = (data[i] & 128) != 0;
    request->offset_bytes =
        (uint64_t{data[i + 1]} << 8 | data[i + 2]) % 160 * 512;
    if (data[i + 2] >= 240) request->offset_bytes = capacity & ~uint64_t{511};
    request->length_bytes = uint64_t{data[i + 3]} % 80 * 512;
    const bool moves = request->operation == Operation::kRead ||
                       request->operation == Operation::kWrite;
    if (moves) request->buffer.resize(request->length_bytes, data[i]);
    request->segment = {request->buffer.data(), request->buffer.size()};
    request->segments = &request->segment;
    request->segment_count = 1;
    request->done = [](Request*) {};
    engine.Submit(request.get());
    requests.push_back(std::move(request));
  }
  for (int i = 0; i < 100000 && engine.in_flight() > 0; ++i) engine.Poll();
  // A request that never ends is a bug as bad as a crash.
  if (engine.in_flight() > 0) __builtin_trap();
}

void RunOne(const std::string& bytes, bool read_only, const uint8_t* requests,
            size_t size) {
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes = bytes;
  disk->space = 64 << 20;
  MemoryFile file(disk);
  (void)Check(file, kSetUpBudget);
  std::vector<ChainFile> chain;
  chain.push_back({std::make_unique<MemoryFile>(disk), true, "fuzz"});
  auto pool = WorkerPool::Create(0, AtEnd::kJoin);
  if (!pool.ok()) return;
  auto engine = OpenChain(
      std::move(chain), *std::move(pool),
      {.engine = {.read_only = read_only, .decoded_cache_bytes = 64 << 10},
       .l2_cache_bytes = 64 << 10});
  if (engine.ok()) Use(**engine, requests, size);
}

}  // namespace
}  // namespace bulkhead::block::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using bulkhead::block::qcow2::TinyImage;
  if (size < 2) return 0;
  const bool read_only = (data[0] & 2) != 0;
  if ((data[0] & 1) != 0) {
    static constexpr uint8_t kRequests[] = {0, 0, 0, 79, 1, 0,  1, 9, 3, 0, 0,
                                            9, 4, 0, 2,  9, 2,  0, 0, 0, 1, 0,
                                            9, 3, 0, 0,  0, 79, 4, 0, 0, 79};
    bulkhead::block::qcow2::RunOne(
        std::string(reinterpret_cast<const char*>(data) + 1, size - 1),
        read_only, kRequests, sizeof(kRequests));
    return 0;
  }
  TinyImage image;
  const size_t edits = std::min<size_t>(data[1] % 16, (size - 2) / 4);
  for (size_t i = 0; i < edits; ++i) {
    bulkhead::block::qcow2::Edit(&image, data + 2 + i * 4);
  }
  const size_t used = 2 + edits * 4;
  bulkhead::block::qcow2::RunOne(image.bytes(), read_only, data + used,
                                 size - used);
  return 0;
}
