// OpenBackends opens every image of a service's configuration, in its order,
// and has the loop woken when one has something to complete.
//
// TRUST    As open.h says.
// ERRORS   What Open returns for the first image that cannot be opened.
// THREADS  Set-up.

#ifndef BULKHEAD_SERVICES_BLOCK_OPEN_BACKENDS_H_
#define BULKHEAD_SERVICES_BLOCK_OPEN_BACKENDS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/backend.h"
#include "services/runtime/service_context.h"

namespace bulkhead {
class ServiceConfig;
}

namespace bulkhead::block {

absl::StatusOr<std::vector<std::unique_ptr<Backend>>> OpenBackends(
    const ServiceConfig& config, ServiceContext& context);

// For a device whose queues are served in groups (services/runtime/
// queue_groups.h): of each image a backend for each group, the first one's for
// the loop. There are as many groups as are wanted; fewer where that were more
// threads than a service may have, and one where some image cannot be shared.
absl::StatusOr<std::vector<std::vector<std::unique_ptr<Backend>>>>
OpenForGroups(const ServiceConfig& config, ServiceContext& context,
              unsigned wanted);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_OPEN_BACKENDS_H_
