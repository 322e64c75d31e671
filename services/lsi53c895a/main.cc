// The service process of one LSI53C895A and the disks behind it.

#include "policy/lsi53c895a.h"
#include "services/lsi53c895a/make_device.h"
#include "services/runtime/service_main.h"

int main() {
  return bulkhead::ServiceMain("lsi53c895a", bulkhead::policy::Lsi53c895a(),
                               bulkhead::lsi53c895a::MakeDevice);
}
