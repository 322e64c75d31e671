// VIRTIO 1.2 §5.2.6: one request from its chain to its status.

#include <algorithm>
#include <cstring>

#include "services/virtio_blk/device.h"

namespace bulkhead::virtio_blk {
namespace {

// Copies `bytes` off the front; false when there are fewer. The spec lays down
// no framing (§2.7.4): a header may lie in any number of buffers.
bool TakeFront(absl::Span<iovec>* segments, void* to, size_t bytes) {
  auto* out = static_cast<uint8_t*>(to);
  while (bytes > 0) {
    if (segments->empty()) return false;
    iovec& first = segments->front();
    const size_t n = std::min(bytes, first.iov_len);
    std::memcpy(out, first.iov_base, n);
    out += n;
    bytes -= n;
    first.iov_base = static_cast<uint8_t*>(first.iov_base) + n;
    first.iov_len -= n;
    if (first.iov_len == 0) segments->remove_prefix(1);
  }
  return true;
}

}  // namespace

unsigned Device::Serve(unsigned index, virtio::Queue& queue, unsigned budget) {
  Group& group = groups_[group_of(index)];
  const block::Batch batch(group.backend.get());
  unsigned taken = 0;
  while (taken < budget && group.free != nullptr && Alive(index)) {
    Slot* slot = group.free;
    const virtio::Popped popped = queue.Pop(&slot->chain);
    if (popped == virtio::Popped::kBroken) Fail(index);
    if (popped != virtio::Popped::kChain) break;
    ++taken;
    group.free = slot->next;
    slot->queue = static_cast<uint16_t>(index);
    ++group.in_flight;
    ++per_queue_[index];
    Begin(slot);
  }
  return taken;
}

void Device::Begin(Slot* slot) {
  virtio::Chain& chain = slot->chain;
  slot->written_bytes = 0;
  slot->status = nullptr;
  if (chain.last_is_good) {
    // The status is the last byte that the device may write.
    iovec& last = chain.segments[chain.count - 1];
    slot->status = static_cast<uint8_t*>(last.iov_base) + last.iov_len - 1;
    if (--last.iov_len == 0) --chain.count;
    --chain.writable_bytes;
  }
  if (slot->status == nullptr) {
    Fail(slot->queue);
    Finish(slot, kStatusIoError);
    return;
  }
  RequestHeader header;
  absl::Span<iovec> readable = chain.readable();
  if (chain.faulty || !TakeFront(&readable, &header, sizeof header)) {
    Refuse(slot, kStatusIoError);
    return;
  }
  chain.readable_bytes -= sizeof header;
  slot->type = header.type;
  slot->request.segments = readable.data();
  slot->request.segment_count = readable.size();
  switch (slot->type) {
    case kTypeIn:
    case kTypeOut:
      Move(slot, header.sector);
      return;
    case kTypeFlush:
      Submit(slot, block::Operation::kFlush, 0, 0);
      return;
    case kTypeDiscard:
    case kTypeWriteZeroes:
      StartRanges(slot);
      return;
    case kTypeGetId:
      GetId(slot);
      return;
    default:  // also GET_LIFETIME and SECURE_ERASE, which are not offered
      Refuse(slot, kStatusUnsupported);
  }
}

bool Device::InCapacity(uint64_t sector, uint64_t bytes) const {
  const uint64_t capacity = config_.capacity;
  return bytes % options_.block_size_bytes == 0 && sector <= capacity &&
         bytes / kSectorBytes <= capacity - sector &&
         sector % (options_.block_size_bytes / kSectorBytes) == 0;
}

// §5.2.6.2: a read or a write, straight between the file and guest memory.
void Device::Move(Slot* slot, uint64_t sector) {
  const virtio::Chain& chain = slot->chain;
  const bool is_read = slot->type == kTypeIn;
  const uint64_t bytes = is_read ? chain.writable_bytes : chain.readable_bytes;
  if (bytes > kMaxDataBytes || !InCapacity(sector, bytes) ||
      (!is_read && slot->group->backend->geometry().read_only)) {
    Refuse(slot, kStatusIoError);
    return;
  }
  if (is_read) {
    const absl::Span<iovec> writable = chain.writable();
    slot->request.segments = writable.data();
    slot->request.segment_count = writable.size();
    slot->written_bytes = static_cast<uint32_t>(bytes);
  }
  Submit(slot, is_read ? block::Operation::kRead : block::Operation::kWrite,
         sector * kSectorBytes, bytes);
}

// §5.2.6.2: several ranges in one request; they are copied once and then
// served one after the other.
void Device::StartRanges(Slot* slot) {
  const uint64_t bytes = slot->chain.readable_bytes;
  const bool discard = slot->type == kTypeDiscard;
  const uint64_t wanted = discard ? kFeatureDiscard : kFeatureWriteZeroes;
  uint8_t status = kStatusOk;
  if ((features() & wanted) == 0) {
    status = kStatusUnsupported;
  } else if (bytes == 0 || bytes % sizeof(Range) != 0 ||
             bytes > kMaxRanges * sizeof(Range)) {
    status = kStatusIoError;
  }
  if (status == kStatusOk) {
    absl::Span<iovec> readable(const_cast<iovec*>(slot->request.segments),
                               slot->request.segment_count);
    TakeFront(&readable, slot->ranges.data(), bytes);
    slot->range = 0;
    slot->range_count = static_cast<uint16_t>(bytes / sizeof(Range));
    const uint32_t most = discard ? kMaxDiscardSectors : kMaxWriteZeroesSectors;
    const uint32_t allowed_flags = discard ? 0 : kRangeUnmap;
    for (unsigned i = 0; i < slot->range_count && status == kStatusOk; ++i) {
      const Range& range = slot->ranges[i];
      if ((range.flags & ~allowed_flags) != 0) {
        status = kStatusUnsupported;
      } else if (range.num_sectors > most ||
                 !InCapacity(range.sector,
                             uint64_t{range.num_sectors} * kSectorBytes)) {
        status = kStatusIoError;
      }
    }
  }
  slot->request.segments = nullptr;
  slot->request.segment_count = 0;
  if (status != kStatusOk) {
    Refuse(slot, status);
    return;
  }
  NextRange(slot);
}

bool Device::NextRange(Slot* slot) {
  if (slot->range == slot->range_count) return false;
  const Range& range = slot->ranges[slot->range++];
  const bool discard = slot->type == kTypeDiscard;
  slot->request.may_unmap = !discard && (range.flags & kRangeUnmap) != 0;
  Submit(slot,
         discard ? block::Operation::kDiscard : block::Operation::kWriteZeroes,
         range.sector * kSectorBytes,
         uint64_t{range.num_sectors} * kSectorBytes);
  return true;
}

// §5.2.6.2: the serial, padded with NUL.
void Device::GetId(Slot* slot) {
  std::array<char, kIdBytes> id = {};
  std::copy_n(options_.serial.begin(),
              std::min(options_.serial.size(), kIdBytes), id.begin());
  if (slot->chain.writable_bytes < kIdBytes) {
    Refuse(slot, kStatusIoError);
    return;
  }
  size_t done = 0;
  for (const iovec& segment : slot->chain.writable()) {
    const size_t n = std::min(segment.iov_len, kIdBytes - done);
    std::memcpy(segment.iov_base, id.data() + done, n);
    done += n;
  }
  slot->written_bytes = kIdBytes;
  Finish(slot, kStatusOk);
}

void Device::Submit(Slot* slot, block::Operation operation,
                    uint64_t offset_bytes, uint64_t length_bytes) {
  block::Request& request = slot->request;
  request.operation = operation;
  request.offset_bytes = offset_bytes;
  request.length_bytes = length_bytes;
  if (operation == block::Operation::kFlush) request.segment_count = 0;
  slot->group->backend->Submit(&request);
}

void Device::OnDone(block::Request* request) {
  Slot* slot = static_cast<Slot*>(request->owner);
  Device* self = slot->device;
  if (request->status != block::IoStatus::kOk) {
    ++slot->group->failed_requests;
    slot->written_bytes = 0;
    self->Finish(slot, kStatusIoError);
    return;
  }
  const bool ranges =
      slot->type == kTypeDiscard || slot->type == kTypeWriteZeroes;
  if (ranges && self->NextRange(slot)) return;
  self->Finish(slot, kStatusOk);
}

void Device::Refuse(Slot* slot, uint8_t status) {
  ++slot->group->refused_requests;
  Finish(slot, status);
}

void Device::Finish(Slot* slot, uint8_t status) {
  --slot->group->in_flight;
  --per_queue_[slot->queue];
  if (slot->status != nullptr && Alive(slot->queue)) {
    *slot->status = status;
    Complete(slot->queue, slot->chain.ticket, slot->written_bytes + 1);
  }
  slot->next = slot->group->free;
  slot->group->free = slot;
}

}  // namespace bulkhead::virtio_blk
