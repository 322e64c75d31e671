// The jail, with a program inside that misbehaves on purpose. When the test is
// run by root, every case runs twice: as root, and as an ordinary user with
// nothing but user namespaces.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "policy/lsi53c895a.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"

namespace bulkhead::sandbox {
namespace {

constexpr uid_t kOutsideId = 200123;
int program_fd = -1;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// "Name:\tvalue" of /proc/PID/status.
std::string Status(pid_t pid, const std::string& name) {
  std::istringstream lines(ReadAll(absl::StrCat("/proc/", pid, "/status")));
  for (std::string line; std::getline(lines, line);) {
    if (absl::StartsWith(line, name + ":")) {
      return line.substr(name.size() + 2);
    }
  }
  return "";
}

std::string Link(const std::string& path) {
  char target[512];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  return size < 0 ? strerror(errno) : std::string(target, size);
}

// How an attempt ended.
struct Outcome {
  std::string output;  // what the probe could say
  int signal = 0;
  int status = 0;
  std::optional<Violation> violation;

  bool Killed() const { return signal == SIGSYS; }
};

// A jail with the probe inside, its log pipe and its parent's sockets.
class Jailed {
 public:
  explicit Jailed(std::vector<std::string> arguments, int extra_fd = -1) {
    EXPECT_EQ(pipe2(log_, O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel_),
              0);
    JailSpec spec;
    spec.policy = &policy::Lsi53c895a();
    spec.program_fd = program_fd;
    spec.arguments = {"probe"};
    spec.arguments.insert(spec.arguments.end(), arguments.begin(),
                          arguments.end());
    spec.outside_id = kOutsideId;
    for (int fd = 0; fd < 3; ++fd) spec.fds.push_back({log_[1], fd});
    spec.fds.push_back({channel_[1], 3});
    if (extra_fd >= 0) spec.fds.push_back({extra_fd, 5});
    process_ = Spawn(spec);
    close(log_[1]);
    close(channel_[1]);
  }

  ~Jailed() {
    if (process_.ok() && !waited_) {
      kill(process_->pid, SIGKILL);
      Wait();
    }
    if (process_.ok()) close(process_->pidfd);
    close(log_[0]);
    close(channel_[0]);
  }

  const absl::StatusOr<Process>& process() const { return process_; }
  pid_t pid() const { return process_->pid; }

  // What the probe says next; a process that dies instead says why.
  std::string ReadLine() {
    std::string line;
    char byte = 0;
    while (byte != '\n') {
      pollfd ready = {.fd = log_[0], .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, /*timeout_ms=*/5) == 0) {
        HandleStops();
        if (const auto violation = TakeDeath(pid()).violation; violation) {
          line += "killed for " + DescribeViolation(*violation);
        }
        continue;
      }
      if (read(log_[0], &byte, 1) != 1) break;
      if (byte != '\n') line += byte;
    }
    return line;
  }

  Outcome Wait() {
    Outcome outcome;
    waited_ = true;
    int status = 0;
    pollfd gone = {.fd = process_->pidfd, .events = POLLIN, .revents = 0};
    while (poll(&gone, 1, /*timeout_ms=*/1) == 0) HandleStops();
    outcome.violation = TakeDeath(pid()).violation;
    waitpid(pid(), &status, 0);
    if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
    if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
    char buffer[4096];
    ssize_t size;
    while ((size = read(log_[0], buffer, sizeof(buffer))) > 0) {
      outcome.output.append(buffer, size);
    }
    return outcome;
  }

