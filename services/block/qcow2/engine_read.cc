// Reading: through the layers to the one that has the data.

#include <string.h>

#include <algorithm>

#include "services/block/qcow2/engine.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

void CopyOut(SegmentCursor cursor, const uint8_t* from, uint64_t bytes) {
  while (bytes > 0) {
    iovec piece;
    uint64_t length = 0;
    if (cursor.Peek(&piece, 1, bytes, &length) == 0) return;
    memcpy(piece.iov_base, from, length);
    cursor.Skip(length);
    from += length;
    bytes -= length;
  }
}

void ZeroOut(SegmentCursor cursor, uint64_t bytes) {
  while (bytes > 0) {
    iovec piece;
    uint64_t length = 0;
    if (cursor.Peek(&piece, 1, bytes, &length) == 0) return;
    memset(piece.iov_base, 0, length);
    cursor.Skip(length);
    bytes -= length;
  }
}

}  // namespace

Engine::Next Engine::ReadStep(Op* op) {
  Transfer* transfer = op->reading;
  if (transfer->offset == transfer->end) {
    op->step = op->after_read;
    return Next::kGoOn;
  }
  Found found;
  if (Find(op, transfer->offset, transfer->end - transfer->offset, &found) ==
      Next::kWait) {
    return Next::kWait;
  }
  const Extent& extent = found.extent;
  switch (extent.kind) {
    case Extent::Kind::kInvalid:
      return Fail(op, IoStatus::kCorrupt);
    case Extent::Kind::kCompressed:
    case Extent::Kind::kEncrypted:
      return ReadCoded(op, found);
    case Extent::Kind::kData:
      PrepareWork(op, FileOperation::kRead, found.layer, extent.host_offset,
                  transfer, extent.length_bytes);
      return StartFile(op, &Engine::AfterRead);
    default:
      ZeroOut(transfer->cursor, extent.length_bytes);
      op->work.error = 0;
      op->moving_bytes = extent.length_bytes;
      op->step = &Engine::AfterRead;
      return Next::kGoOn;
  }
}

Engine::Next Engine::AfterRead(Op* op) {
  if (op->work.error != 0) return Fail(op, StatusOfErrno(op->work.error));
  op->reading->offset += op->moving_bytes;
  op->reading->cursor.Skip(op->moving_bytes);
  op->step = &Engine::ReadStep;
  return Next::kGoOn;
}

bool Engine::FindBelow(uint64_t offset, uint64_t bytes, Found* found) const {
  const uint64_t cluster = offset / cluster_bytes_;
  const uint64_t in_cluster = offset % cluster_bytes_;
  if (below_ == nullptr || in_cluster + bytes > cluster_bytes_) return false;
  const Below& known = below_[cluster % kBelowEntries];
  if (known.cluster_plus_1 != cluster + 1) return false;
  *found = {known.place & kLayerMask,
            {.kind = Extent::Kind::kData,
             .host_offset = (known.place & ~kLayerMask) + in_cluster,
             .length_bytes = bytes}};
  return true;
}

// Data only, and only where the whole cluster is one in each layer above it.
void Engine::NoteBelow(uint64_t offset, const Found& found) {
  if (below_ == nullptr || found.extent.kind != Extent::Kind::kData) return;
  const uint64_t cluster = offset / cluster_bytes_;
  for (size_t i = 1; i <= found.layer; ++i) {
    const Layer& layer = layers_[i];
    if (layer.size_bytes / cluster_bytes_ <= cluster) return;
    if (layer.image != nullptr &&
        layer.image->header().subcluster_bytes() != cluster_bytes_) {
      return;
    }
  }
  below_[cluster % kBelowEntries] = {
      cluster + 1, (found.extent.host_offset - offset % cluster_bytes_) |
                       uint64_t{found.layer}};
}

Engine::Next Engine::Find(Op* op, uint64_t offset, uint64_t max_bytes,
                          Found* found) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    if (i == 1 && FindBelow(offset, max_bytes, found)) return Next::kGoOn;
    // Behind the end of a parent that is shorter there are zeroes.
    if (offset >= layer.size_bytes) break;
    max_bytes = std::min(max_bytes, layer.size_bytes - offset);
    if (layer.image == nullptr) {
      *found = {i,
                {.kind = Extent::Kind::kData,
                 .host_offset = offset,
                 .length_bytes = max_bytes}};
      if (i > 0) NoteBelow(offset, *found);
      return Next::kGoOn;
    }
    if (layer.image->SliceOffset(offset) == 0) {
      max_bytes = std::min(max_bytes, layer.image->BytesToEndOfTable(offset));
      continue;
    }
    L2Slice* slice;
    if (GetSlice(op, i, offset, &slice) == Next::kWait) return Next::kWait;
    const Extent extent = layer.image->Map(*slice, offset, max_bytes);
    if (extent.kind != Extent::Kind::kUnallocated) {
      *found = {i, extent};
      if (i > 0) NoteBelow(offset, *found);
      return Next::kGoOn;
    }
    max_bytes = extent.length_bytes;
  }
  *found = {layers_.size(),
            {.kind = Extent::Kind::kZero, .length_bytes = max_bytes}};
  return Next::kGoOn;
}

