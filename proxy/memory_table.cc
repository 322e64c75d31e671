#include "proxy/memory_table.h"

#include <algorithm>
#include <array>

namespace bulkhead::proxy {
namespace {

bool Wraps(uint64_t address, uint64_t size_bytes) {
  return size_bytes == 0 || address + (size_bytes - 1) < address;
}

}  // namespace

bool MemoryTable::Replace(uint64_t address, uint64_t last,
                          const MemoryRange* inserted) {
  const auto first = std::partition_point(
      ranges_.begin(), ranges_.end(),
      [address](const MemoryRange& range) { return range.last() < address; });
  const auto behind = std::partition_point(
      first, ranges_.end(),
      [last](const MemoryRange& range) { return range.address <= last; });
  if (first == behind && inserted == nullptr) return false;
  if (inserted != nullptr && behind - first == 1 && *first == *inserted) {
    return true;
  }

  std::array<MemoryRange, 3> come;
  size_t come_count = 0;
  if (first != behind && first->address < address) {
    MemoryRange& left = come[come_count++] = *first;
    left.size_bytes = address - left.address;
  }
  if (inserted != nullptr) come[come_count++] = *inserted;
  if (first != behind && (behind - 1)->last() > last) {
    MemoryRange& right = come[come_count++] = *(behind - 1);
    right.ram_offset += last + 1 - right.address;
    right.size_bytes = right.last() - last;
    right.address = last + 1;
  }
  const auto gone_count = static_cast<size_t>(behind - first);
  if (ranges_.size() - gone_count + come_count > kMaxRanges) return false;

  std::for_each(first, behind,
                [this](const MemoryRange& gone) { change_(gone, false); });
  ranges_.insert(ranges_.erase(first, behind), come.begin(),
                 come.begin() + come_count);
  for (size_t i = 0; i < come_count; ++i) change_(come[i], true);
  return true;
}

bool MemoryTable::Insert(const MemoryRange& range) {
  if (Wraps(range.address, range.size_bytes)) return false;
  return Replace(range.address, range.last(), &range);
}

bool MemoryTable::Remove(uint64_t address, uint64_t size_bytes) {
  if (Wraps(address, size_bytes)) return false;
  return Replace(address, address + (size_bytes - 1), nullptr);
}

void MemoryTable::Clear() { Replace(0, ~uint64_t{0}, nullptr); }

}  // namespace bulkhead::proxy
