// Writing: in place, or to new clusters.

#include <string.h>

#include <algorithm>

#include "services/block/qcow2/engine.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

void CopyIn(SegmentCursor cursor, uint8_t* to, uint64_t bytes) {
  while (bytes > 0) {
    iovec piece;
    uint64_t length = 0;
    if (cursor.Peek(&piece, 1, bytes, &length) == 0) return;
    memcpy(to, piece.iov_base, length);
    cursor.Skip(length);
    to += length;
    bytes -= length;
  }
}

}  // namespace

Engine::Next Engine::WriteStep(Op* op) {
  Transfer& data = op->data;
  if (data.offset == data.end) {
    op->step = op->after_write;
    return Next::kGoOn;
  }
  if ((active().l1_entry(active().L1Index(data.offset)) & kCopied) == 0) {
    return EnsureTable(op, &Engine::WriteStep);
  }
  L2Slice* slice;
  if (GetSlice(op, 0, data.offset, &slice) == Next::kWait) return Next::kWait;
  const Extent extent =
      active().Map(*slice, data.offset, data.end - data.offset);
  if (extent.kind == Extent::Kind::kInvalid) {
    return Fail(op, IoStatus::kCorrupt);
  }
  if (extent.kind == Extent::Kind::kData && extent.copied) {
    PrepareWork(op, FileOperation::kWrite, 0, extent.host_offset, &data,
                extent.length_bytes);
    return StartFile(op, &Engine::AfterWriteInPlace);
  }
  if (active().header().extended_l2()) return AllocateExtended(op, slice);
  return Allocate(op, slice, extent);
}

Engine::Next Engine::AfterWriteInPlace(Op* op) {
  dirty_ = true;
  if (op->work.error != 0) return Fail(op, StatusOfErrno(op->work.error));
  op->data.offset += op->moving_bytes;
  op->data.cursor.Skip(op->moving_bytes);
  op->step = &Engine::WriteStep;
  return Next::kGoOn;
}

// ---- New clusters

// Nothing of the old contents is needed but zeroes.
bool Engine::ReadsZero(const Extent& extent, uint64_t offset) const {
  switch (extent.kind) {
    case Extent::Kind::kZero:
    case Extent::Kind::kZeroAllocated:
      return true;
    case Extent::Kind::kUnallocated:
      return layers_.size() == 1 ||
             offset / cluster_bytes_ * cluster_bytes_ >= layers_[1].size_bytes;
    default:
      return false;
  }
}

void Engine::HoldClusters(Op* op, L2Slice* slice, uint64_t first,
                          uint64_t count) {
  op->slice = slice;
  ++slice->pins;
  Lock(op, first, count);
}

// Everything that an op may hold beyond its step.
void Engine::LetGo(Op* op) {
  if (op->slice != nullptr) {
    --op->slice->pins;
    op->slice = nullptr;
    Resume(&room_waiters_);
  }
  if (op->bounce != nullptr) {
    free_bounces_.push_back(op->bounce);
    op->bounce = nullptr;
    Resume(&room_waiters_);
  }
  op->new_clusters = 0;
  op->fresh = false;
  op->subclusters = 0;
  Unlock(op);
}

Engine::Next Engine::Allocate(Op* op, L2Slice* slice, const Extent& extent) {
  const uint64_t in_cluster = op->data.offset % cluster_bytes_;
  const uint64_t first = op->data.offset / cluster_bytes_;
  const bool kept =
      extent.kind == Extent::Kind::kZeroAllocated && extent.copied;
  uint64_t clusters =
      (in_cluster + extent.length_bytes + cluster_bytes_ - 1) / cluster_bytes_;
  clusters = UnlockedPrefix(first, clusters);
  if (clusters == 0) return WaitIn(&lock_waiters_, op);
  if (kept) return AllocateCopying(op, slice, extent);
  if (reserve_.clusters() == 0) return WaitForClusters(op);
  if (ReadsZero(extent, op->data.offset) && reserve_.next_reads_zero()) {
    return AllocatePlain(op, slice, clusters, /*deferred=*/false);
  }
  const uint64_t whole =
      in_cluster == 0 ? std::min(clusters, extent.length_bytes / cluster_bytes_)
                      : 0;
  if (whole > 0) return AllocatePlain(op, slice, whole, /*deferred=*/true);
  return AllocateCopying(op, slice, extent);
}

