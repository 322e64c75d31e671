#include "tests/storage/jailed_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cstddef>

#include "services/virtio_blk/spec.h"

namespace bulkhead {
namespace {

constexpr uint64_t kRingAt = 0x10000;
constexpr uint64_t kHeaderAt = 0x100000;
constexpr uint64_t kStatusAt = 0x110000;
constexpr uint64_t kDataAt = 0x200000;
constexpr uint64_t kSector = 512;

}  // namespace

JailedDisk::JailedDisk(const sandbox::CompiledPolicy& policy,
                       ServiceConfig config, const std::vector<int>& fds) {
  config.mutable_virtio_blk()->set_serial("jailed");
  FrameRig::Options options;
  options.start = false;
  rig_ = FrameRig::Spawn("services/virtio_blk/service", policy, config, fds,
                         options);
  if (!rig_->Start()) return;
  if (rig_->Connect(MSIX, 1) != OK) abort();
  driver_ = std::make_unique<virtio::PciDriver>(
      [this](uint32_t region, uint64_t offset, unsigned size) {
        return rig_->Read(region, offset, size);
      },
      [this](uint32_t region, uint64_t offset, unsigned size, uint64_t value) {
        rig_->Write(region, offset, size, value);
      });
  driver_->EnableMsix(true);
  if (!driver_->Reset() || !driver_->Negotiate(driver_->DeviceFeatures() &
                                               ~(virtio::kFeatureIndirect |
                                                 virtio::kFeaturePacked))) {
    fprintf(stderr, "the device does not start\n");
    abort();
  }
  queue_ = std::make_unique<virtio::DriverQueue>(
      virtio::DriverQueue::Options{.ram = rig_->ram_base(),
                                   .at = kRingAt,
                                   .size = 128,
                                   .event_index = true});
  driver_->SetUpQueue(0, *queue_, 1);
  driver_->Start();
}

uint8_t JailedDisk::Do(uint32_t type, uint64_t sector, uint32_t bytes,
                       bool to_guest) {
  const virtio_blk::RequestHeader header = {type, 0u, sector};
  memcpy(rig_->ram_base() + kHeaderAt, &header, sizeof(header));
  rig_->ram_base()[kStatusAt] = 0xee;
  std::vector<virtio::Buffer> buffers = {{kHeaderAt, 16, false}};
  if (bytes > 0) buffers.push_back({kDataAt, bytes, to_guest});
  buffers.push_back({kStatusAt, 1, true});
  queue_->EnableInterrupts();
  if (!queue_->Add(buffers, 1)) return 0xed;
  if (queue_->Publish()) driver_->Notify(0);
  uint32_t token;
  uint32_t written;
  while (!queue_->Take(&token, &written)) {
    if (!rig_->WaitForInterrupt(MSIX, 1)) return 0xee;
  }
  return rig_->ram_base()[kStatusAt];
}

uint8_t JailedDisk::Write(uint64_t offset_bytes, const std::string& data) {
  memcpy(rig_->ram_base() + kDataAt, data.data(), data.size());
  return Do(virtio_blk::kTypeOut, offset_bytes / kSector,
            static_cast<uint32_t>(data.size()), false);
}

std::string JailedDisk::Read(uint64_t offset_bytes, uint32_t bytes) {
  const uint8_t status =
      Do(virtio_blk::kTypeIn, offset_bytes / kSector, bytes, true);
  if (status != virtio_blk::kStatusOk) {
    return "status " + std::to_string(status);
  }
  return std::string(reinterpret_cast<char*>(rig_->ram_base() + kDataAt),
                     bytes);
}

uint64_t JailedDisk::capacity_bytes() {
  return kSector *
         driver_->ReadDevice(offsetof(virtio_blk::Config, capacity), 8);
}

uint8_t JailedDisk::Flush() { return Do(virtio_blk::kTypeFlush, 0, 0, false); }

}  // namespace bulkhead
