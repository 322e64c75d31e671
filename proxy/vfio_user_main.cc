// The shim behind QEMU's vfio-user-pci (10.1 and later).

#include "proxy/shim_main.h"
#include "proxy/vfio_user_front_end.h"

int main() {
  using bulkhead::proxy::DevicePort;
  using bulkhead::proxy::FrontEnd;
  return bulkhead::proxy::ShimMain(
      [](int qemu_socket, DevicePort& device) -> FrontEnd& {
        return *new bulkhead::proxy::VfioUserFrontEnd(qemu_socket, device);
      });
}
