#include "services/block/open_backends.h"

#include <utility>

#include "proto/service_config.pb.h"
#include "services/block/open.h"

namespace bulkhead::block {

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenBackends(
    const ServiceConfig& config, ServiceContext& context) {
  std::vector<std::unique_ptr<Backend>> backends;
  for (const BackendConfig& backend : config.backends()) {
    auto opened = Open(backend, OpenOptions());
    if (!opened.ok()) return opened.status();
    if ((*opened)->event_fd() >= 0) context.Watch((*opened)->event_fd(), 0);
    context.AddDisk(opened->get());
    backends.push_back(*std::move(opened));
  }
  return backends;
}

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenForGroups(
    const ServiceConfig& config, ServiceContext& context, unsigned wanted) {
  if (wanted < 2 || !CanBeShared(config.backends(0))) {
    return OpenBackends(config, context);
  }
  auto backends = OpenShared(config.backends(0), OpenOptions(), wanted);
  if (!backends.ok()) return backends;
  for (unsigned group = 0; group < backends->size(); ++group) {
    context.Watch((*backends)[group]->event_fd(), group);
  }
  context.AddDisk(backends->front().get());
  return backends;
}

}  // namespace bulkhead::block
