// Reserve holds clusters that are allocated on stable storage and wait for a
// use: the loop takes from it without asking anybody.
//
// TRUST    Runs come from Refcounts.
// ERRORS   Take answers a run of count 0 when it is empty.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_RESERVE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_RESERVE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "services/block/qcow2/bookkeeper.h"

namespace bulkhead::block::qcow2 {

class Reserve {
 public:
  uint64_t clusters() const { return clusters_; }
  // Runs that can be added.
  size_t room() const { return runs_.size() - count_; }

  void Add(const FreeRun& run) {
    runs_[(first_ + count_++) % runs_.size()] = run;
    clusters_ += run.count;
  }

  // What Take would give: the first run.
  bool next_reads_zero() const {
    return count_ > 0 && runs_[first_].reads_zero;
  }

  // Up to `wanted` adjacent clusters.
  FreeRun Take(uint64_t wanted) {
    if (count_ == 0) return {};
    FreeRun& run = runs_[first_];
    const FreeRun taken = {run.first, std::min(wanted, run.count),
                           run.reads_zero};
    run.first += taken.count;
    run.count -= taken.count;
    clusters_ -= taken.count;
    if (run.count == 0) {
      first_ = (first_ + 1) % runs_.size();
      --count_;
    }
    return taken;
  }

 private:
  std::array<FreeRun, 2 * kMaxRuns> runs_;
  size_t first_ = 0;
  size_t count_ = 0;
  uint64_t clusters_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_RESERVE_H_
