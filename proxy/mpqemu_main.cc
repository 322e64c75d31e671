// The shim behind QEMU's x-pci-proxy-dev (5.2 and later).

#include <sys/socket.h>

#include "proxy/mpqemu_front_end.h"
#include "proxy/shim_main.h"

namespace bulkhead::proxy {
namespace {

// QEMU holds the other end from its start, unless it is somebody's own.
FrontEnd& MakeMpqemuFrontEnd(int qemu_socket, DevicePort& device) {
  int listening = 1;
  socklen_t size = sizeof listening;
  getsockopt(qemu_socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
  return *new MpqemuFrontEnd(
      qemu_socket,
      listening != 0 ? QemuSocket::kListening : QemuSocket::kConnected, device);
}

}  // namespace
}  // namespace bulkhead::proxy

int main() {
  return bulkhead::proxy::ShimMain(&bulkhead::proxy::MakeMpqemuFrontEnd);
}
