#include "tests/trace/recorder.h"

#include <memory>
#include <utility>

#include "services/nvme/make_device.h"
#include "services/virtio/transport.h"
#include "services/virtio_blk/make_device.h"
#include "tests/trace/observers.h"
#include "tests/trace/recording_device.h"

namespace bulkhead::testing {
namespace {

using Observe = std::unique_ptr<DriverObserver> (*)(GuestMemory&, FILE*);

// `observed`: the region of its registers.
DeviceFactory Recorded(DeviceFactory make, Observe observe, uint32_t observed,
                       FILE* trace) {
  return [=](const ServiceConfig& config, ServiceContext& context)
             -> absl::StatusOr<std::unique_ptr<Device>> {
    auto device = make(config, context);
    if (!device.ok()) return device.status();
    return std::make_unique<RecordingDevice>(
        *std::move(device), observe(context.memory(), trace), observed, trace);
  };
}

}  // namespace

DeviceFactory RecordedNvme(FILE* trace) {
  return Recorded(nvme::MakeDevice, ObserveNvme, /*observed=*/0, trace);
}

DeviceFactory RecordedVirtioBlk(FILE* trace) {
  return Recorded(virtio_blk::MakeDevice, ObserveVirtioBlk,
                  virtio::kStructuresBar, trace);
}

}  // namespace bulkhead::testing
