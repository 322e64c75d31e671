#include "services/scsi/testing/memory_backend.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bulkhead::scsi {

MemoryBackend::MemoryBackend(uint64_t capacity_bytes, uint64_t kept_bytes)
    : bytes_(kept_bytes == 0 ? capacity_bytes : kept_bytes) {
  geometry_ = {.capacity_bytes = capacity_bytes,
               .can_discard = true,
               .can_write_zeroes = true};
  log_.reserve(1024);
}

void MemoryBackend::Release(size_t count) { released_ += count; }

void MemoryBackend::ReleaseAll() {
  holding_ = false;
  released_ = waiting_.size();
}

void MemoryBackend::FailAt(block::Operation operation, uint64_t offset,
                           block::IoStatus status) {
  faults_.push_back({operation, offset, status});
}

size_t MemoryBackend::Count(block::Operation operation) const {
  return static_cast<size_t>(std::count_if(
      log_.begin(), log_.end(),
      [operation](const Record& r) { return r.operation == operation; }));
}

void MemoryBackend::Submit(block::Request* request) {
  if (waiting_.size() >= block::kMaxInFlight) {
    std::fprintf(stderr, "more than kMaxInFlight requests\n");
    std::abort();
  }
  log_.push_back({request->operation, request->offset_bytes,
                  request->length_bytes, request->force_unit_access,
                  request->may_unmap});
  if (holding_ || complete_in_poll_) {
    waiting_.push_back(request);
    return;
  }
  request->status = Perform(request);
  request->done(request);
}

size_t MemoryBackend::Poll() {
  size_t count = std::min(released_, waiting_.size());
  if (!holding_) count = waiting_.size();
  released_ = 0;
  for (size_t i = 0; i < count; ++i) {
    block::Request* request = waiting_.front();
    waiting_.pop_front();
    request->status = Perform(request);
    request->done(request);
  }
  return count;
}

block::IoStatus MemoryBackend::Perform(block::Request* request) {
  using block::IoStatus;
  using block::Operation;
  const uint64_t at = request->offset_bytes;
  const uint64_t size = request->length_bytes;
  const uint64_t capacity = geometry_.capacity_bytes;
  if (at % 512 != 0 || size % 512 != 0 || at > capacity ||
      size > capacity - at) {
    return IoStatus::kInvalid;
  }
  if (geometry_.read_only && request->operation != Operation::kRead &&
      request->operation != Operation::kFlush) {
    return IoStatus::kReadOnly;
  }
  for (const Fault& fault : faults_) {
    const bool touches = request->operation == Operation::kFlush ||
                         (fault.offset >= at && fault.offset < at + size);
    if (fault.operation == request->operation && touches) return fault.status;
  }
  switch (request->operation) {
    case Operation::kRead:
      Copy(request, false);
      break;
    case Operation::kWrite:
      Copy(request, true);
      break;
    case Operation::kFlush:
      break;
    case Operation::kDiscard:  // undefined contents: not what was there
      Fill(at, size, 0xdd);
      break;
    case Operation::kWriteZeroes:
      Fill(at, size, 0x00);
      break;
  }
  return IoStatus::kOk;
}

uint64_t MemoryBackend::Kept(uint64_t offset, uint64_t size) const {
  return offset >= bytes_.size() ? 0 : std::min(size, bytes_.size() - offset);
}

void MemoryBackend::Fill(uint64_t offset, uint64_t size, uint8_t value) {
  const uint64_t kept = Kept(offset, size);
  if (kept > 0) std::memset(&bytes_[offset], value, kept);
}

void MemoryBackend::Copy(block::Request* request, bool to_disk) {
  uint64_t at = request->offset_bytes;
  for (size_t i = 0; i < request->segment_count; ++i) {
    const iovec& segment = request->segments[i];
    const uint64_t kept = Kept(at, segment.iov_len);
    if (!to_disk) std::memset(segment.iov_base, 0, segment.iov_len);
    if (kept > 0 && to_disk) std::memcpy(&bytes_[at], segment.iov_base, kept);
    if (kept > 0 && !to_disk) std::memcpy(segment.iov_base, &bytes_[at], kept);
    at += segment.iov_len;
  }
}

}  // namespace bulkhead::scsi
