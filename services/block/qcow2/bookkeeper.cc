#include "services/block/qcow2/bookkeeper.h"

namespace bulkhead::block::qcow2 {

void Bookkeeper::Run(BookkeeperOrder* order) {
  order->sync_error = 0;
  order->publish_error = 0;
  order->release_error = 0;
  order->grow_error = 0;
  order->reserve_error = 0;
  order->runs = 0;
  if (order->must_sync || order->publications > 0 || order->releases > 0) {
    SyncAndPublish(order);
  }
  // After a failure it is not known what refers to what.
  if (order->sync_error == 0 && order->publish_error == 0 &&
      order->releases > 0) {
    order->release_error = ReleaseAll(*order);
  }
  if (order->grow) {
    order->grow_error = order->sync_error != 0
                            ? order->sync_error
                            : GrowDisk(image_, refcounts_, &order->grown);
  }
  if (order->reserve_clusters > 0) {
    order->reserve_error =
        refcounts_->Reserve(order->reserve_clusters, order->run.data(),
                            order->run.size(), &order->runs);
  }
}

void Bookkeeper::SyncAndPublish(BookkeeperOrder* order) {
  order->sync_error = file_->Sync();
  if (order->sync_error != 0 || order->publications == 0) return;
  for (size_t i = 0; i < order->publications; ++i) {
    const Publication& publication = order->publish[i];
    order->publish_error =
        WriteBytes(*file_, &publication.entry, publication.entry_bytes,
                   publication.file_offset);
    if (order->publish_error != 0) return;
  }
  if (order->must_sync || order->releases > 0) {
    order->sync_error = file_->Sync();
  }
}

int Bookkeeper::ReleaseAll(const BookkeeperOrder& order) {
  int result = 0;
  for (size_t i = 0; i < order.releases; ++i) {
    const Release& release = order.release[i];
    if (const int error = refcounts_->Decrease(release.first, release.count);
        error != 0) {
      result = error;
      continue;
    }
    // Space goes back to the host. It is only an advice: Reserve does it again
    // where it counts.
    if (release.may_punch) {
      file_->PunchHole(release.first << cluster_bits_,
                       release.count << cluster_bits_);
    }
  }
  return result;
}

}  // namespace bulkhead::block::qcow2
