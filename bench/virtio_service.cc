#include "bench/virtio_service.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "bench/random_disk.h"
#include "policy/virtio_blk.h"
#include "proto/service_config.pb.h"
#include "proto/service_fds.h"

namespace bulkhead::bench {

VirtioService::VirtioService(const Options& options)
    : disk_(open(options.image.c_str(), O_RDWR | O_CLOEXEC)) {
  ServiceConfig config;
  config.mutable_polling()->set_spin_limit_us(options.spin_us);
  config.mutable_virtio_blk()->set_serial("bench");
  config.mutable_virtio_blk()->set_queues(options.queues);
  config.mutable_virtio_blk()->set_queue_threads(options.threads);
  BackendConfig* backend = config.add_backends();
  backend->mutable_image()->set_fd(kFirstBackendFd);
  backend->mutable_image()->set_format(options.qcow2 ? QCOW2 : RAW);
  backend->set_ignore_flush(options.throw_away);
  FrameRig::Options rig_options;
  rig_options.ram_bytes = kRamBytes;
  rig_ = FrameRig::Spawn("services/virtio_blk/service", policy::VirtioBlk(),
                         config, {disk_}, rig_options);
  rig_->Connect(MSIX, 1);
  driver_ = std::make_unique<virtio::PciDriver>(
      [this](uint32_t region, uint64_t offset, unsigned size) {
        return rig_->Read(region, offset, size);
      },
      [this](uint32_t region, uint64_t offset, unsigned size, uint64_t value) {
        rig_->Write(region, offset, size, value);
      });
  virtio::PciDriver& driver = *driver_;
  driver.EnableMsix(true);
  uint64_t features = driver.DeviceFeatures();
  if (!options.packed) features &= ~virtio::kFeaturePacked;
  if (!driver.Reset() || !driver.Negotiate(features)) {
    fprintf(stderr, "the device does not start\n");
    exit(1);
  }
  target_ = std::make_unique<VirtioTarget>(
      rig_->ram_base(), options.packed, options.queues, RandomDisk::kBytes,
      rig_->pid(),
      [this](unsigned queue) { driver_->Notify(static_cast<uint16_t>(queue)); },
      [this] {
        if (!rig_->WaitForInterrupt(MSIX, 1)) {
          fprintf(stderr, "no answer within ten seconds\n");
          exit(1);
        }
      });
  for (unsigned i = 0; i < options.queues; ++i) {
    driver.SetUpQueue(static_cast<uint16_t>(i), target_->queue(i), 1);
  }
  driver.Start();
}

VirtioService::~VirtioService() { close(disk_); }

}  // namespace bulkhead::bench
