// The console process: console.h, under its policy.

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "console/console.h"
#include "console/console_fds.h"
#include "policy/console.h"
#include "policy/explain.h"
#include "sandbox/heap.h"
#include "sandbox/last_words.h"
#include "sandbox/lock_down.h"

namespace bulkhead::console {
namespace {

// Lines and QMP answers come in all sizes; pages that are not touched cost
// nothing.
constexpr size_t kHeapBytes = 64 << 20;

int Fail(absl::string_view what) {
  const std::string line = absl::StrCat("console: ", what, "\n");
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, line.data(), line.size());
  return EXIT_FAILURE;
}

int Main() {
  sandbox::SetLastWordsWriter(sandbox::WriteLastWordsByWrite);
  sandbox::ConfigureHeap();
  (void)signal(SIGPIPE, SIG_IGN);
  Channel control(kControlFd);
  ConsoleConfig config;
  for (bool configured = false; !configured;) {
    Channel::Received received;
    const absl::Status status = control.Receive(/*wait=*/true, &received);
    if (!status.ok()) return Fail(status.message());
    configured = control.incoming().has_configure();
    if (configured) config = control.incoming().configure().console();
  }
  Console console(&control, config);
  // What reading a policy needs once, so that a violation can be explained.
  (void)policy::CompiledInPolicy("console");
  if (!sandbox::ReserveHeap(kHeapBytes)) return Fail("no memory");
  const absl::Status locked = sandbox::LockDown(policy::Console());
  if (!locked.ok()) return Fail(locked.message());
  control.outgoing().mutable_ready();
  if (absl::Status status = control.Send(); !status.ok()) {
    return Fail(status.message());
  }
  console.Run();
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace bulkhead::console

int main() { return bulkhead::console::Main(); }
