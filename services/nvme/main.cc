// The service process of one NVMe controller and its namespaces.

#include "policy/nvme.h"
#include "policy/nvme_nbd.h"
#include "policy/nvme_uring.h"
#include "services/nvme/make_device.h"
#include "services/runtime/service_main.h"

int main() {
  namespace policy = bulkhead::policy;
  return bulkhead::ServiceMain(
      "nvme", {policy::Nvme(), policy::NvmeNbd(), policy::NvmeUring()},
      bulkhead::nvme::MakeDevice);
}
