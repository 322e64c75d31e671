// Discarding and writing zeroes: a matter of L2 entries, but for the edges.

#include <algorithm>

#include "services/block/qcow2/engine.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr size_t kZeroSegmentBytes = 64 << 10;
alignas(4096) const uint8_t kZeroes[kZeroSegmentBytes] = {};
// Entries changed in one step.
constexpr uint64_t kClustersPerStep = 256;

}  // namespace

Engine::Next Engine::ZeroStep(Op* op) {
  Transfer& data = op->data;
  if (data.offset == data.end) return CompleteData(op);
  const uint64_t in_cluster = data.offset % cluster_bytes_;
  const uint64_t left = data.end - data.offset;
  const bool to_the_end = data.end == geometry_.capacity_bytes;
  if (in_cluster != 0 || (left < cluster_bytes_ && !to_the_end)) {
    return ZeroPart(op);
  }
  const uint64_t entry = active().l1_entry(active().L1Index(data.offset));
  if (entry == 0) return ZeroWithoutTable(op);
  if ((entry & kCopied) == 0) return EnsureTable(op, &Engine::ZeroStep);
  L2Slice* slice;
  if (GetSlice(op, 0, data.offset, &slice) == Next::kWait) return Next::kWait;
  uint64_t clusters = left / cluster_bytes_;
  if (to_the_end && left % cluster_bytes_ != 0) ++clusters;
  clusters = std::min(
      {clusters, kClustersPerStep,
       active().entries_per_slice() - active().IndexInSlice(data.offset)});
  clusters = UnlockedPrefix(data.offset / cluster_bytes_, clusters);
  if (clusters == 0) return WaitIn(&lock_waiters_, op);
  if (!HasRoom(clusters, clusters)) {
    Renumber(op);
    return WaitIn(&space_waiters_, op);
  }
  return ZeroClusters(op, slice, clusters);
}

// Less than a cluster: whole subclusters where there are such.
Engine::Next Engine::ZeroPart(Op* op) {
  Transfer& data = op->data;
  const uint64_t unit = active().header().subcluster_bytes();
  const uint64_t in_cluster = data.offset % cluster_bytes_;
  const uint64_t here =
      std::min(data.end - data.offset, cluster_bytes_ - in_cluster);
  if (unit < cluster_bytes_ && in_cluster % unit == 0 && here >= unit) {
    return ZeroSubclusters(op, here / unit * unit);
  }
  const uint64_t bytes = std::min(here, unit - in_cluster % unit);
  if (op->request->operation != Operation::kDiscard) {
    return ZeroByWriting(op, bytes);
  }
  data.offset += bytes;
  return Next::kGoOn;
}

Engine::Next Engine::ZeroWithoutTable(Op* op) {
  Transfer& data = op->data;
  const Extent unallocated = {.kind = Extent::Kind::kUnallocated};
  const uint64_t bytes =
      std::min(data.end - data.offset, active().BytesToEndOfTable(data.offset));
  if (op->request->operation == Operation::kDiscard ||
      ReadsZero(unallocated, data.offset)) {
    data.offset += bytes;
    return Yield(op);
  }
  if (active().header().version < 3) {
    return ZeroByWriting(op, std::min(bytes, cluster_bytes_));
  }
  return EnsureTable(op, &Engine::ZeroStep);
}

Engine::ZeroChange Engine::ChangeForZero(const Request& request,
                                         const Extent& extent, uint64_t offset,
                                         uint64_t* entry) const {
  const bool discard = request.operation == Operation::kDiscard;
  const bool keep = !discard && !request.may_unmap;
  const Extent unallocated = {.kind = Extent::Kind::kUnallocated};
  switch (extent.kind) {
    case Extent::Kind::kInvalid:
      return ZeroChange::kInvalid;
    case Extent::Kind::kZero:
      return ZeroChange::kNone;
    case Extent::Kind::kUnallocated:
      if (discard || ReadsZero(extent, offset)) return ZeroChange::kNone;
      break;
    case Extent::Kind::kZeroAllocated:
      if (keep) return ZeroChange::kNone;
      break;
    default:
      break;
  }
  if (layers_[0].image->header().version < 3) {
    if (ReadsZero(unallocated, offset)) {
      *entry = 0;
      return ZeroChange::kEntry;
    }
    return discard ? ZeroChange::kNone : ZeroChange::kWrite;
  }
  *entry = kZeroFlag;
  if (keep && extent.kind == Extent::Kind::kData && extent.copied) {
    *entry |= extent.host_offset | kCopied;
  }
  return ZeroChange::kEntry;
}

