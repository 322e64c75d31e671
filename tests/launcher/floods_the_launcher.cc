// A service that never stops telling its launcher of errors, in frames as large
// as there can be.

#include <unistd.h>

#include <string>

#include "policy/lsi53c895a.h"
#include "proto/channel.h"
#include "proto/service_fds.h"
#include "sandbox/heap.h"
#include "sandbox/lock_down.h"

namespace bulkhead {
namespace {

constexpr size_t kHeapReserveBytes = 8 << 20;
constexpr size_t kTextBytes = 60'000;
constexpr int kPatienceMs = 1000;

int Main() {
  sandbox::ConfigureHeap();
  Channel control(kControlFd);
  Channel::Received received;
  if (!control.Receive(/*wait=*/true, &received).ok()) return 2;  // Hello
  control.outgoing().mutable_hello()->set_version(kProtocolVersion);
  if (!control.Send().ok() ||
      !control.Receive(/*wait=*/true, &received).ok()) {  // Configure
    return 2;
  }
  const std::string text(kTextBytes, 'x');
  if (!sandbox::ReserveHeap(kHeapReserveBytes) ||
      !sandbox::LockDown(policy::Lsi53c895a()).ok()) {
    return 3;
  }
  control.outgoing().mutable_ready();
  absl::Status status = control.Send();
  while (status.ok() || absl::IsResourceExhausted(status)) {
    if (!status.ok()) control.WaitToSend(kPatienceMs);
    control.outgoing().mutable_backend_error()->set_message(text);
    status = control.Send();
  }
  return 0;  // the launcher has closed
}

}  // namespace
}  // namespace bulkhead

int main() { _exit(bulkhead::Main()); }
