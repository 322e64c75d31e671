// Writing where L2 entries are extended: a cluster of 32 subclusters, each
// allocated, zero, or the backing file's.
//
// A cluster that read as zeroes is allocated as a whole, as without extended
// entries. Where a backing file shines through, only the subclusters that a
// write touches are filled; the entry's two words, in one sector, are
// published together once the data is on stable storage.

#include <algorithm>

#include "services/block/qcow2/engine.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

// Bits [from, to) of the lower word's half.
uint32_t MaskOf(uint64_t from, uint64_t to) {
  const uint64_t below_to = (uint64_t{1} << to) - 1;
  const uint64_t below_from = (uint64_t{1} << from) - 1;
  return static_cast<uint32_t>(below_to & ~below_from);
}

bool IsOwned(const Extent& cluster) {
  return cluster.copied && (cluster.kind == Extent::Kind::kData ||
                            cluster.kind == Extent::Kind::kZeroAllocated);
}

}  // namespace

// How many of `wanted` clusters, from the one at `offset` on, can be replaced
// as a whole: those that read as zeroes, or (`any`) whatever they hold.
uint64_t Engine::ReplaceableClusters(const L2Slice& slice, uint64_t offset,
                                     uint64_t wanted, bool any) const {
  const Image& image = *layers_[0].image;
  const uint64_t start = offset / cluster_bytes_ * cluster_bytes_;
  wanted = std::min<uint64_t>(
      wanted, image.entries_per_slice() - image.IndexInSlice(start));
  for (uint64_t i = 0; i < wanted; ++i) {
    const uint64_t at = start + i * cluster_bytes_;
    const Extent cluster = image.MapCluster(slice, at);
    if (cluster.kind == Extent::Kind::kInvalid || IsOwned(cluster) ||
        !(any || ReadsZero(cluster, at))) {
      return i;
    }
  }
  return wanted;
}

Engine::Next Engine::AllocateExtended(Op* op, L2Slice* slice) {
  const uint64_t offset = op->data.offset;
  const uint64_t in_cluster = offset % cluster_bytes_;
  const uint64_t left = op->data.end - offset;
  const uint64_t touched =
      UnlockedPrefix(offset / cluster_bytes_,
                     (in_cluster + left + cluster_bytes_ - 1) / cluster_bytes_);
  if (touched == 0) return WaitIn(&lock_waiters_, op);
  const Extent cluster = active().MapCluster(*slice, offset);
  if (cluster.kind == Extent::Kind::kInvalid) {
    return Fail(op, IoStatus::kCorrupt);
  }
  if (IsOwned(cluster)) return AllocateInCluster(op, slice, cluster);
  if (reserve_.clusters() == 0) return WaitForClusters(op);
  const uint64_t zero =
      reserve_.next_reads_zero()
          ? ReplaceableClusters(*slice, offset, touched, /*any=*/false)
          : 0;
  if (zero > 0) return AllocatePlain(op, slice, zero, /*deferred=*/false);
  const uint64_t covered =
      in_cluster == 0 ? std::min(touched, left / cluster_bytes_) : 0;
  const uint64_t whole =
      ReplaceableClusters(*slice, offset, covered, /*any=*/true);
  if (whole > 0) return AllocatePlain(op, slice, whole, /*deferred=*/true);
  // A shared or compressed cluster: all of it moves to the new one.
  if (cluster.host_offset != 0) {
    return AllocateCopying(op, slice, cluster);
  }
  const uint64_t subcluster = active().header().subcluster_bytes();
  const uint64_t from = in_cluster / subcluster;
  const uint64_t end = std::min(in_cluster + left, cluster_bytes_);
  const uint64_t to = (end + subcluster - 1) / subcluster;
  if (in_cluster % subcluster != 0 || end % subcluster != 0) {
    if (free_bounces_.empty()) return WaitIn(&room_waiters_, op);
    HoldNewCluster(op, slice);
    return CopySubclusters(op, from, to);
  }
  HoldNewCluster(op, slice);
  return WriteSubclusters(op, from, to);
}

void Engine::HoldNewCluster(Op* op, L2Slice* slice) {
  HoldClusters(op, slice, op->data.offset / cluster_bytes_, 1);
  op->host_offset = reserve_.Take(1).first * cluster_bytes_;
  op->new_clusters = 1;
  op->fresh = true;
}

