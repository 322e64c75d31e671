#include "policy/live_filters.h"

#include <errno.h>
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

// "TracerPid:" of /proc/PID/status.
pid_t TracerOf(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "TracerPid:")) return atoi(line.c_str() + 10);
  }
  return 0;
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
  int status = 0;
  if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 ||
      waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) {
    return Refused("it does not stop");
  }
  std::vector<std::vector<sock_filter>> filters;
  int error = 0;
  for (unsigned long index = 0;; ++index) {
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
  ptrace(ours ? PTRACE_CONT : PTRACE_DETACH, pid, nullptr, nullptr);
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
