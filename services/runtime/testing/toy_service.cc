// ToyDevice as a program, under the policy of a real device.

#include <memory>

#include "policy/lsi53c895a.h"
#include "services/runtime/service_main.h"
#include "services/runtime/testing/toy_device.h"

int main() {
  return bulkhead::ServiceMain(
      "toy", bulkhead::policy::Lsi53c895a(),
      [](const bulkhead::ServiceConfig&, bulkhead::ServiceContext& context)
          -> absl::StatusOr<std::unique_ptr<bulkhead::Device>> {
        return std::unique_ptr<bulkhead::Device>(
            new bulkhead::ToyDevice(context));
      });
}
