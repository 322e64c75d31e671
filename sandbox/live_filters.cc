#include "sandbox/live_filters.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bulkhead::sandbox {
namespace {

// More than any process of ours or QEMU stacks.
constexpr unsigned long kMostFilters = 64;
constexpr int kPeek = WSTOPPED | WNOHANG | WNOWAIT | __WALL;

// Whether it stops within half a second, for whatever reason: the stop stays to
// be waited for.
bool Stops(pid_t pid) {
  for (int tries = 0; tries < 500; ++tries) {
    siginfo_t info = {};
    if (waitid(P_PID, pid, &info, kPeek) != 0) return false;
    if (info.si_pid == pid) return true;
    usleep(1000);
  }
  return false;
}

int ReadStopped(pid_t pid, std::vector<std::vector<sock_filter>>* filters) {
  for (unsigned long index = 0; index < kMostFilters; ++index) {
    const long size = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, nullptr);
    // After the last one.
    if (size < 0 && (errno == ENOENT || (errno == EINVAL && index > 0))) break;
    if (size < 0) return errno;
    filters->emplace_back(size);
    if (ptrace(PTRACE_SECCOMP_GET_FILTER, pid, index, filters->back().data()) !=
        size) {
      return errno;
    }
  }
  return 0;
}

// Undoes PTRACE_INTERRUPT. A stop that was there for another reason (its exit,
// a signal, a new thread) is the tracer's loop's.
void Continue(pid_t pid) {
  siginfo_t info = {};
  if (waitid(P_PID, pid, &info, kPeek) == 0 &&
      info.si_status == (SIGTRAP | PTRACE_EVENT_STOP << 8)) {
    waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | __WALL);
    ptrace(PTRACE_CONT, pid, nullptr, nullptr);
  }
}

}  // namespace

int ReadFilters(pid_t tracee, bool detach,
                std::vector<std::vector<sock_filter>>* filters) {
  int error = ETIME;
  if (ptrace(PTRACE_INTERRUPT, tracee, nullptr, nullptr) == 0 &&
      Stops(tracee)) {
    error = ReadStopped(tracee, filters);
  }
  if (detach) {
    ptrace(PTRACE_DETACH, tracee, nullptr, nullptr);
  } else {
    Continue(tracee);
  }
  return error;
}

}  // namespace bulkhead::sandbox
