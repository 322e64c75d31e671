// The service process of one NVMe controller and its namespaces.

#include "policy/nvme.h"
#include "services/nvme/make_device.h"
#include "services/runtime/service_main.h"

int main() {
  return bulkhead::ServiceMain("nvme", bulkhead::policy::Nvme(),
                               bulkhead::nvme::MakeDevice);
}
