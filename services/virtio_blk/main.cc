// The service process of one virtio block device.

#include "policy/virtio_blk.h"
#include "policy/virtio_blk_nbd.h"
#include "policy/virtio_blk_uring.h"
#include "services/runtime/service_main.h"
#include "services/virtio_blk/make_device.h"

int main() {
  namespace policy = bulkhead::policy;
  return bulkhead::ServiceMain(
      "virtio_blk",
      {policy::VirtioBlk(), policy::VirtioBlkNbd(), policy::VirtioBlkUring()},
      bulkhead::virtio_blk::MakeDevice);
}
