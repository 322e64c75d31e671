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
#include "services/virtio_blk/make_device.h"

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
  config.mutable_virtio_blk()->set_queues(setup.queues);
  config.mutable_virtio_blk()->set_queue_threads(setup.queue_threads);
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_format(RAW);
  if (setup.iops > 0) {
    backend->mutable_throttle()->set_iops(setup.iops);
    backend->mutable_throttle()->set_burst_ios(1);
  }
  if (setup.in_process) {
    backend->mutable_image()->set_fd(disk_fd_);
    rig_ = FrameRig::InProcess(
        "virtio_blk", setup.factory ? setup.factory : MakeDevice, config);
  } else {
    backend->mutable_image()->set_fd(kFirstBackendFd);
    rig_ = FrameRig::Spawn("services/virtio_blk/service", policy::VirtioBlk(),
                           config, {disk_fd_}, {});
  }
  for (unsigned i = 0; i < setup.queues; ++i) {
    if (rig_->Connect(MSIX, i + 1) != OK) abort();
  }
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
  queues_.clear();
  for (unsigned i = 0; i < setup_.queues; ++i) {
    queues_.push_back(std::make_unique<virtio::DriverQueue>(
        virtio::DriverQueue::Options{.ram = rig_->ram_base(),
                                     .at = kRingAt + i * kRingStride,
                                     .size = kQueueSize,
                                     .packed = packed,
                                     .event_index = true}));
    driver_->SetUpQueue(static_cast<uint16_t>(i), *queues_.back(),
                        static_cast<uint16_t>(i + 1));
  }
  driver_->Start();
  return true;
}

bool LiveDevice::Submit(unsigned queue, unsigned slot, uint32_t type,
                        uint64_t sector, uint32_t bytes) {
  const uint64_t place = queue * kSlots + slot;
  const RequestHeader header = {type, 0u, sector};
  std::memcpy(ram() + kHeaderAt + place * 16, &header, sizeof header);
  ram()[kStatusAt + place] = kNoAnswer;
  const Buffer buffers[] = {{kHeaderAt + place * 16, 16, false},
                            {DataOf(queue, slot), bytes, type != kTypeOut},
                            {kStatusAt + place, 1, true}};
  if (!queues_[queue]->Add(buffers, slot)) return false;
  if (queues_[queue]->Publish()) driver_->Notify(static_cast<uint16_t>(queue));
  return true;
}

unsigned LiveDevice::Collect(unsigned queue) {
  unsigned good = 0;
  while (queues_[queue]->in_flight() > 0) {
    uint32_t slot;
    uint32_t written;
    if (queues_[queue]->Take(&slot, &written)) {
      good += StatusOf(queue, slot) == kStatusOk;
    } else if (!queues_[queue]->EnableInterrupts() &&
               !rig_->WaitForInterrupt(MSIX, queue + 1)) {
      break;
    }
  }
  return good;
}

uint8_t LiveDevice::DoOn(unsigned queue, uint32_t type, uint64_t sector,
                         uint32_t bytes) {
  queues_[queue]->EnableInterrupts();
  if (!Submit(queue, 0, type, sector, bytes)) return kNoAnswer;
  Collect(queue);
  return StatusOf(queue, 0);
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
