#include "services/block/qcow2/inflated_cache.h"

#include <errno.h>

#include <algorithm>

#include "services/block/qcow2/format.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kMinSlots = 2;
constexpr size_t kMaxSlots = 256;

}  // namespace

InflatedCache::InflatedCache(size_t cluster_bytes, size_t cache_bytes,
                             bool with_zstd)
    : slots_(std::clamp(cache_bytes / cluster_bytes, kMinSlots, kMaxSlots)) {
  memory_.reset(new uint8_t[cluster_bytes * slots_.size()]);
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].bytes = &memory_[i * cluster_bytes];
  }
  for (Filler& filler : fillers_) {
    // The sectors of a descriptor may be a little more than two clusters.
    filler.compressed.reset(
        new uint8_t[cluster_bytes * 2 + kCompressedSectorBytes]);
    filler.inflaters[kZlib] = Inflater::Create(kZlib);
    if (with_zstd) filler.inflaters[kZstd] = Inflater::Create(kZstd);
  }
}

InflatedSlot* InflatedCache::Find(size_t layer, uint64_t host_offset) {
  for (InflatedSlot& slot : slots_) {
    if (slot.state != InflatedSlot::State::kEmpty && slot.layer == layer &&
        slot.host_offset == host_offset) {
      slot.last_use = ++use_;
      return &slot;
    }
  }
  return nullptr;
}

InflatedSlot* InflatedCache::Take(size_t layer, uint64_t host_offset) {
  InflatedSlot* best = nullptr;
  for (InflatedSlot& slot : slots_) {
    if (slot.state == InflatedSlot::State::kFilling) continue;
    if (best == nullptr || slot.last_use < best->last_use) best = &slot;
  }
  Filler* filler = nullptr;
  for (Filler& candidate : fillers_) {
    if (!candidate.busy) filler = &candidate;
  }
  if (best == nullptr || filler == nullptr) return nullptr;
  filler->busy = true;
  best->filler = filler;
  best->state = InflatedSlot::State::kFilling;
  best->layer = layer;
  best->host_offset = host_offset;
  best->last_use = ++use_;
  best->waiters = nullptr;
  return best;
}

void InflatedCache::Filled(InflatedSlot* slot) {
  slot->filler->busy = false;
  slot->filler = nullptr;
  slot->state = slot->error == 0 ? InflatedSlot::State::kReady
                                 : InflatedSlot::State::kEmpty;
}

void InflatedCache::Forget(size_t layer, uint64_t host_offset) {
  InflatedSlot* slot = Find(layer, host_offset);
  if (slot != nullptr && slot->state == InflatedSlot::State::kReady) {
    slot->state = InflatedSlot::State::kEmpty;
    slot->last_use = 0;
  }
}

void InflatedCache::Fill(Work* work) {
  auto* slot = static_cast<InflatedSlot*>(work);
  slot->error = ReadBytes(*slot->file, slot->filler->compressed.get(),
                          slot->compressed_bytes, slot->host_offset,
                          BeyondEnd::kReadsZeroes);
  if (slot->error != 0) return;
  Inflater* inflater = slot->filler->inflaters[slot->type].get();
  if (inflater == nullptr ||
      !inflater->Inflate(
          {slot->filler->compressed.get(), slot->compressed_bytes},
          {slot->bytes, slot->cluster_bytes})) {
    slot->error = -EBADMSG;
  }
}

}  // namespace bulkhead::block::qcow2
