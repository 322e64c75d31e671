#include "bench/virtio_target.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "services/virtio_blk/spec.h"

namespace bulkhead::bench {
namespace {

constexpr uint64_t kHeadersAt = 0x200000;
constexpr uint64_t kStatusesAt = 0x210000;
constexpr uint64_t kDataAt = 0x1000000;

}  // namespace

VirtioTarget::VirtioTarget(uint8_t* ram, bool packed, unsigned queues,
                           uint64_t capacity_bytes, pid_t server,
                           std::function<void(unsigned)> kick,
                           std::function<void()> wait)
    : ram_(ram),
      capacity_bytes_(capacity_bytes),
      server_(server),
      kick_(std::move(kick)),
      wait_(std::move(wait)) {
  for (unsigned i = 0; i < queues; ++i) {
    queues_.emplace_back(virtio::DriverQueue::Options{
        .ram = ram,
        .at = kRingAt + i * virtio::DriverQueue::kAreaBytes,
        .size = 256,
        .packed = packed,
        .event_index = true,
        .indirect = true});
  }
  // The pages are there before anything is measured.
  std::memset(ram + kDataAt, 0xa5, uint64_t{kMaxDepth} * kMaxBytes);
}

void VirtioTarget::Add(unsigned slot, bool write, uint64_t offset_bytes,
                       uint32_t bytes) {
  const virtio_blk::RequestHeader header = {
      write ? virtio_blk::kTypeOut : virtio_blk::kTypeIn, 0u,
      offset_bytes / virtio_blk::kSectorBytes};
  std::memcpy(ram_ + kHeadersAt + slot * 16, &header, sizeof header);
  const virtio::Buffer buffers[] = {
      {kHeadersAt + slot * 16, 16, false},
      {kDataAt + uint64_t{slot} * kMaxBytes, bytes, !write},
      {kStatusesAt + slot, 1, true}};
  ram_[kStatusesAt + slot] = 0xee;
  if (!queues_[slot % queues_.size()].Add(buffers, slot)) {
    fprintf(stderr, "the ring is full\n");
    exit(1);
  }
}

void VirtioTarget::Publish() {
  for (unsigned i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].Publish()) continue;
    ++kicks_;
    kick_(i);
  }
}

bool VirtioTarget::Take(unsigned* slot) {
  uint32_t token;
  uint32_t written;
  size_t tries = 0;
  while (!queues_[next_].Take(&token, &written)) {
    next_ = next_ + 1 == queues_.size() ? 0 : next_ + 1;
    if (++tries == queues_.size()) return false;
  }
  *slot = token;
  if (ram_[kStatusesAt + token] != virtio_blk::kStatusOk) {
    fprintf(stderr, "a request failed: status %d\n", ram_[kStatusesAt + token]);
    exit(1);
  }
  return true;
}

void VirtioTarget::Wait() {
  bool used = false;
  for (virtio::DriverQueue& queue : queues_) used |= queue.EnableInterrupts();
  if (!used) wait_();
  for (virtio::DriverQueue& queue : queues_) queue.DisableInterrupts();
}

}  // namespace bulkhead::bench
