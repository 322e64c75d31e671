// The service process of one LSI53C895A and the disks behind it.

#include "policy/lsi53c895a.h"
#include "policy/lsi53c895a_nbd.h"
#include "policy/lsi53c895a_uring.h"
#include "services/lsi53c895a/make_device.h"
#include "services/runtime/service_main.h"

int main() {
  namespace policy = bulkhead::policy;
  return bulkhead::ServiceMain("lsi53c895a",
                               {policy::Lsi53c895a(), policy::Lsi53c895aNbd(),
                                policy::Lsi53c895aUring()},
                               bulkhead::lsi53c895a::MakeDevice);
}
