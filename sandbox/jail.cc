#include "sandbox/jail.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sandbox/child.h"
#include "sandbox/host_advice.h"
#include "sandbox/violation.h"

namespace bulkhead::sandbox {
namespace {

absl::Status Failed(absl::string_view what, int error) {
  return absl::InternalError(
      absl::StrCat("cannot start a jail: ", what, ": ", strerror(error)));
}

// The message, and the host's setting that explains it where one does.
absl::Status Refused(absl::string_view what, int error,
                     const std::string& advice) {
  if (advice.empty()) return Failed(what, error);
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot start a jail: ", what, ": ", strerror(error), "; ", advice));
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return Failed(path, errno);
  const ssize_t written = write(fd, text.data(), text.size());
  const int error = errno;
  close(fd);
  if (written == static_cast<ssize_t>(text.size())) return absl::OkStatus();
  return Failed(path, error);
}

absl::Status CheckSpec(const JailSpec& spec) {
  if (spec.policy == nullptr) {
    return absl::InvalidArgumentError("jail: no policy");
  }
  if (geteuid() == 0 && spec.outside_id == 0) {
    return absl::InvalidArgumentError(
        "jail: outside_id is 0: a jailed process must not be root outside");
  }
  if (spec.program_fd < 0 && spec.program_path.empty()) {
    return absl::InvalidArgumentError("jail: no program");
  }
  if (spec.policy->empty_root && spec.program_fd < 0) {
    return absl::InvalidArgumentError(
        "jail: an empty root holds no program; give program_fd");
  }
  if (spec.arguments.empty()) {
    return absl::InvalidArgumentError("jail: no argv[0]");
  }
  for (size_t i = 0; i < spec.fds.size(); ++i) {
    const int target = spec.fds[i].target;
    if (target < 0 || target >= kProgramFd) {
      return absl::InvalidArgumentError(
          absl::StrCat("jail: fd ", target, " is out of range"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (spec.fds[j].target == target) {
        return absl::InvalidArgumentError(
            absl::StrCat("jail: fd ", target, " is given twice"));
      }
    }
  }
  return absl::OkStatus();
}

// Root's supplementary groups must not follow the child, and inside a user
// namespace that forbids setgroups no one can drop them any more.
class WithoutGroups {
 public:
  WithoutGroups() {
    if (geteuid() != 0) return;
    groups_.resize(64 * 1024);
    const int count =
        getgroups(static_cast<int>(groups_.size()), groups_.data());
    groups_.resize(count > 0 ? count : 0);
    if (!groups_.empty()) setgroups(0, nullptr);
  }
  ~WithoutGroups() {
    if (!groups_.empty()) setgroups(groups_.size(), groups_.data());
  }

 private:
  std::vector<gid_t> groups_;
};

std::string Describe(const JailSpec& spec, const Report& report) {
  std::string text = StepName(report.step);
  if (report.step == Step::kLimit) {
    for (const CompiledLimit& limit : spec.policy->limits) {
      if (limit.resource == report.detail) {
        absl::StrAppend(&text, " ", limit.name, " of ", limit.value);
      }
    }
  } else if (report.step == Step::kFds) {
    absl::StrAppend(&text, " (fd ", report.detail, ")");
  } else if (report.step == Step::kProgram) {
    absl::StrAppend(&text, " ", spec.program_path);
  } else if (report.step == Step::kTree && report.detail < 0) {
    absl::StrAppend(&text, " ", spec.tree);
  } else if (report.step == Step::kTree &&
             report.detail < static_cast<int>(spec.binds.size())) {
    absl::StrAppend(&text, " ", spec.binds[report.detail].source);
  }
  return text;
}

// One child from clone to exec, seen from the parent.
class Launch {
 public:
  explicit Launch(const JailSpec& spec) : spec_(spec) {}
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  ~Launch() {
    if (socket_ >= 0) close(socket_);
    if (process_.pid > 0) Destroy();
    if (process_.pidfd >= 0) close(process_.pidfd);
  }

  absl::StatusOr<Process> Run() {
    absl::Status done = Clone();
    if (done.ok()) done = MapIds();
    if (done.ok()) done = LetGo();
    if (done.ok()) done = AwaitReady();
    if (done.ok()) Watch();
    if (done.ok()) done = LetGo();
    if (done.ok()) done = AwaitExec();
    if (!done.ok()) return done;
    Process started = std::move(process_);
    process_ = Process();
    return started;
  }

 private:
  absl::Status Clone() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
      return Failed("socketpair", errno);
    }
    socket_ = pair[0];
    // libcap-ng looks at /proc once and remembers what capabilities there are.
    if (capng_get_caps_process() != 0) {
      return absl::InternalError("sandbox: cannot read own capabilities");
    }

    clone_args args = {};
    args.flags = spec_.policy->clone_flags | CLONE_PIDFD;
    args.pidfd = reinterpret_cast<uint64_t>(&process_.pidfd);
    args.exit_signal = SIGCHLD;
    if (spec_.cgroup_fd >= 0) {
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = spec_.cgroup_fd;
    }
    long pid;
    int error;
    {
      WithoutGroups without_groups;
      pid = syscall(SYS_clone3, &args, sizeof(args));
      error = errno;
      if (pid == 0) {
        close(pair[0]);
        RunChild(spec_, pair[1]);
      }
    }
    close(pair[1]);
    if (pid < 0) {
      process_.pidfd = -1;
      return Refused("new namespaces", error, WhyNoNamespaces(error));
    }
    process_.pid = static_cast<pid_t>(pid);
    if (geteuid() != 0 && getgroups(0, nullptr) > 0) {
      process_.unavailable.push_back(
          "dropping supplementary groups: only root can; the empty root leaves "
          "nothing that they would open");
    }
    return absl::OkStatus();
  }

  absl::Status MapIds() {
    const bool root = geteuid() == 0;
    const std::string proc = absl::StrCat("/proc/", process_.pid, "/");
    const std::string uid = absl::StrCat(
        kInsideId, " ", root ? spec_.outside_id : geteuid(), " 1\n");
    const std::string gid = absl::StrCat(
        kInsideId, " ", root ? spec_.outside_id : getegid(), " 1\n");
    absl::Status written = WriteFile(proc + "setgroups", "deny");
    if (written.ok()) written = WriteFile(proc + "gid_map", gid);
    if (written.ok()) written = WriteFile(proc + "uid_map", uid);
    if (written.ok()) return written;
    // A child that has ended has no maps; why it ended matters more.
    pollfd said = {.fd = socket_, .events = POLLIN, .revents = 0};
    if (poll(&said, 1, 0) == 1) {
      if (auto report = Receive(); !report.ok()) return report.status();
    }
    const std::string advice = WhyNoPrivileges(EPERM);
    return absl::FailedPreconditionError(absl::StrCat(
        written.message(),
        !advice.empty() ? "; " + advice
        : root          ? absl::StrCat("; id ", spec_.outside_id,
                                       " does not exist in this user namespace (a "
                                                "container?): give ids that it maps, or start "
                                                "the launcher as an ordinary user")
                        : ""));
  }

  absl::Status LetGo() {
    // A child that has failed has said why; Receive finds it.
    if (send(socket_, "g", 1, MSG_NOSIGNAL) == 1 || errno == EPIPE ||
        errno == ECONNRESET) {
      return absl::OkStatus();
    }
    return Failed("letting the child go on", errno);
  }

  absl::Status AwaitReady() {
    while (true) {
      absl::StatusOr<std::optional<Report>> report = Receive();
      if (!report.ok()) return report.status();
      if (!report->has_value()) return Failed("the child ended early", EPIPE);
      if ((*report)->kind == Report::kReady) return absl::OkStatus();
      process_.unavailable.push_back(
          absl::StrCat(Describe(spec_, **report), ": ",
                       (*report)->error == 0 ? "the host's own limit is lower"
                                             : "this host has none"));
    }
  }

  void Watch() {
    const int error = WatchForViolations(process_.pid);
    process_.watched = error == 0;
    if (error != 0) {
      process_.unavailable.push_back(absl::StrCat(
          "violation reports: tracing is refused (", strerror(error),
          "); kernel.yama.ptrace_scope 3, or a container's "
          "profile, does that"));
    }
  }

  // The socket closes by the exec itself, or a report says why there is none.
  absl::Status AwaitExec() {
    absl::StatusOr<std::optional<Report>> report = Receive();
    if (!report.ok()) return report.status();
    if (report->has_value()) return Failed("an unexpected report", EPROTO);
    return absl::OkStatus();
  }

  // A packet, or nothing when the child has closed its end, which the exec
  // does. A child that dies of its filter before that is stopped, not gone, and
  // its end stays open until its stops are handled.
  absl::StatusOr<std::optional<Report>> Receive() {
    while (true) {
      pollfd ready = {.fd = socket_, .events = POLLIN, .revents = 0};
      const int count = poll(&ready, 1, /*timeout_ms=*/10);
      if (count < 0 && errno != EINTR) return Failed("poll", errno);
      if (count <= 0) {
        if (absl::Status stops = CheckStops(); !stops.ok()) return stops;
        continue;
      }
      Report report;
      const ssize_t size = recv(socket_, &report, sizeof(report), 0);
      if (size == 0) return std::optional<Report>();
      // The child ended without reading our last byte; its report is next.
      if (size < 0 && errno == ECONNRESET) continue;
      if (size != sizeof(report)) return Failed("report", EPROTO);
      if (report.kind == Report::kFailed) {
        return Refused(Describe(spec_, report), report.error,
                       AdviceFor(report));
      }
      return std::optional<Report>(report);
    }
  }

  static std::string AdviceFor(const Report& report) {
    if (report.step == Step::kExec && report.error == EACCES) {
      return "the program's file must be executable by everyone and lie on a "
             "file system that is not mounted noexec";
    }
    if (report.step == Step::kPivot && report.error == EINVAL) {
      return "the host's root is an initial ramdisk, which cannot be left";
    }
    return WhyNoPrivileges(report.error);
  }

  absl::Status CheckStops() {
    if (!process_.watched) return absl::OkStatus();
    for (const Violation& violation : HandleStops()) {
      if (violation.pid == process_.pid) {
        return absl::InternalError(absl::StrCat(
            "cannot start a jail: the policy ", spec_.policy->name,
            " does not allow system call ", violation.number,
            " with arguments ", absl::StrJoin(violation.args, ", ")));
      }
    }
    return absl::OkStatus();
  }

  // No process is left behind by an error.
  void Destroy() {
    kill(process_.pid, SIGKILL);
    std::vector<Violation> held;
    pollfd gone = {.fd = process_.pidfd, .events = POLLIN, .revents = 0};
    // Also after a signal: waitpid would swallow a stop that is not handled
    // yet.
    while (poll(&gone, 1, /*timeout_ms=*/1) <= 0) {
      for (const Violation& violation : HandleStops()) {
        if (violation.pid != process_.pid) held.push_back(violation);
      }
    }
    for (const Violation& violation : held) ReportLater(violation);
    waitpid(process_.pid, nullptr, 0);
  }

  const JailSpec& spec_;
  int socket_ = -1;
  Process process_;
};

}  // namespace

absl::StatusOr<Process> Spawn(const JailSpec& spec) {
  if (absl::Status checked = CheckSpec(spec); !checked.ok()) return checked;
  return Launch(spec).Run();
}

}  // namespace bulkhead::sandbox
