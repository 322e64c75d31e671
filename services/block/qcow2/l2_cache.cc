#include "services/block/qcow2/l2_cache.h"

#include <bit>

namespace bulkhead::block::qcow2 {

L2Cache::L2Cache(size_t slice_bytes, size_t slice_count)
    : slice_bytes_(slice_bytes),
      slice_count_(slice_count),
      slice_shift_(static_cast<unsigned>(std::countr_zero(slice_bytes))),
      // Not touched before it is used, so an idle cache takes no memory.
      memory_(new uint8_t[slice_bytes * slice_count]),
      buckets_(std::bit_ceil(slice_count * 2), nullptr) {
  slices_.reserve(slice_count);
}

L2Slice* L2Cache::TakeNew() {
  if (slices_.size() == slice_count_ ||
      (oldest_ != nullptr && oldest_->state == L2Slice::State::kEmpty)) {
    return nullptr;
  }
  L2Slice* slice = &slices_.emplace_back();
  slice->bytes = &memory_[(slices_.size() - 1) * slice_bytes_];
  LinkOldest(slice);
  return slice;
}

L2Slice** L2Cache::Bucket(uint64_t file_offset) {
  const uint64_t hash =
      (file_offset >> slice_shift_) * uint64_t{0x9e3779b97f4a7c15};
  return &buckets_[(hash >> 32) & (buckets_.size() - 1)];
}

L2Slice* L2Cache::Find(uint64_t file_offset) {
  L2Slice* slice = *Bucket(file_offset);
  while (slice != nullptr && slice->file_offset != file_offset) {
    slice = slice->chain;
  }
  if (slice != nullptr) slice->used = true;
  return slice;
}

L2Slice* L2Cache::Insert(uint64_t file_offset) {
  L2Slice* slice = TakeNew();
  for (size_t looked = 0; slice == nullptr && looked < 2 * slices_.size();
       ++looked) {
    L2Slice* oldest = oldest_;
    if (oldest->pins == 0 && oldest->state != L2Slice::State::kLoading &&
        !oldest->used) {
      slice = oldest;
      break;
    }
    oldest->used = false;
    Unlink(oldest);
    LinkNewest(oldest);
  }
  if (slice == nullptr) return nullptr;
  if (slice->state != L2Slice::State::kEmpty) Unchain(slice);
  Unlink(slice);
  LinkNewest(slice);
  slice->file_offset = file_offset;
  slice->state = L2Slice::State::kLoading;
  slice->used = true;
  slice->deferred = 0;
  slice->waiters = nullptr;
  L2Slice** bucket = Bucket(file_offset);
  slice->chain = *bucket;
  *bucket = slice;
  return slice;
}

void L2Cache::Remove(L2Slice* slice) {
  Unchain(slice);
  slice->state = L2Slice::State::kEmpty;
  slice->used = false;
  Unlink(slice);
  LinkOldest(slice);
}

void L2Cache::Forget(uint64_t file_offset, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += slice_bytes_) {
    L2Slice* slice = *Bucket(file_offset + at);
    while (slice != nullptr && slice->file_offset != file_offset + at) {
      slice = slice->chain;
    }
    if (slice != nullptr && slice->pins == 0 &&
        slice->state == L2Slice::State::kReady) {
      Remove(slice);
    }
  }
}

void L2Cache::Unchain(L2Slice* slice) {
  L2Slice** link = Bucket(slice->file_offset);
  while (*link != slice) link = &(*link)->chain;
  *link = slice->chain;
  slice->chain = nullptr;
}

void L2Cache::Unlink(L2Slice* slice) {
  (slice->older != nullptr ? slice->older->newer : oldest_) = slice->newer;
  (slice->newer != nullptr ? slice->newer->older : newest_) = slice->older;
  slice->older = slice->newer = nullptr;
}

void L2Cache::LinkNewest(L2Slice* slice) {
  slice->older = newest_;
  (newest_ != nullptr ? newest_->newer : oldest_) = slice;
  newest_ = slice;
}

void L2Cache::LinkOldest(L2Slice* slice) {
  slice->newer = oldest_;
  (oldest_ != nullptr ? oldest_->older : newest_) = slice;
  oldest_ = slice;
}

}  // namespace bulkhead::block::qcow2
