#include "policy/live_filters.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::policy {
namespace {

constexpr auto kGetFilter = static_cast<__ptrace_request>(0x420c);
// More than any process of ours or QEMU stacks.
constexpr unsigned long kMostFilters = 64;

// "TracerPid:" of /proc/PID/status.
pid_t TracerOf(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "TracerPid:")) return atoi(line.c_str() + 10);
  }
  return 0;
}

// Whether it stops within half a second, for whatever reason: the stop stays to
// be waited for.
bool Stops(pid_t pid) {
  for (int tries = 0; tries < 500; ++tries) {
    siginfo_t info = {};
    if (waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | WNOWAIT | __WALL) != 0) {
      return false;
    }
    if (info.si_pid == pid) return true;
    usleep(1000);
  }
  return false;
}

// Undoes Stops. A stop that was there for another reason (its exit, a signal, a
// new thread) is left to the tracer's own loop.
void LetGo(pid_t pid, bool ours) {
  siginfo_t info = {};
  if (!ours) {
    ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  } else if (waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | WNOWAIT | __WALL) ==
                 0 &&
             info.si_status == (SIGTRAP | PTRACE_EVENT_STOP << 8)) {
    waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | __WALL);
    ptrace(PTRACE_CONT, pid, nullptr, nullptr);
  }
}

absl::Status Refused(const std::string& why) {
  return absl::PermissionDeniedError(why);
}

}  // namespace

absl::StatusOr<std::vector<std::vector<sock_filter>>> ReadLiveFilters(
    pid_t pid) {
  const pid_t tracer = TracerOf(pid);
  const bool ours = tracer == getpid();
  if (!ours && tracer != 0) {
    return Refused(absl::StrCat("process ", tracer,
                                " traces it (the launcher, to report "
                                "violations), and a process has one tracer"));
  }
  if (!ours && ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) {
    return Refused(absl::StrCat("cannot trace it: ", strerror(errno)));
  }
  if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 || !Stops(pid)) {
    if (!ours) ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
    return Refused("it does not stop");
  }
  std::vector<std::vector<sock_filter>> filters;
  int error = 0;
  for (unsigned long index = 0; index < kMostFilters; ++index) {
    const long size = ptrace(kGetFilter, pid, index, nullptr);
    if (size < 0) {
      error = errno;
      break;
    }
    filters.emplace_back(size);
    if (ptrace(kGetFilter, pid, index, filters.back().data()) != size) {
      error = errno;
      break;
    }
  }
  LetGo(pid, ours);
  // After the last one.
  if (error == ENOENT || (error == EINVAL && !filters.empty())) return filters;
  if (error == EACCES || error == EPERM) {
    return Refused(
        "reading filters back takes CAP_SYS_ADMIN and a reader "
        "without filters of its own");
  }
  return Refused(absl::StrCat("reading filters back: ", strerror(error)));
}

}  // namespace bulkhead::policy
