#include "sandbox/jail.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/child.h"

namespace bulkhead::sandbox {
namespace {

// What would make a jail that is none.
bool IsSound(const JailSpec& spec) {
  return spec.policy != nullptr && !spec.arguments.empty() &&
         (geteuid() != 0 || spec.outside_id != 0) &&
         (spec.program_fd >= 0 ||
          (!spec.policy->empty_root && !spec.program_path.empty()));
}

bool WriteFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t written = write(fd, text.data(), text.size());
  const int error = errno;
  close(fd);
  errno = error;
  return written == static_cast<ssize_t>(text.size());
}

// One child from clone to where it waits, seen from the parent. Each step is
// false when it has failed, with the reason in *failure_.
class Preparation {
 public:
  Preparation(const JailSpec& spec, Report* failure)
      : spec_(spec), failure_(failure) {}
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  ~Preparation() {
    if (child_.socket >= 0) close(child_.socket);
    if (child_.pid > 0) EndChild(child_.pid, child_.pidfd);
    if (child_.pidfd >= 0) close(child_.pidfd);
  }

  std::optional<JailedChild> Run() {
    if (!Clone() || !MapIds() || !LetGo() || !AwaitReady()) return std::nullopt;
    return std::exchange(child_, JailedChild());
  }

 private:
  bool Fail(Step step, int error, int detail = 0) {
    *failure_ = {Report::kFailed, step, error, detail};
    return false;
  }
  void Unavailable(Step step, int error) {
    child_.unavailable.push_back({Report::kUnavailable, step, error, 0});
  }

  bool Clone() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
      return Fail(Step::kSocket, errno);
    }
    child_.socket = pair[0];
    // libcap-ng looks at /proc once and remembers what capabilities there are.
    if (capng_get_caps_process() != 0) {
      return Fail(Step::kOwnCapabilities, errno);
    }

    clone_args args = {};
    args.flags = spec_.policy->clone_flags | CLONE_PIDFD;
    args.pidfd = reinterpret_cast<uint64_t>(&child_.pidfd);
    args.exit_signal = SIGCHLD;
    const long pid = syscall(SYS_clone3, &args, sizeof(args));
    const int error = errno;
    if (pid == 0) {
      close(pair[0]);
      RunChild(spec_, pair[1]);
    }
    close(pair[1]);
    if (pid < 0) {
      child_.pidfd = -1;
      return Fail(Step::kNamespaces, error);
    }
    child_.pid = static_cast<pid_t>(pid);
    if (geteuid() != 0 && getgroups(0, nullptr) > 0) {
      Unavailable(Step::kGroups, EPERM);
    }
    return true;
  }

  bool MapIds() {
    const bool root = geteuid() == 0;
    const std::string proc = absl::StrCat("/proc/", child_.pid, "/");
    const std::string uid = absl::StrCat(
        kInsideId, " ", root ? spec_.outside_id : geteuid(), " 1\n");
    const std::string gid = absl::StrCat(
        kInsideId, " ", root ? spec_.outside_id : getegid(), " 1\n");
    if (WriteFile(proc + "setgroups", "deny") &&
        WriteFile(proc + "gid_map", gid) && WriteFile(proc + "uid_map", uid)) {
      return true;
    }
    const int error = errno;
    // A child that has ended has no maps; why it ended matters more.
    pollfd said = {.fd = child_.socket, .events = POLLIN, .revents = 0};
    std::optional<Report> report;
    if (poll(&said, 1, 0) == 1 && !Receive(&report)) return false;
    return Fail(Step::kIdMaps, error);
  }

  bool LetGo() {
    // A child that has failed has said why; Receive finds it.
    return send(child_.socket, "g", 1, MSG_NOSIGNAL) == 1 || errno == EPIPE ||
           errno == ECONNRESET || Fail(Step::kSocket, errno);
  }

  bool AwaitReady() {
    std::optional<Report> report;
    while (Receive(&report)) {
      if (!report.has_value()) return Fail(Step::kEarlyEnd, 0);
      if (report->kind == Report::kReady) return true;
      child_.unavailable.push_back(*report);
    }
    return false;
  }

  // A packet, or nothing when the child has closed its end by dying.
  bool Receive(std::optional<Report>* received) {
    received->reset();
    Report report;
    ssize_t size;
    do {
      size = recv(child_.socket, &report, sizeof(report), 0);
      // The child ended without reading our last byte; its report is next.
    } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
    if (size == 0) return true;
    if (size != sizeof(report)) return Fail(Step::kSocket, EPROTO);
    if (report.kind == Report::kFailed) {
      *failure_ = report;
      return false;
    }
    *received = report;
    return true;
  }

  const JailSpec& spec_;
  Report* const failure_;
  JailedChild child_;
};

}  // namespace

std::optional<JailedChild> PrepareJail(const JailSpec& spec, Report* failure) {
  *failure = Report();
  if (!IsSound(spec)) return std::nullopt;
  return Preparation(spec, failure).Run();
}

}  // namespace bulkhead::sandbox
