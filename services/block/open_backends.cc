#include "services/block/open_backends.h"

#include <algorithm>
#include <utility>

#include "proto/service_config.pb.h"
#include "services/block/open.h"

namespace bulkhead::block {
namespace {

// policy/service.textproto: RLIMIT_NPROC.
constexpr unsigned kMostThreads = 16;

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenBackends(
    const ServiceConfig& config, ServiceContext& context) {
  auto disks = OpenForGroups(config, context, 1);
  if (!disks.ok()) return disks.status();
  std::vector<std::unique_ptr<Backend>> backends;
  for (auto& disk : *disks) backends.push_back(std::move(disk.front()));
  return backends;
}

absl::StatusOr<std::vector<std::vector<std::unique_ptr<Backend>>>>
OpenForGroups(const ServiceConfig& config, ServiceContext& context,
              unsigned wanted) {
  const bool shared = std::all_of(config.backends().begin(),
                                  config.backends().end(), CanBeShared);
  // A thread for each group, and a worker for each of its backends.
  const unsigned threads = static_cast<unsigned>(config.backends_size()) + 1;
  const unsigned groups =
      shared ? std::clamp(wanted, 1u, std::max(kMostThreads / threads, 1u)) : 1;
  std::vector<std::vector<std::unique_ptr<Backend>>> disks;
  for (const BackendConfig& described : config.backends()) {
    absl::StatusOr<std::vector<std::unique_ptr<Backend>>> backends;
    if (groups > 1) {
      backends = OpenShared(described, OpenOptions(), groups);
    } else {
      auto one = Open(described, OpenOptions());
      if (!one.ok()) return one.status();
      backends.emplace().push_back(*std::move(one));
    }
    if (!backends.ok()) return backends.status();
    for (unsigned group = 0; group < groups; ++group) {
      const int event_fd = (*backends)[group]->event_fd();
      if (event_fd >= 0) context.Watch(event_fd, group);
    }
    context.AddDisk(backends->front().get());
    disks.push_back(*std::move(backends));
  }
  return disks;
}

}  // namespace bulkhead::block
