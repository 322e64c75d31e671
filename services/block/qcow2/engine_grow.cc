// Growing: the disk's requests wait until those under way have ended, then the
// bookkeeper writes the new header, and all go on.

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/block/growth_check.h"
#include "services/block/qcow2/engine.h"

namespace bulkhead::block::qcow2 {

absl::Status Engine::CanGrow(uint64_t size_bytes) const {
  if (absl::Status s = CheckGrowth(size_bytes, geometry_); !s.ok()) return s;
  if (bookkeeper_ == nullptr) {
    return absl::FailedPreconditionError("the image is read-only here");
  }
  const Image& image = *layers_[0].image;
  // SPEC: a version 2 snapshot does not tell the size that the disk had.
  if (image.header().version < 3 && image.header().snapshots > 0) {
    return absl::FailedPreconditionError(
        "a version 2 image with snapshots cannot grow: qemu-img amend -o "
        "compat=1.1 makes it version 3 while no VM runs");
  }
  // What its parent has behind the disk's old end would come to light.
  if (layers_.size() > 1 && layers_[1].size_bytes > layers_[0].size_bytes) {
    return absl::FailedPreconditionError(
        "its backing file is longer than the disk: qemu-img resize can make it "
        "longer while no VM runs");
  }
  if (size_bytes > image.MaxSizeBytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("while a VM runs it can grow to ", image.MaxSizeBytes(),
                     " bytes; qemu-img resize can do more when none does"));
  }
  if (sync_failed_) return absl::InternalError("the image can not be written");
  return absl::OkStatus();
}

void Engine::Grow(Growth* growth) {
  if (absl::Status s = CanGrow(growth->size_bytes); !s.ok()) {
    growth->End(s);
    return;
  }
  growth_ = growth;
  if (!draining_) Drain();
}

bool Engine::IsTimeToGrow() const {
  return growth_ != nullptr && oldest_ == nullptr;
}

void Engine::FinishGrowth(int error, const GrownDisk& grown) {
  Growth* growth = std::exchange(growth_, nullptr);
  if (error == 0) {
    const uint64_t old_offset = active().header().l1_offset;
    const uint64_t old_bytes = uint64_t{active().header().l1_entries} * 8;
    active().Grown(grown.size_bytes, grown.l1_offset, grown.l1_entries);
    layers_[0].size_bytes = grown.size_bytes;
    geometry_.capacity_bytes = grown.size_bytes;
    if (grown.l1_offset != old_offset) {
      AddRelease(old_offset / cluster_bytes_,
                 (old_bytes + cluster_bytes_ - 1) / cluster_bytes_,
                 /*may_punch=*/false);
    }
  } else if (grown.uncertain) {
    // Which L1 table counts is not known: nothing that follows could be called
    // durable.
    sync_failed_ = true;
  }
  for (OpList held = std::exchange(held_by_growth_, OpList{}); !held.empty();) {
    Op* op = held.TakeFirst();
    LinkNewest(op);
    ready_.Append(op);
  }
  growth->End(GrowthStatus(error));
}

}  // namespace bulkhead::block::qcow2
