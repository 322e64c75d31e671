// WriteLog keeps what the server has acknowledged and no flush has covered yet,
// so that a server that comes back without it can be given it again.
//
//   log.Reserve(n) .. log.Append(..)   a write is sent, and acknowledged
//   mark = log.mark()                  a flush is sent
//   log.DropBefore(mark)               the flush is acknowledged
//   log.Read(i, ..)                    the connection is new: replay, in order
//
// TRUST    Offsets and lengths are the client's own; the bytes are the guest's.
// ERRORS   Reserve says no: flush first.
// THREADS  One.
//
// Memory is taken once; pages that were never used cost nothing.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_WRITE_LOG_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_WRITE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "services/block/backend.h"

namespace bulkhead::block::nbd {

class WriteLog {
 public:
  struct Entry {
    Operation operation = Operation::kWrite;
    bool may_unmap = false;
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    uint64_t data_at = 0;  // kWrite: counts all bytes ever appended
  };

  WriteLog(size_t capacity_bytes, size_t capacity_entries)
      : bytes_(new uint8_t[capacity_bytes]),
        capacity_bytes_(capacity_bytes),
        entries_(capacity_entries) {}

  // Room for one entry with so much data. Given back by Append or Release.
  bool Reserve(uint64_t data_bytes);
  void Release(uint64_t data_bytes);
  // `data_bytes` of them were reserved. `data` is copied.
  void Append(const Entry& entry, const void* data, uint64_t data_bytes);

  // Entries have consecutive numbers, [first, mark).
  uint64_t first() const { return first_; }
  uint64_t mark() const { return mark_; }
  void DropBefore(uint64_t mark);
  const Entry& entry(uint64_t number) const {
    return entries_[number % entries_.size()];
  }
  void CopyData(const Entry& entry, uint8_t* to) const;

  // More than half of it is in use.
  bool half_full() const {
    return 2 * (used_bytes() + reserved_bytes_) > capacity_bytes_ ||
           2 * (mark_ - first_ + reserved_entries_) > entries_.size();
  }
  uint64_t used_bytes() const { return end_ - start_; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  const uint64_t capacity_bytes_;
  std::vector<Entry> entries_;
  uint64_t first_ = 0;
  uint64_t mark_ = 0;
  uint64_t start_ = 0;  // of the data of the first entry
  uint64_t end_ = 0;
  uint64_t reserved_bytes_ = 0;
  uint64_t reserved_entries_ = 0;
};

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_WRITE_LOG_H_
