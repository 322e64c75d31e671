#include "services/block/qcow2/decoded_cache.h"

#include <errno.h>

#include <algorithm>

#include "services/block/qcow2/format.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMinSlots = 2;
constexpr size_t kMaxSlots = 256;
constexpr size_t kFillers = 4;
// Where a cluster has a megabyte, so has every buffer of libqcow's.
constexpr size_t kLargeCluster = 1 << 20;
constexpr size_t kFillersOfLarge = 2;

size_t LargestCluster(const std::vector<const Coding*>& codings) {
  size_t largest = 512;
  for (const Coding* coding : codings) {
    largest = std::max(largest, size_t{1} << coding->cluster_bits);
  }
  return largest;
}

}  // namespace

DecodedCache::DecodedCache(const std::vector<const Coding*>& codings,
                           size_t cache_bytes, bool with_zstd) {
  const size_t cluster_bytes = LargestCluster(codings);
  slots_ = std::vector<DecodedSlot>(
      std::clamp(cache_bytes / cluster_bytes, kMinSlots, kMaxSlots));
  memory_.reset(new uint8_t[cluster_bytes * slots_.size()]);
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].bytes = &memory_[i * cluster_bytes];
    slots_[i].cache = this;
  }
  size_t memory = 0;
  for (const Coding* coding : codings) {
    memory = std::max(memory, Decoder::MemoryFor(*coding));
  }
  fillers_ = std::vector<Filler>(
      cluster_bytes >= kLargeCluster ? kFillersOfLarge : kFillers);
  for (Filler& filler : fillers_) {
    filler.decoder = std::make_unique<Decoder>(memory);
    for (const Coding* coding : codings) {
      if (coding->encrypted && filler.decoder->Prepare(*coding)) break;
    }
    if (!with_zstd) continue;
    filler.zstd = Inflater::CreateZstd();
    // The sectors of a descriptor may be a little more than two clusters.
    filler.compressed.reset(
        new uint8_t[cluster_bytes * 2 + kCompressedSectorBytes]);
  }
}

DecodedSlot* DecodedCache::Find(const CodedCluster& cluster) {
  for (DecodedSlot& slot : slots_) {
    if (slot.state != DecodedSlot::State::kEmpty &&
        slot.cluster.IsSameAs(cluster)) {
      slot.last_use = ++use_;
      return &slot;
    }
  }
  return nullptr;
}

DecodedSlot* DecodedCache::Take(const CodedCluster& cluster) {
  DecodedSlot* best = nullptr;
  for (DecodedSlot& slot : slots_) {
    if (slot.state == DecodedSlot::State::kFilling) continue;
    if (best == nullptr || slot.last_use < best->last_use) best = &slot;
  }
  if (best == nullptr) return nullptr;
  best->state = DecodedSlot::State::kFilling;
  best->cluster = cluster;
  best->last_use = ++use_;
  best->waiters = nullptr;
  return best;
}

void DecodedCache::Filled(DecodedSlot* slot) {
  slot->state = slot->error == 0 ? DecodedSlot::State::kReady
                                 : DecodedSlot::State::kEmpty;
}

void DecodedCache::Forget(const Coding* coding, uint64_t host_offset) {
  for (DecodedSlot& slot : slots_) {
    if (slot.state == DecodedSlot::State::kReady &&
        slot.cluster.coding == coding &&
        slot.cluster.host_offset == host_offset) {
      slot.state = DecodedSlot::State::kEmpty;
      slot.last_use = 0;
    }
  }
}

Filler* DecodedCache::AcquireFiller(const Coding* coding) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    Filler* found = nullptr;
    for (Filler& filler : fillers_) {
      if (filler.busy) continue;
      found = &filler;
      // One that need not be opened anew.
      if (filler.decoder->coding() == coding) break;
    }
    if (found != nullptr) {
      found->busy = true;
      return found;
    }
    filler_freed_.wait(lock);
  }
}

void DecodedCache::ReleaseFiller(Filler* filler) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    filler->busy = false;
  }
  filler_freed_.notify_one();
}

void DecodedCache::Fill(Work* work) {
  auto* slot = static_cast<DecodedSlot*>(work);
  DecodedCache* cache = slot->cache;
  Filler* filler = cache->AcquireFiller(slot->cluster.coding);
  slot->error = FillWith(filler, *slot);
  cache->ReleaseFiller(filler);
}

int DecodedCache::FillWith(Filler* filler, const DecodedSlot& slot) {
  const CodedCluster& cluster = slot.cluster;
  switch (cluster.code) {
    case Code::kZlib:
      return filler->decoder->Inflate(*cluster.coding, *cluster.file,
                                      cluster.host_offset, cluster.coded_bytes,
                                      slot.bytes);
    case Code::kAes:
      return filler->decoder->Decrypt(*cluster.coding, *cluster.file,
                                      cluster.host_offset, cluster.disk_offset,
                                      slot.bytes);
    case Code::kZstd:
      break;
  }
  const int error =
      ReadBytes(*cluster.file, filler->compressed.get(), cluster.coded_bytes,
                cluster.host_offset, BeyondEnd::kReadsZeroes);
  if (error != 0) return error;
  const bool whole =
      filler->zstd != nullptr &&
      filler->zstd->Inflate(
          {filler->compressed.get(), cluster.coded_bytes},
          {slot.bytes, size_t{1} << cluster.coding->cluster_bits});
  return whole ? 0 : -EBADMSG;
}

}  // namespace bulkhead::block::qcow2
