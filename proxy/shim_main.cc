#include "proxy/shim_main.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "policy/shim.h"
#include "proto/channel.h"
#include "proxy/remote_device.h"
#include "proxy/shim.h"
#include "proxy/shim_fds.h"
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

}  // namespace

int ShimMain(MakeFrontEnd make_front_end) {
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
  FrontEnd& front_end = make_front_end(kShimQemuFd, device);
  Shim shim(control, device, front_end);

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
  device.link().Connect(kShimChannelFd);
  shim.Run();
  return EXIT_SUCCESS;
}

}  // namespace bulkhead::proxy
