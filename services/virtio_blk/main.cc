// The service process of one virtio block device.

#include "policy/virtio_blk.h"
#include "services/runtime/service_main.h"
#include "services/virtio_blk/make_device.h"

int main() {
  return bulkhead::ServiceMain("virtio_blk", bulkhead::policy::VirtioBlk(),
                               bulkhead::virtio_blk::MakeDevice);
}