 private:
  int log_[2];
  int channel_[2];
  bool waited_ = false;
  absl::StatusOr<Process> process_;
};

Outcome Try(const char* phase, const char* attempt) {
  Jailed jailed({phase, attempt});
  EXPECT_TRUE(jailed.process().ok()) << jailed.process().status();
  if (!jailed.process().ok()) return {};
  return jailed.Wait();
}

// ---------------------------------------------------------------- seen outside

TEST(JailTest, AllEightNamespacesAreNew) {
  Jailed jailed({"steady", "wait"});
  ASSERT_TRUE(jailed.process().ok()) << jailed.process().status();
  ASSERT_EQ(jailed.ReadLine(), "ready");
  for (const char* name :
       {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}) {
    const std::string inside =
        Link(absl::StrCat("/proc/", jailed.pid(), "/ns/", name));
    EXPECT_TRUE(absl::StrContains(inside, ":[")) << name << " " << inside;
    EXPECT_NE(inside, Link(absl::StrCat("/proc/self/ns/", name))) << name;
  }
}

TEST(JailTest, TwoJailsShareNoNamespace) {
  Jailed a({"steady", "wait"});
  Jailed b({"steady", "wait"});
  ASSERT_EQ(a.ReadLine(), "ready");
  ASSERT_EQ(b.ReadLine(), "ready");
  for (const char* name :
       {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}) {
    EXPECT_NE(Link(absl::StrCat("/proc/", a.pid(), "/ns/", name)),
              Link(absl::StrCat("/proc/", b.pid(), "/ns/", name)))
        << name;
  }
}

TEST(JailTest, IdsAreUnprivilegedInsideAndDistinctOutsideWhenRootStartsIt) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  const uid_t outside = geteuid() == 0 ? kOutsideId : geteuid();
  const std::string ids =
      absl::StrCat(outside, "\t", outside, "\t", outside, "\t", outside);
  EXPECT_EQ(Status(jailed.pid(), "Uid"), ids);
  if (geteuid() == 0) {
    EXPECT_EQ(Status(jailed.pid(), "Gid"), ids);
    EXPECT_EQ(Status(jailed.pid(), "Groups"), " ");
  }
  std::istringstream map(
      ReadAll(absl::StrCat("/proc/", jailed.pid(), "/uid_map")));
  uint64_t inside_id;
  uint64_t outside_id;
  uint64_t count;
  map >> inside_id >> outside_id >> count;
  EXPECT_EQ(inside_id, kInsideId);
  EXPECT_EQ(outside_id, outside);
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(ReadAll(absl::StrCat("/proc/", jailed.pid(), "/setgroups")),
            "deny\n");
  // Process number 1 of its own namespace.
  const std::vector<std::string> numbers =
      absl::StrSplit(Status(jailed.pid(), "NSpid"), '\t');
  EXPECT_EQ(numbers.back(), "1");
}

TEST(JailTest, AllFiveCapabilitySetsAreEmpty) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    EXPECT_EQ(Status(jailed.pid(), set), "0000000000000000") << set;
  }
}

TEST(JailTest, NoNewPrivilegesAndTwoFiltersHold) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  EXPECT_EQ(Status(jailed.pid(), "NoNewPrivs"), "1");
  EXPECT_EQ(Status(jailed.pid(), "Seccomp"), "2");
  EXPECT_EQ(Status(jailed.pid(), "Seccomp_filters"), "2");
  EXPECT_EQ(Status(jailed.pid(), "CoreDumping"), "0");
}

TEST(JailTest, SpeculationIsRestrictedForGoodWhereTheCpuHasTheControl) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  const std::string bypass = Status(jailed.pid(), "Speculation_Store_Bypass");
  bool unavailable = false;
  for (const Report& missing : jailed.process()->unavailable) {
    unavailable |= missing.step == Step::kStoreBypass;
  }
  if (!unavailable) {
    EXPECT_EQ(bypass, "thread force mitigated");
  }
}

TEST(JailTest, RootIsEmptyAndReadOnly) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  const std::string mounts =
      ReadAll(absl::StrCat("/proc/", jailed.pid(), "/mountinfo"));
  // One mount: the root, read-only as a mount and as a file system.
  EXPECT_EQ(std::count(mounts.begin(), mounts.end(), '\n'), 1) << mounts;
  EXPECT_TRUE(absl::StrContains(mounts, " / / ro,nosuid,nodev,noexec"))
      << mounts;
  EXPECT_TRUE(absl::StrContains(mounts, " ro,")) << mounts;
  const std::string root = absl::StrCat("/proc/", jailed.pid(), "/root");
  const int fd = open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(fd, 0) << strerror(errno);
  char entries[1024];
  // "." and ".." are 24 bytes each.
  EXPECT_EQ(syscall(SYS_getdents64, fd, entries, sizeof(entries)), 48);
  EXPECT_EQ(openat(fd, "x", O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, EROFS);
  close(fd);
}

