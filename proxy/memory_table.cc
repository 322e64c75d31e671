#include "proxy/memory_table.h"

#include <algorithm>

namespace bulkhead::proxy {
namespace {

bool Wraps(uint64_t address, uint64_t size_bytes) {
  return size_bytes == 0 || address + (size_bytes - 1) < address;
}

}  // namespace

bool MemoryTable::Replace(uint64_t address, uint64_t last,
                          const MemoryRange* inserted, Change change) {
  MemoryRange* const end = ranges_.data() + count_;
  MemoryRange* const first = std::partition_point(
      ranges_.data(), end,
      [address](const MemoryRange& range) { return range.last() < address; });
  MemoryRange* const behind = std::partition_point(
      first, end,
      [last](const MemoryRange& range) { return range.address <= last; });
  if (first == behind && inserted == nullptr) return false;
  if (inserted != nullptr && behind - first == 1 && *first == *inserted) {
    return true;
  }

  std::array<MemoryRange, 3> come;
  size_t come_count = 0;
  if (first != behind && first->address < address) {
    MemoryRange left = *first;
    left.size_bytes = address - left.address;
    come[come_count++] = left;
  }
  if (inserted != nullptr) come[come_count++] = *inserted;
  if (first != behind && (behind - 1)->last() > last) {
    MemoryRange right = *(behind - 1);
    right.ram_offset += last + 1 - right.address;
    right.size_bytes = right.last() - last;
    right.address = last + 1;
    come[come_count++] = right;
  }
  const size_t gone_count = static_cast<size_t>(behind - first);
  if (count_ - gone_count + come_count > kMaxRanges) return false;

  for (const MemoryRange* range = first; range != behind; ++range) {
    change(*range, false);
  }
  if (come_count < gone_count) {
    std::move(behind, end, first + come_count);
  } else {
    std::move_backward(behind, end, end + (come_count - gone_count));
  }
  std::copy_n(come.begin(), come_count, first);
  count_ = count_ - gone_count + come_count;
  for (size_t i = 0; i < come_count; ++i) change(come[i], true);
  return true;
}

bool MemoryTable::Insert(const MemoryRange& range, Change change) {
  if (Wraps(range.address, range.size_bytes)) return false;
  return Replace(range.address, range.last(), &range, change);
}

bool MemoryTable::Remove(uint64_t address, uint64_t size_bytes, Change change) {
  if (Wraps(address, size_bytes)) return false;
  return Replace(address, address + (size_bytes - 1), nullptr, change);
}

void MemoryTable::Clear(Change change) {
  if (count_ != 0) Replace(0, ~uint64_t{0}, nullptr, change);
}

}  // namespace bulkhead::proxy
