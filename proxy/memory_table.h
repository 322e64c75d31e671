// MemoryTable is the guest's memory as QEMU has mapped it for this device. The
// shim keeps it to tell it again to a service that was restarted, and because
// QEMU remaps parts of ranges that a service knows as wholes.
//
// TRUST    Addresses and sizes are QEMU's: checked here against wrapping and
//          the table's capacity.
// ERRORS   false: the table is unchanged.
// THREADS  One thread. Nothing is allocated after construction.

#ifndef BULKHEAD_PROXY_MEMORY_TABLE_H_
#define BULKHEAD_PROXY_MEMORY_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace bulkhead::proxy {

struct MemoryRange {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
  uint64_t ram_offset = 0;
  bool readable = false;
  bool writable = false;
  bool is_ram = false;  // false: a hole, which no service is told of

  uint64_t last() const { return address + (size_bytes - 1); }
  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

class MemoryTable {
 public:
  // What QEMU is told as max_dma_maps, and what a service holds.
  static constexpr size_t kMaxRanges = 4096;

  // Told of every range that goes (mapped false) and comes, in that order.
  using Change = std::function<void(const MemoryRange&, bool mapped)>;

  explicit MemoryTable(Change change) : change_(std::move(change)) {
    ranges_.reserve(kMaxRanges);
  }

  // Enters a range in place of whatever it overlaps. One that is there already
  // stays as it is: nobody is told.
  bool Insert(const MemoryRange& range);
  // Removes [address, address + size_bytes), cutting ranges that reach beyond.
  // False also when nothing of it was mapped.
  bool Remove(uint64_t address, uint64_t size_bytes);
  void Clear();

  // Ascending and disjoint.
  absl::Span<const MemoryRange> ranges() const { return ranges_; }

 private:
  // Exchanges the ranges that touch [address, last] for what is left of them
  // outside it, and `inserted`, if any.
  bool Replace(uint64_t address, uint64_t last, const MemoryRange* inserted);

  const Change change_;
  std::vector<MemoryRange> ranges_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MEMORY_TABLE_H_
