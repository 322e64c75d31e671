// Between the loop and the bookkeeper: locks on clusters, entries to publish,
// clusters to release, and the orders that carry them.

#include <errno.h>
#include <string.h>

#include <algorithm>

#include "services/block/qcow2/engine.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

// Sizes of the reserve: it starts small, so that a disk written little leaks
// little when its service is killed, and doubles.
constexpr uint64_t kFirstReserveBytes = 1 << 20;
constexpr uint64_t kMaxReserveBytes = 64 << 20;
constexpr uint64_t kMinReserveClusters = 16;
constexpr uint64_t kMaxReserveClusters = 4096;
// So many make an order of their own, without a flush.
constexpr size_t kManyReleases = kMaxReleases / 4;

}  // namespace

// ---- Locks

uint64_t Engine::UnlockedPrefix(uint64_t first, uint64_t count) const {
  for (size_t i = 0; i < locked_count_; ++i) {
    const Op& other = *locked_[i];
    const uint64_t other_end = other.lock_first + other.lock_count;
    if (other.lock_first >= first + count || other_end <= first) continue;
    count = other.lock_first > first ? other.lock_first - first : 0;
  }
  return count;
}

void Engine::Lock(Op* op, uint64_t first, uint64_t count) {
  op->lock_first = first;
  op->lock_count = count;
  locked_[locked_count_++] = op;
}

void Engine::Unlock(Op* op) {
  if (op->lock_count == 0) return;
  op->lock_count = 0;
  for (size_t i = 0; i < locked_count_; ++i) {
    if (locked_[i] != op) continue;
    locked_[i] = locked_[--locked_count_];
    break;
  }
  Resume(&lock_waiters_);
}

// ---- Entries

Engine::Next Engine::WriteEntries(Op* op, size_t index, size_t count,
                                  Step then) {
  // After a deferred change of a slice, later ones must not overtake it.
  if (op->deferred || op->slice->deferred > 0) {
    DeferEntries(op->slice, index, count);
    op->step = then;
    return Next::kGoOn;
  }
  op->entry_index = index;
  op->entry_count = count;
  op->after_entries = then;
  const uint64_t file_offset = active().EntryFileOffset(*op->slice, index);
  PrepareBuffer(
      op, FileOperation::kWrite, file_offset,
      op->slice->bytes + (file_offset - op->slice->file_offset),
      active().EntryFileOffset(*op->slice, index + count) - file_offset);
  return StartFile(op, &Engine::EntriesWritten);
}

// What the file did not take now, it is given again by the bookkeeper; a flush
// will tell when that fails as well.
Engine::Next Engine::EntriesWritten(Op* op) {
  dirty_ = true;
  if (op->work.error != 0) {
    if (!HasRoom(op->entry_count, 0)) {
      Renumber(op);
      return WaitIn(&space_waiters_, op);
    }
    DeferEntries(op->slice, op->entry_index, op->entry_count);
  }
  op->step = op->after_entries;
  return Next::kGoOn;
}

void Engine::DeferEntries(L2Slice* slice, size_t index, size_t count) {
  for (size_t i = index; i < index + count; ++i) {
    ++slice->pins;
    ++slice->deferred;
    publications_.push_back(
        {.file_offset = active().EntryFileOffset(*slice, i),
         .entry = active().Entry(*slice, i),
         .bitmap = active().header().extended_l2()
                       ? active().EntryBitmap(*slice, i)
                       : 0,
         .entry_bytes = static_cast<uint32_t>(active().entry_bytes()),
         .slice = slice});
  }
}

// ---- Releases

bool Engine::HasRoom(size_t publications, size_t releases) const {
  return publications_.size() + publications <= kMaxPublications &&
         releases_.size() + releases <= kMaxReleases;
}

void Engine::AddRelease(uint64_t first, uint64_t count, bool may_punch) {
  if (!releases_.empty()) {
    Release& last = releases_.back();
    const bool in_order =
        order_running_ && releases_.size() <= order_->order.releases;
    if (!in_order && last.first + last.count == first &&
        last.may_punch == may_punch) {
      last.count += count;
      last.after_request = last_number_;
      return;
    }
  }
  if (releases_.size() == kMaxReleases) {
    leaked_clusters_ += count;
    return;
  }
  releases_.push_back({first, count, may_punch, last_number_});
}