TEST(JailTest, HoldsExactlyTheFdsItWasGiven) {
  if (geteuid() != 0) GTEST_SKIP() << "/proc/PID/fd of a non-dumpable process";
  // Fds that the launcher left open, without CLOEXEC, must not get in.
  const int leak = open("/dev/null", O_RDWR);
  const int high = fcntl(leak, F_DUPFD, 700);
  const int memory = memfd_create("ram", MFD_CLOEXEC);
  Jailed jailed({"steady", "wait"}, memory);
  ASSERT_EQ(jailed.ReadLine(), "ready");
  std::vector<std::string> held;
  for (int fd = 0; fd < 4096; ++fd) {
    const std::string target =
        Link(absl::StrCat("/proc/", jailed.pid(), "/fd/", fd));
    if (target == strerror(ENOENT)) continue;
    held.push_back(absl::StrCat(fd, " ", target.substr(0, 7)));
  }
  ASSERT_EQ(held.size(), 5u);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(held[i].substr(0, 7), absl::StrCat(i, " pipe:"));
  EXPECT_EQ(held[3], "3 socket:");
  EXPECT_EQ(held[4], "5 /memfd:");
  close(leak);
  close(high);
  close(memory);
}

TEST(JailTest, ResourceLimitsAreThePolicys) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  for (const CompiledLimit& limit : policy::Lsi53c895a().limits) {
    rlimit now;
    ASSERT_EQ(
        prlimit(jailed.pid(), static_cast<__rlimit_resource>(limit.resource),
                nullptr, &now),
        0)
        << strerror(errno);
    EXPECT_EQ(now.rlim_cur, limit.value) << limit.name;
    EXPECT_EQ(now.rlim_max, limit.value) << limit.name;
  }
}

TEST(JailTest, NetworkHasNothingButALoopbackThatIsDown) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  std::istringstream devices(
      ReadAll(absl::StrCat("/proc/", jailed.pid(), "/net/dev")));
  std::vector<std::string> names;
  for (std::string line; std::getline(devices, line);) {
    if (absl::StrContains(line, ":")) {
      names.push_back(std::string(
          absl::StripAsciiWhitespace(line.substr(0, line.find(':')))));
    }
  }
  // Kernels with tunnel modules built in show their templates, all down.
  EXPECT_EQ(std::count(names.begin(), names.end(), "lo"), 1);
  EXPECT_EQ(ReadAll(absl::StrCat("/proc/", jailed.pid(), "/net/if_inet6")), "");
}

TEST(JailTest, MemoryIsNeverWritableAndExecutable) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  std::istringstream maps(
      ReadAll(absl::StrCat("/proc/", jailed.pid(), "/maps")));
  int executable = 0;
  for (std::string line; std::getline(maps, line);) {
    EXPECT_FALSE(absl::StrContains(line, "rwx")) << line;
    executable += absl::StrContains(line, "r-xp") ? 1 : 0;
  }
  EXPECT_GE(executable, 1);
}

TEST(JailTest, DiesWithTheLauncher) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t launcher = fork();
  if (launcher == 0) {
    Jailed jailed({"steady", "wait"});
    const pid_t pid = jailed.process().ok() ? jailed.pid() : -1;
    (void)!write(ready[1], &pid, sizeof(pid));
    pause();
    _exit(0);
  }
  pid_t jailed = -1;
  ASSERT_EQ(read(ready[0], &jailed, sizeof(jailed)),
            static_cast<ssize_t>(sizeof(jailed)));
  ASSERT_GT(jailed, 0);
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, jailed, 0));
  kill(launcher, SIGKILL);
  waitpid(launcher, nullptr, 0);
  pollfd gone = {.fd = pidfd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&gone, 1, 2000), 1);
  close(pidfd);
  close(ready[0]);
  close(ready[1]);
}

