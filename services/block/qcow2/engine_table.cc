// L2 tables of our own: made where there is none, copied where a snapshot
// shares it.

#include "services/block/qcow2/engine.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {

Engine::Next Engine::EnsureTable(Op* op, Step then) {
  const uint64_t index = active().L1Index(op->data.offset);
  const uint64_t per_table = active().header().l2_entries();
  if (UnlockedPrefix(index * per_table, per_table) < per_table) {
    return WaitIn(&lock_waiters_, op);
  }
  if (reserve_.clusters() == 0) return WaitForClusters(op);
  op->old_table = active().l1_entry(index) & kOffsetMask;
  if (op->old_table != 0 && free_bounces_.empty()) {
    return WaitIn(&room_waiters_, op);
  }
  const FreeRun run = reserve_.Take(1);
  Lock(op, index * per_table, per_table);
  op->host_offset = run.first * cluster_bytes_;
  op->new_clusters = 1;
  op->fresh = true;
  op->after_table = then;
  if (op->old_table != 0) {
    op->bounce = free_bounces_.back();
    free_bounces_.pop_back();
    PrepareBuffer(op, FileOperation::kRead, op->old_table, op->bounce,
                  cluster_bytes_);
    return StartFile(op, &Engine::TableRead);
  }
  // A table of zeroes maps nothing: the cluster is one already, or is made one
  // before anything refers to it.
  if (!run.reads_zero) {
    PrepareBuffer(op, FileOperation::kWriteZeroes, op->host_offset, nullptr,
                  cluster_bytes_);
    op->work.durable = true;
    return StartFile(op, &Engine::TableWritten);
  }
  op->work.error = 0;
  op->step = &Engine::TableWritten;
  return Next::kGoOn;
}

// Both tables refer to each cluster, so neither may call it its own.
Engine::Next Engine::TableRead(Op* op) {
  if (op->work.error != 0) return Fail(op, StatusOfErrno(op->work.error));
  for (uint64_t at = 0; at < cluster_bytes_; at += active().entry_bytes()) {
    const uint64_t entry = LoadBe64(op->bounce + at);
    if ((entry & kCompressed) == 0) {
      StoreBe64(op->bounce + at, entry & ~kCopied);
    }
  }
  PrepareBuffer(op, FileOperation::kDurableWrite, op->host_offset, op->bounce,
                cluster_bytes_);
  return StartFile(op, &Engine::TableWritten);
}

Engine::Next Engine::TableWritten(Op* op) {
  if (op->work.error != 0) return Fail(op, StatusOfErrno(op->work.error));
  op->l1_entry = op->host_offset | kCopied;
  PrepareBuffer(op, FileOperation::kWrite,
                active().L1EntryFileOffset(active().L1Index(op->data.offset)),
                &op->l1_entry, sizeof(op->l1_entry));
  return StartFile(op, &Engine::L1Written);
}

Engine::Next Engine::L1Written(Op* op) {
  dirty_ = true;
  if (op->work.error != 0) {
    // The file may refer to it or not: nobody else may have it.
    ++leaked_clusters_;
    op->new_clusters = 0;
    return Fail(op, StatusOfErrno(op->work.error));
  }
  const unsigned bits = active().header().cluster_bits;
  active().cache().Forget(op->host_offset, cluster_bytes_);
  active().metadata().Add(op->host_offset >> bits);
  active().set_l1_entry(active().L1Index(op->data.offset), op->l1_entry);
  if (op->old_table != 0) {
    active().metadata().Remove(op->old_table >> bits);
    if (!HasRoom(0, 1)) {
      ++leaked_clusters_;
    } else {
      AddRelease(op->old_table >> bits, 1, /*may_punch=*/false);
    }
  }
  LetGo(op);
  op->step = op->after_table;
  return Next::kGoOn;
}

}  // namespace bulkhead::block::qcow2
