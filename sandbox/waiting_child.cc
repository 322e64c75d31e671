#include "sandbox/waiting_child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/violation.h"

namespace bulkhead::sandbox {
namespace {

bool Fail(Report* failure, Step step, int error, int detail = 0) {
  *failure = {Report::kFailed, step, error, detail};
  return false;
}

// Its end of the socket closes by the exec itself, or a report says why there
// is none. A child that dies of its filter is stopped, not gone, and its end
// stays open until its stops are handled.
bool AwaitExec(const WaitingChild& child, Report* failure) {
  while (true) {
    pollfd ready = {.fd = child.socket, .events = POLLIN, .revents = 0};
    const int count = poll(&ready, 1, /*timeout_ms=*/10);
    if (count < 0 && errno != EINTR) return Fail(failure, Step::kSocket, errno);
    if (count <= 0) {
      HandleStops();
      const auto violation = TakeDeath(child.pid).violation;
      if (!violation.has_value()) continue;
      return Fail(failure, Step::kPolicy, 0, violation->number);
    }
    Report report;
    const ssize_t size = recv(child.socket, &report, sizeof(report), 0);
    if (size == 0) return true;
    // The child ended without reading our byte; its report is next.
    if (size < 0 && errno == ECONNRESET) continue;
    if (size != sizeof(report)) return Fail(failure, Step::kSocket, EPROTO);
    *failure = report;
    return false;
  }
}

}  // namespace

bool Release(const WaitingChild& child, int* trace_error, Report* failure) {
  *trace_error = WatchForViolations(child.pid);
  // A child that has failed has said why.
  const bool sent = send(child.socket, "g", 1, MSG_NOSIGNAL) == 1 ||
                    errno == EPIPE || errno == ECONNRESET;
  const bool released =
      sent ? AwaitExec(child, failure) : Fail(failure, Step::kSocket, errno);
  close(child.socket);
  return released;
}

void EndChild(pid_t pid, int pidfd) {
  kill(pid, SIGKILL);
  pollfd gone = {.fd = pidfd, .events = POLLIN, .revents = 0};
  // Also after a signal: waitpid would swallow a stop that is not handled yet.
  while (poll(&gone, 1, /*timeout_ms=*/1) <= 0) HandleStops();
  waitpid(pid, nullptr, 0);
  // Another process may get its number.
  (void)TakeDeath(pid);
}

}  // namespace bulkhead::sandbox