// The guest's data is all that is written.
Engine::Next Engine::AllocatePlain(Op* op, L2Slice* slice, uint64_t clusters,
                                   bool deferred) {
  const uint64_t in_cluster = op->data.offset % cluster_bytes_;
  const FreeRun run = reserve_.Take(clusters);
  HoldClusters(op, slice, op->data.offset / cluster_bytes_, run.count);
  op->host_offset = run.first * cluster_bytes_;
  op->new_clusters = run.count;
  op->fresh = true;
  op->deferred = deferred;
  const uint64_t bytes = std::min(op->data.end - op->data.offset,
                                  run.count * cluster_bytes_ - in_cluster);
  PrepareWork(op, FileOperation::kWrite, 0, op->host_offset + in_cluster,
              &op->data, bytes);
  return StartFile(op, &Engine::AllocatedWritten);
}

// One cluster, of which the guest writes a part: the rest is what was there.
Engine::Next Engine::AllocateCopying(Op* op, L2Slice* slice,
                                     const Extent& extent) {
  if (free_bounces_.empty()) return WaitIn(&room_waiters_, op);
  const uint64_t start = op->data.offset / cluster_bytes_ * cluster_bytes_;
  const bool kept =
      extent.kind == Extent::Kind::kZeroAllocated && extent.copied;
  HoldClusters(op, slice, start / cluster_bytes_, 1);
  op->fresh = !kept;
  op->host_offset = kept ? extent.host_offset / cluster_bytes_ * cluster_bytes_
                         : reserve_.Take(1).first * cluster_bytes_;
  op->new_clusters = 1;
  // What is in the cluster now must not be seen before all of it is there.
  op->deferred = true;
  return StartCopy(op, 0, cluster_bytes_);
}

Engine::Next Engine::StartCopy(Op* op, uint64_t from, uint64_t bytes) {
  op->bounce = free_bounces_.back();
  free_bounces_.pop_back();
  op->copy_from = from;
  op->copy_bytes = bytes;
  const uint64_t start =
      op->data.offset / cluster_bytes_ * cluster_bytes_ + from;
  // Of the last cluster there is only a part on the disk.
  const uint64_t size = layers_[0].size_bytes;
  const uint64_t there = std::min(bytes, size > start ? size - start : 0);
  memset(op->bounce + there, 0, bytes - there);
  op->copy_segment = {op->bounce, there};
  op->copy = {start, start + there, SegmentCursor(&op->copy_segment, 1)};
  op->reading = &op->copy;
  op->after_read = &Engine::CopyRead;
  op->step = &Engine::ReadStep;
  return Next::kGoOn;
}

Engine::Next Engine::CopyRead(Op* op) {
  const uint64_t at = op->data.offset % cluster_bytes_ - op->copy_from;
  const uint64_t bytes =
      std::min(op->data.end - op->data.offset, op->copy_bytes - at);
  CopyIn(op->data.cursor, op->bounce + at, bytes);
  PrepareBuffer(op, FileOperation::kWrite, op->host_offset + op->copy_from,
                op->bounce, op->copy_bytes);
  op->moving_bytes = bytes;
  return StartFile(op, &Engine::AllocatedWritten);
}

Engine::Next Engine::AllocatedWritten(Op* op) {
  dirty_ = true;
  if (op->work.error != 0) return Fail(op, StatusOfErrno(op->work.error));
  op->step = &Engine::PublishStep;
  return Next::kGoOn;
}

Engine::Next Engine::PublishStep(Op* op) {
  const uint64_t count = op->new_clusters;
  if (!HasRoom(count, count)) {
    Renumber(op);
    return WaitIn(&space_waiters_, op);
  }
  const uint64_t offset = op->lock_first * cluster_bytes_;
  const size_t index = active().IndexInSlice(offset);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t host = op->host_offset + i * cluster_bytes_;
    if (op->fresh) {
      ReleaseOld(active().MapCluster(*op->slice, offset + i * cluster_bytes_));
    }
    uint64_t bitmap = kAllSubclustersAllocated;
    if (op->subclusters != 0) {
      const uint64_t now = op->subclusters;
      bitmap = active().EntryBitmap(*op->slice, index + i);
      bitmap = (bitmap & ~(now << kSubclusters)) | now;
    }
    active().SetEntry(op->slice, index + i, host | kCopied, bitmap);
  }
  return WriteEntries(op, index, count, &Engine::FinishAllocation);
}

Engine::Next Engine::FinishAllocation(Op* op) {
  LetGo(op);
  op->data.offset += op->moving_bytes;
  op->data.cursor.Skip(op->moving_bytes);
  op->step = &Engine::WriteStep;
  return Next::kGoOn;
}

}  // namespace bulkhead::block::qcow2
