// VirtioTarget is a virtio block device's queue as a LoadTarget, whoever serves
// it: our jailed service through frames, or a vhost-user-blk daemon. The ring
// is the same; only how one side tells the other differs. With several queues,
// requests go to them in turn, and all raise one interrupt.
//
// TRUST    Benchmarks only.
// ERRORS   As device_load.h says.
// THREADS  One.

#ifndef BULKHEAD_BENCH_VIRTIO_TARGET_H_
#define BULKHEAD_BENCH_VIRTIO_TARGET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/device_load.h"
#include "services/virtio/testing/driver_queue.h"

namespace bulkhead::bench {

// Where things lie in guest memory.
inline constexpr uint64_t kRamBytes = uint64_t{64} << 20;
inline constexpr uint64_t kRingAt = 0x10000;

class VirtioTarget : public LoadTarget {
 public:
  static constexpr unsigned kMaxQueues = 8;

  // `kick` tells the device of a queue; `wait` sleeps for the interrupt.
  VirtioTarget(uint8_t* ram, bool packed, unsigned queues,
               uint64_t capacity_bytes, pid_t server,
               std::function<void(unsigned queue)> kick,
               std::function<void()> wait);

  uint64_t capacity_bytes() const override { return capacity_bytes_; }
  void Add(unsigned slot, bool write, uint64_t offset_bytes,
           uint32_t bytes) override;
  void Publish() override;
  bool Take(unsigned* slot) override;
  void Wait() override;
  pid_t server() const override { return server_; }

  virtio::DriverQueue& queue(unsigned index = 0) { return queues_[index]; }
  uint64_t kicks() const { return kicks_; }

 private:
  uint8_t* ram_;
  std::vector<virtio::DriverQueue> queues_;
  size_t next_ = 0;  // to take from
  uint64_t capacity_bytes_;
  pid_t server_;
  std::function<void(unsigned)> kick_;
  std::function<void()> wait_;
  uint64_t kicks_ = 0;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_VIRTIO_TARGET_H_