void Engine::ReleaseOld(const Extent& old) {
  const unsigned bits = active().header().cluster_bits;
  switch (old.kind) {
    case Extent::Kind::kData:
    case Extent::Kind::kZeroAllocated:
      AddRelease(old.host_offset >> bits, 1, /*may_punch=*/old.copied);
      return;
    case Extent::Kind::kCompressed: {
      decoded_->Forget(&active().coding(), old.host_offset);
      const ClusterRange range = ClustersOf(old, bits);
      AddRelease(range.first, range.count, /*may_punch=*/false);
      return;
    }
    default:
      return;
  }
}

// A request that was there when a cluster lost its last reference may still be
// reading it, or writing to it.
size_t Engine::ReleasableCount() const {
  const uint64_t oldest = oldest_ != nullptr ? oldest_->number : ~uint64_t{0};
  size_t count = 0;
  while (count < releases_.size() && releases_[count].after_request < oldest) {
    ++count;
  }
  return count;
}

// ---- Orders

Engine::Next Engine::WaitForClusters(Op* op) {
  Renumber(op);
  return WaitIn(&cluster_waiters_, op);
}

void Engine::KickBookkeeper() {
  if (bookkeeper_ == nullptr) return;
  while (!order_running_ && FillOrder()) {
    order_running_ = true;
    if (pool_->threads() == 0 || active().file().never_waits()) {
      bookkeeper_->Run(&order_->order);
      FinishOrder();
    } else {
      order_->run = RunOrder;
      order_->done = OnOrderDone;
      pool_->Post(order_.get());
    }
  }
}

// False: there is nothing to do.
bool Engine::FillOrder() {
  BookkeeperOrder& order = order_->order;
  if (sync_failed_) {
    FailAll(&flush_waiters_, IoStatus::kIoError);
    if (IsTimeToGrow()) FinishGrowth(-EIO, {});
  }
  order.must_sync = !flush_waiters_.empty();
  // What the file did not take is tried again when somebody asks for it, or
  // when there is more.
  const bool may_publish =
      !sync_failed_ &&
      (order.must_sync || publications_.size() > unpublishable_ ||
       unpublishable_ == 0);
  order.publications = may_publish ? publications_.size() : 0;
  order.releases = may_publish ? ReleasableCount() : 0;
  const bool low = reserve_batch_ > 0 && !reserve_failing_ &&
                   reserve_.clusters() < reserve_batch_ / 2;
  const bool must_reserve = !cluster_waiters_.empty();
  order.reserve_clusters = 0;
  if ((low || must_reserve) && reserve_.room() >= kMaxRuns) {
    const uint64_t least =
        std::max(kMinReserveClusters, kFirstReserveBytes / cluster_bytes_);
    const uint64_t most = std::clamp(kMaxReserveBytes / cluster_bytes_,
                                     kMinReserveClusters, kMaxReserveClusters);
    reserve_batch_ =
        std::clamp(reserve_batch_ * 2, std::min(least, most), most);
    order.reserve_clusters = reserve_batch_;
  }
  const bool many = order.releases >= kManyReleases ||
                    (order.releases > 0 && !space_waiters_.empty());
  order.grow = IsTimeToGrow();
  if (order.grow) order.grown.size_bytes = growth_->size_bytes;
  if (!order.must_sync && order.publications == 0 && !many && !order.grow &&
      order.reserve_clusters == 0) {
    return false;
  }
  order.publish.assign(
      publications_.begin(),
      publications_.begin() + static_cast<ptrdiff_t>(order.publications));
  std::copy_n(releases_.begin(), order.releases, order.release.begin());
  if (order.must_sync || order.publications > 0 || order.releases > 0) {
    dirty_ = false;
  }
  flushing_.Append(&flush_waiters_);
  return true;
}

