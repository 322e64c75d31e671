#include "services/block/nbd/write_log.h"

#include <string.h>

#include <algorithm>

namespace bulkhead::block::nbd {

bool WriteLog::Reserve(uint64_t data_bytes) {
  if (used_bytes() + reserved_bytes_ + data_bytes > capacity_bytes_ ||
      mark_ - first_ + reserved_entries_ + 1 > entries_.size()) {
    return false;
  }
  reserved_bytes_ += data_bytes;
  ++reserved_entries_;
  return true;
}

void WriteLog::Release(uint64_t data_bytes) {
  reserved_bytes_ -= data_bytes;
  --reserved_entries_;
}

void WriteLog::Append(const Entry& entry, const void* data,
                      uint64_t data_bytes) {
  Release(data_bytes);
  Entry& kept = entries_[mark_ % entries_.size()];
  kept = entry;
  kept.data_at = end_;
  ++mark_;
  const uint64_t at = end_ % capacity_bytes_;
  const uint64_t head = std::min(data_bytes, capacity_bytes_ - at);
  if (data_bytes > 0) {
    memcpy(bytes_.get() + at, data, head);
    memcpy(bytes_.get(), static_cast<const uint8_t*>(data) + head,
           data_bytes - head);
  }
  end_ += data_bytes;
}

void WriteLog::DropBefore(uint64_t mark) {
  if (mark <= first_) return;
  first_ = std::min(mark, mark_);
  start_ = first_ < mark_ ? entry(first_).data_at : end_;
}

void WriteLog::CopyData(const Entry& entry, uint8_t* to) const {
  const uint64_t at = entry.data_at % capacity_bytes_;
  const uint64_t head = std::min(entry.length_bytes, capacity_bytes_ - at);
  memcpy(to, bytes_.get() + at, head);
  memcpy(to + head, bytes_.get(), entry.length_bytes - head);
}

}  // namespace bulkhead::block::nbd