// ----------------------------------------------------------------- seen inside

TEST(JailTest, EnvironmentIsEmpty) {
  setenv("BULKHEAD_SECRET", "x", 1);
  EXPECT_EQ(Try("steady", "environment").output,
            "environment returned 0 errno 0\n");
}

TEST(JailTest, NoFdsInsideBeyondTheFourGiven) {
  EXPECT_EQ(Try("steady", "count_fds").output,
            "count_fds returned 4 errno 0\n");
}

// A dead thread of a traced process waits for its tracer.
TEST(JailTest, AProcessWithWorkersCanBeReaped) {
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = Try("launch", "thread");
    EXPECT_EQ(outcome.output, "thread returned 0 errno 0\n");
    EXPECT_FALSE(outcome.violation) << DescribeViolation(*outcome.violation);
  }
}

TEST(JailTest, WorkersCanStartBeforeTheLockDownOnly) {
  EXPECT_EQ(Try("launch", "thread").output, "thread returned 0 errno 0\n");
  EXPECT_TRUE(Try("steady", "thread").Killed());
}

TEST(JailTest, MallocFailsPolitelyWhenTheHeapIsUsedUp) {
  EXPECT_EQ(Try("steady", "malloc_huge").output,
            "malloc_huge returned 0 errno 0\n");
}

TEST(JailTest, HarmlessCallsWork) {
  EXPECT_EQ(Try("steady", "write_nothing").output,
            "write_nothing returned 0 errno 0\n");
  EXPECT_EQ(Try("steady", "close_bad").output,
            absl::StrCat("close_bad returned -1 errno ", EBADF, "\n"));
}

// What is refused with an error rather than death while libc starts.
TEST(JailTest, Clone3SaysThatItDoesNotExistSoThatLibcTakesClone) {
  EXPECT_EQ(Try("launch", "clone3").output,
            absl::StrCat("clone3 returned -1 errno ", ENOSYS, "\n"));
  EXPECT_TRUE(Try("steady", "clone3").Killed());
}

TEST(JailTest, TheProgramsFdIsDeadAfterTheFirstExec) {
  EXPECT_EQ(Try("launch", "execveat_again").output,
            absl::StrCat("execveat_again returned -1 errno ", EBADF, "\n"));
  EXPECT_TRUE(Try("steady", "execveat_again").Killed());
}

// Killed in both phases.
class ForbiddenTest : public testing::TestWithParam<const char*> {};

TEST_P(ForbiddenTest, KillsTheProcessAndIsReportedByName) {
  const std::map<std::string, std::string> kSyscalls = {
      {"fstat_path", "newfstatat"},   {"open_by_handle", "open_by_handle_at"},
      {"socket_inet", "socket"},      {"socket_unix", "socket"},
      {"socket_netlink", "socket"},   {"mmap_exec", "mmap"},
      {"mprotect_exec", "mprotect"},  {"memfd_exec", "memfd_create"},
      {"vfork_clone", "clone"},       {"clone_newuser", "clone"},
      {"clone_process", "clone"},     {"execveat_other", "execveat"},
      {"prctl_dumpable_on", "prctl"}, {"seccomp_user_notify", "seccomp"},
      {"prlimit_set", "prlimit64"},   {"int80_getpid", "getpid"},
      {"int80_write", "write"},       {"x32_getpid", "getpid"},
      {"x32_write", "write"},         {"unknown_number", "syscall 1000"},
      {"prctl_name", "prctl"},
  };
  for (const char* phase : {"launch", "steady"}) {
    const Outcome outcome = Try(phase, GetParam());
    EXPECT_TRUE(outcome.Killed()) << phase << ": " << outcome.output;
    EXPECT_EQ(outcome.output, "") << phase;
    if (std::string(GetParam()) == "minus_one") continue;
    ASSERT_TRUE(outcome.violation) << phase;
    const auto known = kSyscalls.find(GetParam());
    EXPECT_EQ(SyscallOf(*outcome.violation),
              known == kSyscalls.end() ? GetParam() : known->second);
    const std::string abi(absl::StartsWith(GetParam(), "int80") ? "i386"
                          : absl::StartsWith(GetParam(), "x32") ? "x32"
                                                                : "x86_64");
    EXPECT_EQ(NameOf(outcome.violation->abi), abi);
  }
}

