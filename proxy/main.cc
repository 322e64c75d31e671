// The shim: one process per device between QEMU and a jailed service.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "policy/shim.h"
#include "proto/channel.h"
#include "proxy/mpqemu_front_end.h"
#include "proxy/remote_device.h"
#include "proxy/shim.h"
#include "proxy/shim_fds.h"
#include "proxy/vfio_user_front_end.h"
#include "sandbox/heap.h"
#include "sandbox/last_words.h"
#include "sandbox/lock_down.h"

namespace bulkhead::proxy {
namespace {

// All the heap that frames of up to 64 KiB can need. It is fetched at once and
// never given back, so that the steady filter needs no brk.
constexpr size_t kHeapBytes = 8 << 20;

int Fail(absl::string_view what) {
  const std::string line = absl::StrCat("shim: ", what, "\n");
  [[maybe_unused]] const ssize_t written =
      write(kShimLogFd, line.data(), line.size());
  return EXIT_FAILURE;
}

// Large, and made once: it lives as long as the process.
FrontEnd& MakeFrontEnd(QemuProtocol protocol, DevicePort& device) {
  int listening = 1;
  socklen_t size = sizeof listening;
  getsockopt(kShimQemuFd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
  const QemuSocket kind =
      listening != 0 ? QemuSocket::kListening : QemuSocket::kConnected;
  if (protocol == MPQEMU_PROTOCOL) {
    return *new MpqemuFrontEnd(kShimQemuFd, kind, device);
  }
  return *new VfioUserFrontEnd(kShimQemuFd, device);
}

int Main() {
  sandbox::SetLastWordsWriter(sandbox::WriteLastWordsByWrite);
  sandbox::ConfigureHeap();
  Channel control(kShimControlFd);
  const absl::StatusOr<ShimSettings> settings = ReceiveSettings(control);
  if (!settings.ok()) return Fail(settings.status().message());

  // Nothing that this loop asks of the kernel may wait, other than its poll.
  if (fcntl(kShimQemuFd, F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    return Fail("descriptor 5 is no socket");
  }
  RemoteDevice& device = *new RemoteDevice(settings->deadlines, settings->ram);
  FrontEnd& front_end = MakeFrontEnd(settings->protocol, device);
  Shim shim(*settings, control, device, front_end);

  if (!sandbox::ReserveHeap(kHeapBytes)) {
    // What was made lives as long as the process.
    return Fail("no room for the heap");  // NOLINT(clang-analyzer-*)
  }
  const absl::Status locked = sandbox::LockDown(policy::Shim());
  if (!locked.ok()) return Fail(locked.message());
  control.outgoing().mutable_ready();
  if (absl::Status status = control.Send(); !status.ok()) {
    return Fail(status.message());
  }
  device.Connect(kShimChannelFd);
  shim.Run();
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace bulkhead::proxy

int main() { return bulkhead::proxy::Main(); }