void Engine::RunOrder(Work* work) {
  auto* order = static_cast<OrderWork*>(work);
  order->engine->bookkeeper_->Run(&order->order);
}

void Engine::OnOrderDone(Work* work) {
  static_cast<OrderWork*>(work)->engine->FinishOrder();
}

void Engine::TakePublished(const BookkeeperOrder& order) {
  for (size_t i = 0; i < order.publications; ++i) {
    --publications_[i].slice->pins;
    --publications_[i].slice->deferred;
  }
  publications_.erase(
      publications_.begin(),
      publications_.begin() + static_cast<ptrdiff_t>(order.publications));
  releases_.erase(releases_.begin(),
                  releases_.begin() + static_cast<ptrdiff_t>(order.releases));
  if (order.publications > 0) {
    dirty_ = true;
    Resume(&room_waiters_);
  }
  Resume(&space_waiters_);
}

void Engine::FinishOrder() {
  const BookkeeperOrder& order = order_->order;
  order_running_ = false;
  unpublishable_ = 0;
  if (order.publish_error != 0) {
    dirty_ = true;
    unpublishable_ = publications_.size();
    FailAll(&space_waiters_, StatusOfErrno(-order.publish_error));
  } else if (order.sync_error == 0) {
    TakePublished(order);
  } else {
    // The kernel forgets a failed write-back once it has told of it: nothing
    // that follows could be called durable.
    sync_failed_ = true;
    dirty_ = true;
  }
  if (order.release_error != 0) ++leaked_clusters_;
  for (size_t i = 0; i < order.runs; ++i) reserve_.Add(order.run[i]);
  active().set_file_bytes(
      std::max(active().file_bytes(), refcounts_->file_bytes()));
  if (order.grow) FinishGrowth(order.grow_error, order.grown);
  uint64_t first;
  uint64_t count;
  if (refcounts_->TakeRetired(&first, &count)) {
    for (uint64_t i = 0; i < count; ++i) active().metadata().Remove(first + i);
    AddRelease(first, count, /*may_punch=*/false);
  }
  const IoStatus flushed = order.sync_error != 0
                               ? IoStatus::kIoError
                               : StatusOfErrno(-order.publish_error);
  for (Op* op = flushing_.first; op != nullptr; op = op->next) {
    op->step = &Engine::CompleteOk;
  }
  FailAll(&flushing_, flushed);
  reserve_failing_ = order.reserve_error != 0;
  if (order.reserve_clusters > 0 && reserve_.clusters() == 0) {
    FailAll(&cluster_waiters_, order.reserve_error == -EUCLEAN
                                   ? IoStatus::kCorrupt
                                   : StatusOfErrno(-order.reserve_error));
  }
  if (order.reserve_clusters > 0) Resume(&cluster_waiters_);
}

// ---- The end

void Engine::Close() {
  closing_ = true;
  while (pool_->pending() > 0) {
    pool_->WaitForOne();
    pool_->Poll();
  }
  if (bookkeeper_ == nullptr || sync_failed_) return;
  if (!dirty_ && publications_.empty() && releases_.empty() &&
      reserve_.clusters() == 0) {
    return;
  }
  BookkeeperOrder& order = order_->order;
  order.must_sync = true;
  order.publications = publications_.size();
  order.releases = releases_.size();
  order.reserve_clusters = 0;
  order.grow = false;
  order.publish.assign(
      publications_.begin(),
      publications_.begin() + static_cast<ptrdiff_t>(order.publications));
  std::copy_n(releases_.begin(), order.releases, order.release.begin());
  bookkeeper_->Run(&order);
  if (order.sync_error != 0 || order.publish_error != 0) return;
  for (FreeRun run = reserve_.Take(~uint64_t{0}); run.count > 0;
       run = reserve_.Take(~uint64_t{0})) {
    if (refcounts_->Decrease(run.first, run.count) != 0) return;
  }
  if (refcounts_->TrimEnd() == 0) active().file().Sync();
}

}  // namespace bulkhead::block::qcow2
