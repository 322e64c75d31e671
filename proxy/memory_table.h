// MemoryTable is the guest's memory as QEMU has mapped it for this device. The
// shim keeps it to tell it again to a service that was restarted, and because
// QEMU remaps parts of ranges that a service knows as wholes.
//
// TRUST    Addresses and sizes are QEMU's: checked here against wrapping and
//          the table's capacity.
// ERRORS   false: the table is unchanged.
// THREADS  One thread. Nothing is allocated.

#ifndef BULKHEAD_PROXY_MEMORY_TABLE_H_
#define BULKHEAD_PROXY_MEMORY_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"

namespace bulkhead::proxy {

struct MemoryRange {
  // Without initialisers, so that a table of them takes memory as it fills.
  uint64_t address;
  uint64_t size_bytes;
  uint64_t ram_offset;
  bool readable;
  bool writable;
  bool is_ram;  // false: a hole, which no service is told of

  uint64_t last() const { return address + (size_bytes - 1); }
  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

class MemoryTable {
 public:
  // What QEMU is told as max_dma_maps, and what a service holds.
  static constexpr size_t kMaxRanges = 4096;

  // Told of every range that goes (mapped false) and comes, in that order.
  using Change = absl::FunctionRef<void(const MemoryRange&, bool mapped)>;

  // Enters a range in place of whatever it overlaps. One that is there already
  // stays as it is: nobody is told.
  bool Insert(const MemoryRange& range, Change change);
  // Removes [address, address + size_bytes), cutting ranges that reach beyond.
  // False also when nothing of it was mapped.
  bool Remove(uint64_t address, uint64_t size_bytes, Change change);
  void Clear(Change change);

  // Ascending and disjoint.
  absl::Span<const MemoryRange> ranges() const {
    return {ranges_.data(), count_};
  }

 private:
  // Exchanges the ranges that touch [address, last] for what is left of them
  // outside it, and `inserted`, if any.
  bool Replace(uint64_t address, uint64_t last, const MemoryRange* inserted,
               Change change);

  std::array<MemoryRange, kMaxRanges> ranges_;
  size_t count_ = 0;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MEMORY_TABLE_H_
