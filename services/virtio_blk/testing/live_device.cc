#include "services/virtio_blk/testing/live_device.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "policy/virtio_blk.h"
#include "proto/service_fds.h"
#include "services/pci/spec.h"
#include "services/runtime/device.h"

namespace bulkhead::virtio_blk {

using virtio::Buffer;

LiveDevice::LiveDevice(const Setup& setup)
    : setup_(setup), disk_fd_(setup.disk_fd) {
  if (disk_fd_ < 0) {
    disk_fd_ = memfd_create("disk", MFD_CLOEXEC);
    if (ftruncate(disk_fd_, static_cast<off_t>(setup.disk_bytes)) != 0) abort();
  }
  ServiceConfig config;
  config.mutable_polling()->set_spin_limit_us(setup.spin_limit_us);
  config.mutable_virtio_blk()->set_serial("S1");
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(kFirstBackendFd);
  backend->mutable_image()->set_format(RAW);
  rig_ = FrameRig::Spawn("services/virtio_blk/service", policy::VirtioBlk(),
                         config, {disk_fd_}, {});
  if (rig_->Connect(MSIX, 1) != OK) abort();
  driver_ = std::make_unique<virtio::PciDriver>(
      [this](uint32_t region, uint64_t offset, unsigned size) {
        return rig_->Read(region, offset, size);
      },
      [this](uint32_t region, uint64_t offset, unsigned size, uint64_t value) {
        rig_->Write(region, offset, size, value);
      });
}

LiveDevice::~LiveDevice() {
  rig_.reset();
  if (setup_.disk_fd < 0) close(disk_fd_);
}

bool LiveDevice::Negotiate(bool packed) {
  // A function reset has turned both off.
  rig_->Write(kConfigRegion, pci::kCommand, 2,
              pci::kCommandMemorySpace | pci::kCommandBusMaster);
  driver_->EnableMsix(true);
  if (!driver_->Reset()) return false;
  uint64_t features = driver_->DeviceFeatures() & ~virtio::kFeatureIndirect;
  if (!packed) features &= ~virtio::kFeaturePacked;
  return driver_->Negotiate(features);
}

bool LiveDevice::Boot(bool packed) {
  if (!Negotiate(packed)) return false;
  queue_ = std::make_unique<virtio::DriverQueue>(
      virtio::DriverQueue::Options{.ram = rig_->ram_base(),
                                   .at = kRingAt,
                                   .size = kQueueSize,
                                   .packed = packed,
                                   .event_index = true});
  driver_->SetUpQueue(0, *queue_, 1);
  driver_->Start();
  return true;
}

uint8_t LiveDevice::Do(uint32_t type, uint64_t sector, uint32_t bytes) {
  const RequestHeader header = {type, 0u, sector};
  std::memcpy(ram() + kHeaderAt, &header, sizeof header);
  ram()[kStatusAt] = kNoAnswer;
  const Buffer buffers[] = {{kHeaderAt, 16, false},
                            {kDataAt, bytes, type != kTypeOut},
                            {kStatusAt, 1, true}};
  queue_->EnableInterrupts();
  if (!queue_->Add(buffers, 1)) return kNoAnswer;
  if (queue_->Publish()) driver_->Notify(0);
  uint32_t token;
  uint32_t written;
  while (!queue_->Take(&token, &written)) {
    if (!rig_->WaitForInterrupt(MSIX, 1)) return kNoAnswer;
  }
  return ram()[kStatusAt];
}

bool LiveDevice::NeedsReset() {
  for (int i = 0; i < 1000; ++i) {
    if ((driver_->status() & virtio::kStatusNeedsReset) != 0) return true;
    const timespec pause = {0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  return false;
}

}  // namespace bulkhead::virtio_blk
