#include "services/virtio_blk/make_device.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "services/block/open_backends.h"
#include "services/runtime/queue_groups.h"
#include "services/virtio_blk/device.h"

namespace bulkhead::virtio_blk {

absl::StatusOr<std::unique_ptr<bulkhead::Device>> MakeDevice(
    const ServiceConfig& config, ServiceContext& context) {
  if (!config.has_virtio_blk() || config.backends_size() != 1) {
    return absl::InvalidArgumentError(
        "the configuration is not one of a virtio_blk with one backend");
  }
  const VirtioBlkConfig& described = config.virtio_blk();
  Options options;
  options.serial = described.serial();
  options.packed = described.rings() != VirtioBlkConfig::SPLIT;
  options.in_order = described.in_order();
  if (described.queues() != 0) options.queues = described.queues();
  if (options.queues > virtio::kMaxQueues) {
    return absl::InvalidArgumentError(
        absl::StrCat("virtio_blk.queues: at most ", virtio::kMaxQueues));
  }
  if (described.block_size_bytes() != 0) {
    options.block_size_bytes = described.block_size_bytes();
  }
  if (options.block_size_bytes != 512 && options.block_size_bytes != 4096) {
    return absl::InvalidArgumentError(
        "virtio_blk.block_size_bytes: 512 or 4096");
  }
  if (options.serial.size() > kIdBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("virtio_blk.serial: at most ", kIdBytes, " characters"));
  }
  if (described.queue_threads() > kMaxQueueGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat("virtio_blk.queue_threads: at most ", kMaxQueueGroups));
  }
  auto disks = block::OpenForGroups(
      config, context, std::min(described.queue_threads(), options.queues));
  if (!disks.ok()) return disks.status();
  return std::make_unique<Device>(context, std::move(disks->front()), options);
}

}  // namespace bulkhead::virtio_blk