INSTANTIATE_TEST_SUITE_P(
    JailTest, ForbiddenTest,
    testing::Values(
        "open", "openat", "openat2", "creat", "mkdir", "stat", "fstat_path",
        "mount", "chroot", "open_by_handle", "socket_inet", "socket_unix",
        "socket_netlink", "socketpair", "connect", "mmap_exec", "mprotect_exec",
        "pkey_mprotect", "memfd_exec", "shmat", "userfaultfd", "fork",
        "vfork_clone", "clone_newuser", "clone_process", "execve",
        "execveat_other", "unshare", "setns", "kill", "tgkill", "ptrace",
        "process_vm_readv", "pidfd_open", "setuid", "capset",
        "prctl_dumpable_on", "prctl_name", "seccomp_user_notify", "bpf",
        "perf_event_open", "io_uring_setup", "keyctl", "ioctl", "setrlimit",
        "prlimit_set", "sethostname", "reboot", "int80_getpid", "int80_write",
        "x32_getpid", "x32_write", "unknown_number", "minus_one"),
    [](const testing::TestParamInfo<const char*>& info) {
      return std::string(info.param);
    });

// Allowed while the service gets ready, deadly afterwards.
class SetUpOnlyTest : public testing::TestWithParam<const char*> {};

TEST_P(SetUpOnlyTest, EndsWithTheLockDown) {
  EXPECT_NE(Try("launch", GetParam()).output, "");
  EXPECT_TRUE(Try("steady", GetParam()).Killed());
}

