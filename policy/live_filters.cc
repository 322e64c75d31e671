#include "policy/live_filters.h"

#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sandbox/live_filters.h"

namespace bulkhead::policy {
namespace {

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
  std::vector<std::vector<sock_filter>> filters;
  const int error = sandbox::ReadFilters(pid, /*detach=*/!ours, &filters);
  if (error != 0) return Refused(WhyUnread(error));
  return filters;
}

std::string WhyUnread(int error) {
  if (error == EACCES || error == EPERM) {
    return "reading filters back takes CAP_SYS_ADMIN and a reader without "
           "filters of its own";
  }
  if (error == ETIME) return "it does not stop";
  return absl::StrCat("reading filters back: ", strerror(error));
}

}  // namespace bulkhead::policy
