// VirtioService is our jailed virtio_blk as a load's target: a real process
// under its real filters, through the frames and eventfds that the shim sets
// up.
//
// TRUST    Benchmarks only.
// ERRORS   A device that does not start, or an interrupt that does not come
//          within ten seconds, ends the program.
// THREADS  One.

#ifndef BULKHEAD_BENCH_VIRTIO_SERVICE_H_
#define BULKHEAD_BENCH_VIRTIO_SERVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "bench/virtio_target.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/virtio/testing/pci_driver.h"

namespace bulkhead::bench {

class VirtioService {
 public:
  struct Options {
    std::string image;  // of RandomDisk::kBytes
    bool qcow2 = false;
    bool packed = false;
    bool throw_away = false;  // the disk is: flushes are ignored
    unsigned queues = 1;
    unsigned threads = 1;
    uint32_t spin_us = 50;
  };
  explicit VirtioService(const Options& options);
  ~VirtioService();

  VirtioTarget& target() { return *target_; }
  std::map<std::string, uint64_t> Statistics() { return rig_->Statistics(); }
  uint64_t SystemCalls() {
    return bench::SystemCalls(rig_->pid(), Statistics());
  }

 private:
  const int disk_;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::unique_ptr<VirtioTarget> target_;
};

}  // namespace bulkhead::bench

#endif  // BULKHEAD_BENCH_VIRTIO_SERVICE_H_