INSTANTIATE_TEST_SUITE_P(JailTest, SetUpOnlyTest,
                         testing::Values("readlink", "mprotect_plain", "memfd",
                                         "seccomp_tsync"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

// ------------------------------------------------------------------ the report

TEST(ViolationTest, DecodesArgumentsOfTheForbiddenCall) {
  const Outcome outcome = Try("steady", "openat");
  ASSERT_TRUE(outcome.violation);
  const Violation& violation = *outcome.violation;
  EXPECT_EQ(DescribeViolation(violation),
            "openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY, 0)");
  EXPECT_EQ(violation.number, SYS_openat);
  EXPECT_NE(violation.instruction_pointer, 0u);
  EXPECT_NE(violation.file_offset, 0u);
}

TEST(ViolationTest, AnOrdinaryDeathIsNoViolation) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  kill(jailed.pid(), SIGKILL);
  const Outcome outcome = jailed.Wait();
  EXPECT_EQ(outcome.signal, SIGKILL);
  EXPECT_FALSE(outcome.violation);
}

TEST(ViolationTest, StopAndContinueWorkAsWithoutATracer) {
  Jailed jailed({"steady", "wait"});
  ASSERT_EQ(jailed.ReadLine(), "ready");
  const auto state_becomes = [&](char wanted) {
    for (int i = 0; i < 1000; ++i) {
      HandleStops();
      if (Status(jailed.pid(), "State").substr(0, 1) ==
          std::string(1, wanted)) {
        return true;
      }
      poll(nullptr, 0, 1);
    }
    return false;
  };
  kill(jailed.pid(), SIGSTOP);
  EXPECT_TRUE(state_becomes('t') || state_becomes('T'));
  kill(jailed.pid(), SIGCONT);
  EXPECT_TRUE(state_becomes('S'));
}

// ----------------------------------------------------------------- waiting

JailSpec ProbeSpec() {
  JailSpec spec;
  spec.policy = &policy::Lsi53c895a();
  spec.program_fd = program_fd;
  spec.arguments = {"probe", "steady", "wait"};
  spec.outside_id = kOutsideId;
  return spec;
}

TEST(JailTest, AChildThatIsNotReleasedHasGivenUpAllAndRunsNothing) {
  const absl::StatusOr<JailedChild> child = Prepare(ProbeSpec());
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(Status(child->pid, "NoNewPrivs"), "1");
  EXPECT_EQ(Status(child->pid, "CapPrm"), "0000000000000000");
  EXPECT_EQ(Status(child->pid, "CapBnd"), "0000000000000000");
  // Still a copy of this program: its name changes with the exec.
  EXPECT_EQ(Status(child->pid, "Name"), Status(getpid(), "Name"));
  EndChild(child->pid, child->pidfd);
  EXPECT_EQ(kill(child->pid, 0), -1);
  close(child->pidfd);
  close(child->socket);
}

TEST(JailTest, AChildWhoseParentLetsGoOfItsSocketEnds) {
  const absl::StatusOr<JailedChild> child = Prepare(ProbeSpec());
  ASSERT_TRUE(child.ok()) << child.status();
  close(child->socket);
  pollfd gone = {.fd = child->pidfd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&gone, 1, /*timeout_ms=*/5000), 1);
  int status = 0;
  EXPECT_EQ(waitpid(child->pid, &status, 0), child->pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  close(child->pidfd);
}

// ------------------------------------------------------------------ bad
// requests

TEST(JailTest, RefusesToBeRootOutside) {
  if (geteuid() != 0) GTEST_SKIP() << "root only";
  JailSpec spec;
  spec.policy = &policy::Lsi53c895a();
  spec.program_fd = program_fd;
  spec.arguments = {"probe"};
  EXPECT_EQ(Spawn(spec).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JailTest, AProgramThatCannotBeExecutedIsAnErrorThatNamesTheStep) {
  const int text = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  JailSpec spec;
  spec.policy = &policy::Lsi53c895a();
  spec.program_fd = text;
  spec.arguments = {"passwd"};
  spec.outside_id = kOutsideId;
  const absl::StatusOr<Process> process = Spawn(spec);
  ASSERT_FALSE(process.ok());
  EXPECT_TRUE(absl::StrContains(process.status().message(),
                                "executing the program: Permission denied"))
      << process.status();
  close(text);
  // Nothing is left behind.
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(JailTest, AnFdThatIsNotOpenIsAnErrorThatNamesIt) {
  JailSpec spec;
  spec.policy = &policy::Lsi53c895a();
  spec.program_fd = program_fd;
  spec.arguments = {"probe"};
  spec.outside_id = kOutsideId;
  spec.fds = {{999, 4}};
  const absl::StatusOr<Process> process = Spawn(spec);
  ASSERT_FALSE(process.ok());
  EXPECT_TRUE(absl::StrContains(process.status().message(), "fd 4"))
      << process.status();
}

}  // namespace

// As root, a child runs everything as an ordinary user first.
int RunRootless() {
  const pid_t child = fork();
  if (child == 0) {
    constexpr uid_t kUser = 54321;
    if (setgroups(0, nullptr) != 0 || setresgid(kUser, kUser, kUser) != 0 ||
        setresuid(kUser, kUser, kUser) != 0) {
      _exit(9);
    }
    // Changing ids forbids others, and so one's own /proc entries.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    // Files of the test's runner belong to root.
    testing::TestEventListeners& listeners =
        testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_xml_generator());
    unsetenv("TEST_PREMATURE_EXIT_FILE");
    printf("=== as an ordinary user ===\n");
    fflush(stdout);
    const int result = RUN_ALL_TESTS();
    fflush(stdout);
    _exit(result);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

}  // namespace bulkhead::sandbox

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  alarm(120);
  bulkhead::sandbox::program_fd =
      open("sandbox/testcases/probe", O_RDONLY | O_CLOEXEC);
  if (bulkhead::sandbox::program_fd < 0) {
    perror("probe");
    return 1;
  }
  int rootless = 0;
  if (geteuid() == 0) {
    rootless = bulkhead::sandbox::RunRootless();
    printf("=== as root ===\n");
  }
  const int result = RUN_ALL_TESTS();
  return rootless != 0 ? 1 : result;
}
