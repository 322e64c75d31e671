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
    if ((*opened)->event_fd() >= 0) context.Watch((*opened)->event_fd());
    context.AddDisk(opened->get());
    backends.push_back(*std::move(opened));
  }
  return backends;
}

}  // namespace bulkhead::block
