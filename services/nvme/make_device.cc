#include "services/nvme/make_device.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "services/block/open_backends.h"
#include "services/nvme/controller.h"
#include "services/nvme/identify.h"
#include "services/runtime/queue_groups.h"

namespace bulkhead::nvme {
namespace {

absl::Status CheckSerial(const std::string& serial) {
  bool good = !serial.empty() && serial.size() <= 20;
  for (const char c : serial) good = good && c >= 0x20 && c <= 0x7e;
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "nvme.serial: 1 to 20 printable ASCII characters");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const ServiceConfig& config,
                                                   ServiceContext& context) {
  if (!config.has_nvme()) {
    return absl::InvalidArgumentError(
        "the configuration is not one of an nvme");
  }
  const NvmeConfig& nvme = config.nvme();
  if (absl::Status status = CheckSerial(nvme.serial()); !status.ok()) {
    return status;
  }
  if (nvme.namespaces_size() < 1 ||
      nvme.namespaces_size() > static_cast<int>(kMaxNamespaces)) {
    return absl::InvalidArgumentError(
        absl::StrCat("nvme.namespaces: 1 to ", kMaxNamespaces));
  }
  if (nvme.queue_threads() > kMaxQueueGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat("nvme.queue_threads: at most ", kMaxQueueGroups));
  }
  auto backends = block::OpenForGroups(config, context, nvme.queue_threads());
  if (!backends.ok()) return backends.status();

  Subsystem subsystem;
  subsystem.serial = nvme.serial();
  for (const NvmeNamespaceConfig& described : nvme.namespaces()) {
    const uint32_t nsid =
        static_cast<uint32_t>(subsystem.namespaces.size()) + 1;
    const uint32_t bytes = described.block_size_bytes();
    if (described.backend() >= backends->size() ||
        (*backends)[described.backend()].empty() ||
        (bytes != 0 && bytes != 512 && bytes != 4096)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "nvme.namespaces[", nsid - 1,
          "]: a backend of its own, and blocks of 512 or 4096 bytes"));
    }
    Namespace space;
    space.backends = std::move((*backends)[described.backend()]);
    (*backends)[described.backend()].clear();
    space.block_bits = bytes == 4096 ? 12 : 9;
    NameNamespace(subsystem.serial, nsid, &space);
    subsystem.namespaces.push_back(std::move(space));
  }
  return std::make_unique<Controller>(context, std::move(subsystem));
}

}  // namespace bulkhead::nvme