// Subclusters that the cluster at hand has no data in yet.
Engine::Next Engine::AllocateInCluster(Op* op, L2Slice* slice,
                                       const Extent& cluster) {
  const uint64_t subcluster = active().header().subcluster_bytes();
  const uint64_t in_cluster = op->data.offset % cluster_bytes_;
  const Extent run = active().Map(
      *slice, op->data.offset,
      std::min(op->data.end - op->data.offset, cluster_bytes_ - in_cluster));
  const uint64_t from = in_cluster / subcluster;
  const uint64_t whole = run.length_bytes / subcluster;
  const bool aligned = in_cluster % subcluster == 0 && whole > 0;
  if (!aligned && free_bounces_.empty()) return WaitIn(&room_waiters_, op);
  HoldClusters(op, slice, op->data.offset / cluster_bytes_, 1);
  op->host_offset = cluster.host_offset;
  op->new_clusters = 1;
  op->fresh = false;
  return aligned ? WriteSubclusters(op, from, from + whole)
                 : CopySubclusters(op, from, from + 1);
}

// The guest's data fills [from, to).
Engine::Next Engine::WriteSubclusters(Op* op, uint64_t from, uint64_t to) {
  const uint64_t subcluster = active().header().subcluster_bytes();
  op->deferred = true;
  op->subclusters = MaskOf(from, to);
  PrepareWork(op, FileOperation::kWrite, 0, op->host_offset + from * subcluster,
              &op->data, (to - from) * subcluster);
  return StartFile(op, &Engine::AllocatedWritten);
}

// The guest's data and what was there before fill [from, to).
Engine::Next Engine::CopySubclusters(Op* op, uint64_t from, uint64_t to) {
  const uint64_t subcluster = active().header().subcluster_bytes();
  op->deferred = true;
  op->subclusters = MaskOf(from, to);
  return StartCopy(op, from * subcluster, (to - from) * subcluster);
}

// ---- Zeroes

// [offset, offset + bytes) is whole subclusters of one cluster.
Engine::Next Engine::ZeroSubclusters(Op* op, uint64_t bytes) {
  Transfer& data = op->data;
  const bool discard = op->request->operation == Operation::kDiscard;
  const Extent unallocated = {.kind = Extent::Kind::kUnallocated};
  const bool reads_zero = ReadsZero(unallocated, data.offset);
  const uint64_t l1 = active().l1_entry(active().L1Index(data.offset));
  if (l1 == 0 && (discard || reads_zero)) {
    data.offset += bytes;
    return Yield(op);
  }
  if ((l1 & kCopied) == 0) return EnsureTable(op, &Engine::ZeroStep);
  L2Slice* slice;
  if (GetSlice(op, 0, data.offset, &slice) == Next::kWait) return Next::kWait;
  const uint64_t first = data.offset / cluster_bytes_;
  if (UnlockedPrefix(first, 1) == 0) return WaitIn(&lock_waiters_, op);
  if (!HasRoom(1, 1)) {
    Renumber(op);
    return WaitIn(&space_waiters_, op);
  }
  const Extent cluster = active().MapCluster(*slice, data.offset);
  if (cluster.kind == Extent::Kind::kInvalid) {
    return Fail(op, IoStatus::kCorrupt);
  }
  if (cluster.kind == Extent::Kind::kCompressed) {
    if (!discard) return ZeroByWriting(op, bytes);
    data.offset += bytes;
    return Yield(op);
  }
  const uint64_t subcluster = active().header().subcluster_bytes();
  const uint64_t from = data.offset % cluster_bytes_ / subcluster;
  const size_t index = active().IndexInSlice(data.offset);
  const uint64_t bitmap = active().EntryBitmap(*slice, index);
  uint64_t zero = MaskOf(from, from + bytes / subcluster);
  if (discard || reads_zero) zero &= bitmap;
  op->moving_bytes = bytes;
  if (zero == 0) {
    data.offset += bytes;
    return Yield(op);
  }
  const uint64_t changed = (bitmap & ~zero) | zero << kSubclusters;
  uint64_t entry = active().Entry(*slice, index);
  const bool may_free = discard || op->request->may_unmap;
  if (may_free && cluster.host_offset != 0 &&
      (changed & kAllSubclustersAllocated) == 0) {
    ReleaseOld(cluster);
    entry = 0;
  }
  active().SetEntry(slice, index, entry, changed);
  HoldClusters(op, slice, first, 1);
  op->deferred = false;
  return WriteEntries(op, index, 1, &Engine::ZeroesPublished);
}

}  // namespace bulkhead::block::qcow2
