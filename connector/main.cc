// The connector process: connector.h, under its policy.

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "connector/connector.h"
#include "connector/connector_fds.h"
#include "policy/connector.h"
#include "proto/channel.h"
#include "sandbox/heap.h"
#include "sandbox/last_words.h"
#include "sandbox/lock_down.h"

namespace bulkhead::connector {
namespace {

constexpr size_t kHeapBytes = 1 << 20;

int Fail(absl::string_view what) {
  const std::string line = absl::StrCat("connector: ", what, "\n");
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, line.data(), line.size());
  return EXIT_FAILURE;
}

int Main() {
  sandbox::SetLastWordsWriter(sandbox::WriteLastWordsByWrite);
  sandbox::ConfigureHeap();
  (void)signal(SIGPIPE, SIG_IGN);
  Channel control(kControlFd);
  Connector connector(kControlFd, kServiceFd);
  for (;;) {
    Channel::Received received;
    const absl::Status status = control.Receive(/*wait=*/true, &received);
    if (!status.ok()) return Fail(status.message());
    if (!control.incoming().has_configure()) continue;
    const ConnectorConfig& config = control.incoming().configure().connector();
    // The way to a socket that its server makes anew at each start.
    if (!config.socket_name().empty() && fchdir(kFolderFd) != 0) {
      return Fail("the folder of the server's socket is not there");
    }
    if (absl::Status taken = connector.Configure(config); !taken.ok()) {
      return Fail(taken.message());
    }
    break;
  }
  if (!sandbox::ReserveHeap(kHeapBytes)) return Fail("no memory");
  const absl::Status locked = sandbox::LockDown(policy::Connector());
  if (!locked.ok()) return Fail(locked.message());
  control.outgoing().mutable_ready();
  if (absl::Status status = control.Send(); !status.ok()) {
    return Fail(status.message());
  }
  connector.Run();
  _exit(EXIT_SUCCESS);
}

}  // namespace
}  // namespace bulkhead::connector

int main() { return bulkhead::connector::Main(); }