Engine::Next Engine::ZeroClusters(Op* op, L2Slice* slice, uint64_t clusters) {
  Transfer& data = op->data;
  const size_t index = active().IndexInSlice(data.offset);
  size_t first_changed = 0;
  size_t end_changed = 0;
  uint64_t done = 0;
  for (; done < clusters; ++done) {
    const uint64_t offset = data.offset + done * cluster_bytes_;
    const Extent extent = active().MapCluster(*slice, offset);
    uint64_t entry = 0;
    const ZeroChange change =
        ChangeForZero(*op->request, extent, offset, &entry);
    if (change == ZeroChange::kNone) continue;
    if (change != ZeroChange::kEntry) {
      if (done > 0) break;
      if (change == ZeroChange::kInvalid) return Fail(op, IoStatus::kCorrupt);
      return ZeroByWriting(op,
                           std::min(data.end - data.offset, cluster_bytes_));
    }
    if ((entry & kOffsetMask) == 0) ReleaseOld(extent);
    if (active().header().extended_l2()) entry &= ~kZeroFlag;
    active().SetEntry(slice, index + done, entry, kAllSubclustersZero);
    if (end_changed == 0) first_changed = done;
    end_changed = done + 1;
  }
  op->moving_bytes = std::min(data.end - data.offset, done * cluster_bytes_);
  if (end_changed == 0) {
    data.offset += op->moving_bytes;
    return Yield(op);
  }
  HoldClusters(op, slice, data.offset / cluster_bytes_, done);
  op->deferred = false;
  return WriteEntries(op, index + first_changed, end_changed - first_changed,
                      &Engine::ZeroesPublished);
}

Engine::Next Engine::ZeroesPublished(Op* op) {
  LetGo(op);
  op->data.offset += op->moving_bytes;
  Renumber(op);
  op->step = &Engine::ZeroStep;
  return Yield(op);
}

// Part of a cluster, or one that has no other way to say zero.
Engine::Next Engine::ZeroByWriting(Op* op, uint64_t bytes) {
  Transfer& data = op->data;
  Extent extent = {.kind = Extent::Kind::kUnallocated};
  if (active().l1_entry(active().L1Index(data.offset)) != 0) {
    L2Slice* slice;
    if (GetSlice(op, 0, data.offset, &slice) == Next::kWait) {
      return Next::kWait;
    }
    extent = active().Map(*slice, data.offset, bytes);
    if (extent.kind != Extent::Kind::kInvalid) {
      bytes = std::min(bytes, extent.length_bytes);
    }
  }
  if (ReadsZero(extent, data.offset)) {
    data.offset += bytes;
    return Next::kGoOn;
  }
  op->zeroes_end = data.end;
  data.end = data.offset + bytes;
  size_t count = 0;
  for (uint64_t done = 0; done < bytes; done += kZeroSegmentBytes) {
    op->zero_segments[count++] = {
        const_cast<uint8_t*>(kZeroes),
        std::min<uint64_t>(kZeroSegmentBytes, bytes - done)};
  }
  data.cursor = SegmentCursor(op->zero_segments.data(), count);
  op->after_write = &Engine::ZeroPartWritten;
  op->step = &Engine::WriteStep;
  return Next::kGoOn;
}

Engine::Next Engine::ZeroPartWritten(Op* op) {
  op->data.end = op->zeroes_end;
  op->step = &Engine::ZeroStep;
  return Next::kGoOn;
}

}  // namespace bulkhead::block::qcow2
