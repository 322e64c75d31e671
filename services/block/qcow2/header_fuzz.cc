// The header of an image, whatever version: the input is the file's start.

#include <cstdint>
#include <string>

#include "services/block/memory_file.h"
#include "services/block/qcow2/header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using bulkhead::block::MemoryDisk;
  using bulkhead::block::MemoryFile;
  namespace qcow2 = bulkhead::block::qcow2;
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes.assign(reinterpret_cast<const char*>(data), size);
  MemoryFile file(disk);
  const auto header = qcow2::DescribeHeader(file);
  if (!header.ok()) return 0;
  (void)qcow2::CheckFeatures(*header);
  // What is believed is inside its bounds.
  if (header->cluster_bits < 9 || header->cluster_bits > 21) __builtin_trap();
  if (header->l1_offset > size || uint64_t{header->l1_entries} * 8 > size) {
    __builtin_trap();
  }
  if (header->bytes_per_l2_table() == 0) __builtin_trap();
  return 0;
}
