// LiveController is the real nvme program under its real filters (or the same
// in a thread of the test, for tools that cannot follow it there), with one raw
// disk, and a driver that reaches it by frames as a shim and a guest do.
//
// TRUST    For tests only.
// ERRORS   A service that does not start, or breaks the frames' rules, ends the
//          test program.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_NVME_TESTING_LIVE_CONTROLLER_H_
#define BULKHEAD_SERVICES_NVME_TESTING_LIVE_CONTROLLER_H_

#include <cstdint>
#include <memory>

#include "services/nvme/spec.h"
#include "services/nvme/testing/frame_driver.h"
#include "services/runtime/testing/frame_rig.h"

namespace bulkhead::nvme {

class LiveController {
 public:
  // Enabled, without I/O queues. The disk is a file of no name in the test's
  // own folder.
  struct Setup {
    uint64_t disk_bytes = 16 << 20;
    unsigned queue_threads = 0;
    uint32_t spin_limit_us = 0;
    bool in_process = false;
    DeviceFactory factory;  // in process, instead of MakeDevice
  };
  explicit LiveController(const Setup& setup);
  explicit LiveController(uint64_t disk_bytes)
      : LiveController(Setup{.disk_bytes = disk_bytes}) {}
  ~LiveController();

  FrameRig& rig() { return *rig_; }
  FrameDriver& driver() { return *driver_; }
  int disk_fd() const { return disk_fd_; }

  // What a command on the driver's queue, or an admin command, ends with.
  Status Run(const Command& command);
  Status RunAdmin(const Command& command);

 private:
  int disk_fd_;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<FrameDriver> driver_;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_TESTING_LIVE_CONTROLLER_H_
