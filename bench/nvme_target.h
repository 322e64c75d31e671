// NvmeTarget are the I/O queue pairs of a real NVMe service as a load's target.
// Requests go to them in turn, and all raise one vector.
//
// TRUST    For benchmarks only.
// ERRORS   A request that fails, or an interrupt that does not come within ten
//          seconds, ends the program.
// THREADS  One.

#ifndef BULKHEAD_BENCH_NVME_TARGET_H_
#define BULKHEAD_BENCH_NVME_TARGET_H_

#include <cstdint>

#include "bench/device_load.h"
#include "services/nvme/testing/frame_driver.h"
#include "services/runtime/testing/frame_rig.h"

namespace bulkhead::bench {

class NvmeTarget : public LoadTarget {
 public:
  // RAM for the queue, its lists and its buffers.
  static constexpr uint64_t kRamBytes = uint64_t{64} << 20;

  // `interrupts`: completion queues raise their vector, and Wait sleeps.
  NvmeTarget(FrameRig& rig, uint64_t capacity_bytes, bool interrupts,
             unsigned pairs = 1);

  uint64_t capacity_bytes() const override { return capacity_bytes_; }
  void Add(unsigned slot, bool write, uint64_t offset_bytes,
           uint32_t bytes) override;
  void Publish() override {
    for (unsigned pair = 1; pair <= pairs_; ++pair) driver_.Ring(pair);
  }
  bool Take(unsigned* slot) override;
  void Wait() override;
  pid_t server() const override { return rig_.pid(); }

 private:
  FrameRig& rig_;
  nvme::FrameDriver driver_;
  const uint64_t capacity_bytes_;
  const unsigned pairs_;
  unsigned next_ = 1;  // to take from
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_NVME_TARGET_H_
