#include "services/lsi53c895a/make_device.h"

#include <utility>

#include "absl/status/status.h"
#include "proto/service_config.pb.h"
#include "services/block/open_backends.h"
#include "services/lsi53c895a/controller.h"
#include "services/scsi/bus.h"
#include "services/scsi/unit_config.h"

namespace bulkhead::lsi53c895a {

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const ServiceConfig& config,
                                                   ServiceContext& context) {
  if (!config.has_lsi53c895a()) {
    return absl::InvalidArgumentError(
        "the configuration is not one of an lsi53c895a");
  }
  auto backends = block::OpenBackends(config, context);
  if (!backends.ok()) return backends.status();
  auto units = scsi::UnitsFromConfig(config.device_id(),
                                     config.lsi53c895a().units(), *backends);
  if (!units.ok()) return units.status();
  auto bus = scsi::MakeBus(*units);
  if (!bus.ok()) return bus.status();
  return std::make_unique<Controller>(context, *std::move(bus),
                                      *std::move(backends));
}

}  // namespace bulkhead::lsi53c895a
