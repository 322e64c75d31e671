// The adapter: one process per device that lives in a remote process of QEMU's
// own, between that and QEMU's vfio-user-pci.

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "policy/x_remote_adapter.h"
#include "proto/channel.h"
#include "proxy/shim.h"
#include "proxy/vfio_user_front_end.h"
#include "proxy/x_remote/adapter.h"
#include "proxy/x_remote/adapter_fds.h"
#include "proxy/x_remote/x_remote_device.h"
#include "sandbox/heap.h"
#include "sandbox/last_words.h"
#include "sandbox/lock_down.h"

namespace bulkhead::proxy {
namespace {

// As the shim: all the heap at once, so that the steady filter needs no brk.
constexpr size_t kHeapBytes = 8 << 20;

// QEMU builds a machine first.
constexpr uint64_t kProbePatienceNs = 12'000'000'000;

int Fail(absl::string_view what) {
  const std::string line = absl::StrCat("adapter: ", what, "\n");
  [[maybe_unused]] const ssize_t written =
      write(kAdapterLogFd, line.data(), line.size());
  return EXIT_FAILURE;
}

int Main() {
  sandbox::SetLastWordsWriter(sandbox::WriteLastWordsByWrite);
  sandbox::ConfigureHeap();
  Channel control(kAdapterControlFd);
  const absl::StatusOr<ShimSettings> settings = ReceiveSettings(control);
  if (!settings.ok()) return Fail(settings.status().message());
  if (fcntl(kAdapterQemuFd, F_SETFL, O_RDWR | O_NONBLOCK) != 0) {
    return Fail("descriptor 5 is no socket");
  }
  const XRemoteDeadlines deadlines = {settings->deadlines.access,
                                      settings->deadlines.reset};
  XRemoteDevice& device = *new XRemoteDevice(kAdapterRemoteFd, kAdapterRamFd,
                                             settings->ram, deadlines);
  VfioUserFrontEnd& front_end = *new VfioUserFrontEnd(kAdapterQemuFd, device);

  if (!sandbox::ReserveHeap(kHeapBytes)) {
    // What was made lives as long as the process.
    return Fail("no room for the heap");  // NOLINT(clang-analyzer-*)
  }
  absl::Status status = sandbox::LockDown(policy::XRemoteAdapter());
  if (!status.ok()) return Fail(status.message());
  status = device.Probe(kProbePatienceNs);
  if (!status.ok()) {
    control.outgoing().mutable_fault()->set_message(
        std::string(status.message()));
    control.Send().IgnoreError();
    return EXIT_FAILURE;
  }
  control.outgoing().mutable_ready();
  if (status = control.Send(); !status.ok()) return Fail(status.message());
  Adapter(control, device, front_end).Run();
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace bulkhead::proxy

int main() { return bulkhead::proxy::Main(); }
