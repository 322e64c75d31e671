// JailedDisk is the real virtio block service under a policy, and a driver that
// makes one request at a time.
//
// ERRORS   A service that does not start, or dies, fails the test.
// THREADS  The test's.

#ifndef BULKHEAD_TESTS_STORAGE_JAILED_DISK_H_
#define BULKHEAD_TESTS_STORAGE_JAILED_DISK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proto/service_config.pb.h"
#include "sandbox/compiled_policy.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/virtio/testing/driver_queue.h"
#include "services/virtio/testing/pci_driver.h"

namespace bulkhead {

class JailedDisk {
 public:
  // `fds` become 7 and up; `config` needs its one backend only.
  JailedDisk(const sandbox::CompiledPolicy& policy, ServiceConfig config,
             const std::vector<int>& fds);

  // What the service said instead of starting; "": it has started.
  const std::string& fault() const { return rig_->fault(); }

  // virtio's status; 0 is OK.
  uint8_t Write(uint64_t offset_bytes, const std::string& data);
  // The bytes, or "status N".
  std::string Read(uint64_t offset_bytes, uint32_t bytes);
  uint8_t Flush();

  // The launcher's wish; and what the guest is told of the disk.
  Ack Grow(uint32_t backend, uint64_t size_bytes) {
    return rig_->GrowDisk(backend, size_bytes);
  }
  uint64_t capacity_bytes();

  FrameRig& rig() { return *rig_; }

 private:
  uint8_t Do(uint32_t type, uint64_t sector, uint32_t bytes, bool to_guest);

  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::unique_ptr<virtio::DriverQueue> queue_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_TESTS_STORAGE_JAILED_DISK_H_