// ---- L2 slices

Engine::Next Engine::GetSlice(Op* op, size_t layer, uint64_t offset,
                              L2Slice** slice) {
  Image& image = *layers_[layer].image;
  const uint64_t file_offset = image.SliceOffset(offset);
  L2Slice* found = image.cache().Find(file_offset);
  if (found == nullptr) {
    found = image.cache().Insert(file_offset);
    if (found == nullptr) return WaitIn(&room_waiters_, op);
    op->loading = found;
    op->loading_layer = layer;
    FileWork& work = op->work;
    op->segments[0] = {found->bytes, image.cache().slice_bytes()};
    work.file = &image.file();
    work.operation = FileOperation::kRead;
    work.segments = op->segments;
    work.segment_count = 1;
    work.offset_bytes = file_offset;
    work.length_bytes = image.cache().slice_bytes();
    work.may_miss_bytes = 0;
    work.owner = op;
    work.finished = OnSliceLoaded;
    if (!queue_.Start(&work)) return Next::kWait;
    FinishLoading(op);
    if (work.error != 0) return Fail(op, StatusOfErrno(work.error));
  }
  if (found->state != L2Slice::State::kReady) {
    AppendWaiter(&found->waiters, op);
    return Next::kWait;
  }
  *slice = found;
  return Next::kGoOn;
}

void Engine::OnSliceLoaded(FileWork* work) {
  Op* op = static_cast<Op*>(work->owner);
  Engine* engine = op->engine;
  if (engine->closing_) return;
  engine->FinishLoading(op);
  op->failed = StatusOfErrno(work->error);
  engine->ready_.Append(op);
}

void Engine::FinishLoading(Op* op) {
  L2Slice* slice = op->loading;
  op->loading = nullptr;
  // Those who wait look again; a broken disk tells each of them by itself.
  Resume(&slice->waiters, IoStatus::kOk);
  if (op->work.error == 0) {
    slice->state = L2Slice::State::kReady;
  } else {
    layers_[op->loading_layer].image->cache().Remove(slice);
  }
  Resume(&room_waiters_);
}

// ---- Compressed and encrypted clusters

Engine::Next Engine::ReadCoded(Op* op, const Found& found) {
  Transfer* transfer = op->reading;
  Image& image = *layers_[found.layer].image;
  const uint64_t in_cluster = transfer->offset % image.header().cluster_bytes();
  CodedCluster cluster = {.coding = &image.coding(),
                          .code = Code::kZlib,
                          .file = &image.file(),
                          .host_offset = found.extent.host_offset,
                          .coded_bytes = found.extent.compressed_bytes};
  if (found.extent.kind == Extent::Kind::kEncrypted) {
    cluster.code = Code::kAes;
    cluster.disk_offset = transfer->offset - in_cluster;
  } else if (image.header().compression == kZstd) {
    cluster.code = Code::kZstd;
  }
  DecodedSlot* slot = decoded_->Find(cluster);
  if (slot != nullptr && slot->state == DecodedSlot::State::kReady) {
    CopyOut(transfer->cursor, slot->bytes + in_cluster,
            found.extent.length_bytes);
    op->work.error = 0;
    op->moving_bytes = found.extent.length_bytes;
    op->step = &Engine::AfterRead;
    return Next::kGoOn;
  }
  if (slot == nullptr) {
    slot = decoded_->Take(cluster);
    if (slot == nullptr) return WaitIn(&room_waiters_, op);
    slot->owner = this;
    slot->run = DecodedCache::Fill;
    slot->done = OnFilled;
    if (pool_->threads() == 0) {
      AppendWaiter(&slot->waiters, op);
      DecodedCache::Fill(slot);
      FinishFilling(slot);
      return Next::kWait;
    }
    pool_->Post(slot);
  }
  AppendWaiter(&slot->waiters, op);
  return Next::kWait;
}

void Engine::OnFilled(Work* work) {
  auto* slot = static_cast<DecodedSlot*>(work);
  Engine* engine = static_cast<Engine*>(slot->owner);
  if (!engine->closing_) engine->FinishFilling(slot);
}

void Engine::FinishFilling(DecodedSlot* slot) {
  decoded_->Filled(slot);
  IoStatus status = IoStatus::kOk;
  if (slot->error == -EBADMSG) {
    status = IoStatus::kCorrupt;
  } else if (slot->error != 0) {
    status = IoStatus::kIoError;
  }
  Resume(&slot->waiters, status);
  Resume(&room_waiters_);
}

}  // namespace bulkhead::block::qcow2
