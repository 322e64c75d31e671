// The service process of one example device.

#include <memory>

#include "policy/example.h"
#include "services/example/device.h"
#include "services/runtime/service_main.h"

namespace bulkhead::example {
namespace {

// A device with settings or disks looks at `config`, and says what is wrong.
absl::StatusOr<std::unique_ptr<bulkhead::Device>> MakeDevice(
    const ServiceConfig& /*config*/, ServiceContext& context) {
  return std::make_unique<Device>(context);
}

}  // namespace
}  // namespace bulkhead::example

int main() {
  return bulkhead::ServiceMain("example", bulkhead::policy::Example(),
                               bulkhead::example::MakeDevice);
}
