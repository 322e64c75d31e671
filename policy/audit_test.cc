// Processes that drifted from their policy in one way each, running in real
// jails: the audit finds every one by name, and nothing in one that did not.

#include "policy/audit.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "policy/lsi53c895a.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"

namespace bulkhead::policy {
namespace {

using sandbox::CompiledLimit;
using sandbox::CompiledPolicy;
using sandbox::JailSpec;

constexpr sock_filter kAllowAll[] = {
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

// A jail as the launcher makes it for an LSI service, which a test may spoil.
class Subject {
 public:
  Subject() : policy_(Lsi53c895a()) {
    EXPECT_EQ(pipe2(log_, O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel_),
              0);
    ram_ = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT_EQ(ftruncate(ram_, 4096), 0);
    EXPECT_EQ(fcntl(ram_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    program_ = open("sandbox/testcases/probe", O_RDONLY | O_CLOEXEC);
    spec_.policy = &policy_;
    spec_.program_fd = program_;
    spec_.arguments = {"probe", "steady", "wait"};
    spec_.outside_id = 200777;
    for (int fd = 0; fd < 3; ++fd) spec_.fds.push_back({log_[1], fd});
    spec_.fds.push_back({channel_[1], 3});
    spec_.fds.push_back({ram_, 5});
  }

  ~Subject() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      pollfd gone = {.fd = pidfd_, .events = POLLIN, .revents = 0};
      while (poll(&gone, 1, 1) == 0) sandbox::HandleStops();
      waitpid(pid_, nullptr, 0);
      close(pidfd_);
    }
    for (const int fd :
         {log_[0], log_[1], channel_[0], channel_[1], ram_, program_}) {
      close(fd);
    }
  }

  JailSpec& spec() { return spec_; }
  CompiledPolicy& policy() { return policy_; }
  pid_t pid() const { return pid_; }
  int log_read_end() const { return log_[0]; }
  int ram() const { return ram_; }
  // Of the same VM as `other`: they have one memory.
  void Join(const Subject& other) { spec_.fds[4].source = other.ram(); }

  void Limit(const std::string& name, uint64_t value) {
    limits_.assign(policy_.limits.begin(), policy_.limits.end());
    for (CompiledLimit& limit : limits_) {
      if (limit.name == name) limit.value = value;
    }
    policy_.limits = limits_;
  }

  void Start() {
    absl::StatusOr<sandbox::Process> process = sandbox::Spawn(spec_);
    ASSERT_TRUE(process.ok()) << process.status();
    pid_ = process->pid;
    pidfd_ = process->pidfd;
    char byte = 0;
    while (byte != '\n') {
      pollfd ready = {.fd = log_[0], .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, 5) == 0) {
        sandbox::HandleStops();
        const auto violation = sandbox::TakeDeath(pid_).violation;
        ASSERT_FALSE(violation) << sandbox::DescribeViolation(*violation);
        continue;
      }
      ASSERT_EQ(read(log_[0], &byte, 1), 1);
    }
  }

  // What drifted, by name.
  std::vector<std::string> Drifts(const AuditContext& context = {}) {
    std::vector<std::string> names;
    for (const Finding& finding : AuditProcess(pid_, Lsi53c895a(), context)) {
      if (finding.result == Finding::kDrift) names.push_back(finding.check);
    }
    return names;
  }

 private:
  CompiledPolicy policy_;
  std::vector<CompiledLimit> limits_;
  JailSpec spec_;
  int log_[2];
  int channel_[2];
  int ram_ = -1;
  int program_ = -1;
  pid_t pid_ = -1;
  int pidfd_ = -1;
};

TEST(AuditTest, AProcessThatIsAsItsPolicySaysHasNoDrift) {
  Subject subject;
  ASSERT_NO_FATAL_FAILURE(subject.Start());
  int read_back = 0;
  for (const Finding& finding : AuditProcess(subject.pid(), Lsi53c895a(), {})) {
    EXPECT_NE(finding.result, Finding::kDrift)
        << finding.check << ": " << finding.observed;
    read_back +=
        finding.check == "steady filter" && finding.result == Finding::kOk;
    // Linux shows these to nobody else, or does not have them on every CPU.
    const std::set<std::string> kHidden = {
        "memory-deny-write-execute", "landlock", "core scheduling",
        "speculative store bypass", "indirect branch speculation"};
    if (geteuid() == 0 && kHidden.count(finding.check) == 0) {
      EXPECT_NE(finding.result, Finding::kUnread)
          << finding.check << ": " << finding.observed;
    }
  }
  if (geteuid() == 0) {
    EXPECT_EQ(read_back, 1);
  }
}

AuditContext VmOf(const std::vector<Subject*>& subjects) {
  AuditContext context;
  context.launcher = getpid();
  for (const Subject* subject : subjects) {
    context.processes.push_back({subject->pid(), &Lsi53c895a()});
  }
  return context;
}

struct Drift {
  const char* name;
  const char* found_as;
  std::function<void(Subject&)> spoil;
};

class DriftTest : public testing::TestWithParam<Drift> {};

TEST_P(DriftTest, IsFoundByName) {
  // /proc/PID/fd and the filters of a process that cannot be dumped are root's.
  if (geteuid() != 0) GTEST_SKIP() << "only root can read all that drifts here";
  Subject subject;
  GetParam().spoil(subject);
  ASSERT_NO_FATAL_FAILURE(subject.Start());
  const std::vector<std::string> drifts = subject.Drifts();
  EXPECT_NE(std::find(drifts.begin(), drifts.end(), GetParam().found_as),
            drifts.end())
      << testing::PrintToString(drifts);
}

std::function<void(Subject&)> Share(uint32_t flag) {
  return [flag](Subject& subject) { subject.policy().clone_flags &= ~flag; };
}

std::function<void(Subject&)> Raise(const char* limit, uint64_t value) {
  return [=](Subject& subject) { subject.Limit(limit, value); };
}

// A filter that lets everything happen, in the launch filter's place.
void AllowAll(Subject& subject) { subject.policy().launch_filter = kAllowAll; }

INSTANTIATE_TEST_SUITE_P(
    AuditTest, DriftTest,
    testing::Values(
        Drift{"FdMore", "fd 60",
              [](Subject& s) {
                s.spec().fds.push_back({s.log_read_end(), 60});
              }},
        Drift{"ChannelThatIsAFile", "fd 3",
              [](Subject& s) {
                s.spec().fds[3].source = open("/dev/null", O_RDWR | O_CLOEXEC);
              }},
        Drift{"ChannelOfAnotherKind", "fd 3",
              [](Subject& s) {
                int ends[2];
                socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
                s.spec().fds[3].source = ends[0];
              }},
        Drift{"ChannelToTheNetwork", "fd 3",
              [](Subject& s) {
                s.spec().fds[3].source =
                    socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
              }},
        Drift{
            "MoreMemoriesThanTheTableHas", "fds: shadow",
            [](Subject& s) {
              for (int fd = 60; fd < 70; ++fd) {
                s.spec().fds.push_back({memfd_create("page", MFD_CLOEXEC), fd});
              }
            }},
        Drift{"ImageInTheRamsPlace", "fd 5",
              [](Subject& s) {
                s.spec().fds[4].source =
                    open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
              }},
        Drift{"RamThatIsAPipe", "fd 5",
              [](Subject& s) { s.spec().fds[4].source = s.log_read_end(); }},
        Drift{"RamThatCanShrink", "fd 5",
              [](Subject& s) {
                s.spec().fds[4].source = memfd_create("ram", MFD_CLOEXEC);
              }},
        Drift{"LogThatCanBeRead", "fd 0",
              [](Subject& s) { s.spec().fds[0].source = s.log_read_end(); }},
        Drift{"CgroupNamespaceShared", "namespace cgroup",
              Share(CLONE_NEWCGROUP)},
        Drift{"IpcNamespaceShared", "namespace ipc", Share(CLONE_NEWIPC)},
        Drift{"NetNamespaceShared", "namespace net", Share(CLONE_NEWNET)},
        Drift{"PidNamespaceShared", "namespace pid", Share(CLONE_NEWPID)},
        Drift{"NotTheFirstProcess", "number in its pid namespace",
              Share(CLONE_NEWPID)},
        Drift{"TimeNamespaceShared", "namespace time", Share(0x80)},
        Drift{"NoSteadyFilter", "steady filter",
              [](Subject& s) { s.spec().arguments[1] = "launch"; }},
        Drift{"FilterMissing", "seccomp filters in force",
              [](Subject& s) { s.spec().arguments[1] = "launch"; }},
        Drift{"Dumpable", "dumpable",
              [](Subject& s) { s.spec().arguments[1] = "launch"; }},
        Drift{"WiderLaunchFilter", "launch filter", AllowAll},
        Drift{"AnonymousCode", "executable memory",
              [](Subject& s) {
                AllowAll(s);
                s.policy().memory_deny_write_execute = false;
                s.spec().arguments = {"probe", "launch", "wait_rx"};
              }},
        Drift{"WritableCode", "memory",
              [](Subject& s) {
                AllowAll(s);
                s.policy().memory_deny_write_execute = false;
                s.spec().arguments = {"probe", "launch", "wait_rwx"};
              }},
        Drift{"MoreFiles", "RLIMIT_NOFILE", Raise("RLIMIT_NOFILE", 1000)},
        Drift{"MoreProcesses", "RLIMIT_NPROC", Raise("RLIMIT_NPROC", 100)},
        Drift{"LockedMemory", "RLIMIT_MEMLOCK", Raise("RLIMIT_MEMLOCK", 65536)},
        Drift{"CoreDumps", "RLIMIT_CORE", Raise("RLIMIT_CORE", 4096)},
        Drift{"BiggerStack", "RLIMIT_STACK", Raise("RLIMIT_STACK", 16 << 20)},
        Drift{"MessageQueues", "RLIMIT_MSGQUEUE",
              Raise("RLIMIT_MSGQUEUE", 4096)},
        Drift{"LargerFiles", "RLIMIT_FSIZE",
              Raise("RLIMIT_FSIZE", uint64_t{1} << 60)},
        Drift{"Environment", "environment",
              [](Subject& s) { s.spec().environment = {"LD_PRELOAD=x"}; }},
        Drift{"AnotherRoot", "mounts",
              [](Subject& s) {
                s.policy().empty_root = false;
                s.spec().tree = "/usr";
              }},
        Drift{"DeviceInTheRoot", "device nodes",
              [](Subject& s) {
                static constexpr const char* kNodes[] = {"/dev/null"};
                s.policy().empty_root = false;
                s.policy().device_nodes = kNodes;
                s.spec().tree = "/usr";
                s.spec().binds = {{.source = "/dev/null",
                                   .target = "/dev/null",
                                   .writable = true}};
              }},
        Drift{"FolderInTheRoot", "root's entries",
              [](Subject& s) {
                s.policy().empty_root = false;
                s.spec().tree = "/usr";
                s.spec().scratch = {"/tmp"};
              }}),
    [](const testing::TestParamInfo<Drift>& info) {
      return std::string(info.param.name);
    });

// What happens to a process after it was started well.
TEST(AuditTest, ALimitThatWasRaisedFromOutsideIsFound) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can raise it";
  Subject subject;
  ASSERT_NO_FATAL_FAILURE(subject.Start());
  const rlimit more = {.rlim_cur = 5000, .rlim_max = 5000};
  if (prlimit(subject.pid(), RLIMIT_NOFILE, &more, nullptr) != 0) {
    GTEST_SKIP() << "this root lacks CAP_SYS_RESOURCE";
  }
  EXPECT_EQ(subject.Drifts(), std::vector<std::string>{"RLIMIT_NOFILE"});
}

// Two processes of one VM.
TEST(AuditTest, ANamespaceSharedBetweenTwoJailsIsFound) {
  Subject a;
  Subject b;
  b.policy().clone_flags &= ~static_cast<uint32_t>(CLONE_NEWIPC);
  Subject c;
  c.policy().clone_flags &= ~static_cast<uint32_t>(CLONE_NEWIPC);
  b.Join(a);
  c.Join(a);
  ASSERT_NO_FATAL_FAILURE(a.Start());
  ASSERT_NO_FATAL_FAILURE(b.Start());
  ASSERT_NO_FATAL_FAILURE(c.Start());
  const AuditContext vm = VmOf({&a, &b, &c});
  EXPECT_EQ(a.Drifts(vm), std::vector<std::string>());
  EXPECT_EQ(b.Drifts(vm), std::vector<std::string>{"namespace ipc"});
}

TEST(AuditTest, AnImageThatTwoDevicesWriteToIsFound) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can look at fds";
  const int image = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(image, 0);
  Subject a;
  Subject b;
  b.Join(a);
  a.spec().fds.push_back({image, 7});
  b.spec().fds.push_back({image, 8});
  ASSERT_NO_FATAL_FAILURE(a.Start());
  EXPECT_EQ(a.Drifts(VmOf({&a})), std::vector<std::string>());
  ASSERT_NO_FATAL_FAILURE(b.Start());
  EXPECT_EQ(a.Drifts(VmOf({&a, &b})), std::vector<std::string>{"fd 7"});
  EXPECT_EQ(b.Drifts(VmOf({&a, &b})), std::vector<std::string>{"fd 8"});
  close(image);
}

TEST(AuditTest, TheMemoryOfAnotherVmIsFound) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can look at fds";
  Subject a;
  Subject b;
  ASSERT_NO_FATAL_FAILURE(a.Start());
  ASSERT_NO_FATAL_FAILURE(b.Start());
  EXPECT_EQ(a.Drifts(VmOf({&a, &b})), std::vector<std::string>{"fd 5"});
}

TEST(AuditTest, AnotherParentThanTheLauncherIsFound) {
  Subject a;
  ASSERT_NO_FATAL_FAILURE(a.Start());
  AuditContext vm = VmOf({&a});
  EXPECT_EQ(a.Drifts(vm), std::vector<std::string>());
  vm.launcher = getppid();
  EXPECT_EQ(a.Drifts(vm), std::vector<std::string>{"parent"});
}

std::vector<std::string> DriftsOfLauncher(const AuditContext& vm) {
  std::vector<std::string> names;
  for (const Finding& finding : AuditLauncher(vm)) {
    if (finding.result == Finding::kDrift) names.push_back(finding.check);
  }
  return names;
}

TEST(AuditTest, AProcessThatHasNoPolicyIsFound) {
  Subject a;
  ASSERT_NO_FATAL_FAILURE(a.Start());
  EXPECT_EQ(DriftsOfLauncher(VmOf({&a})), std::vector<std::string>());
  const pid_t stranger = fork();
  if (stranger == 0) {
    pause();
    _exit(0);
  }
  EXPECT_EQ(DriftsOfLauncher(VmOf({&a})), std::vector<std::string>{"children"});
  kill(stranger, SIGKILL);
  waitpid(stranger, nullptr, 0);
}

// A process that nobody jailed has drifted in everything.
TEST(AuditTest, AProcessWithoutAJailIsFoundInEveryRespect) {
  const pid_t plain = fork();
  if (plain == 0) {
    pause();
    _exit(0);
  }
  std::vector<std::string> drifts;
  for (const Finding& finding : AuditProcess(plain, Lsi53c895a(), {})) {
    if (finding.result == Finding::kDrift) drifts.push_back(finding.check);
  }
  kill(plain, SIGKILL);
  waitpid(plain, nullptr, 0);
  std::vector<std::string> expected = {
      "no_new_privs",  "seccomp mode",   "seccomp filters in force",
      "threads",       "Uid map",        "setgroups",
      "namespace mnt", "namespace user", "root",
      "mounts"};
  if (geteuid() == 0) {
    for (const char* name : {"capabilities CapPrm", "capabilities CapEff",
                             "capabilities CapBnd", "Uid outside"}) {
      expected.push_back(name);
    }
  }
  for (const std::string& name : expected) {
    EXPECT_NE(std::find(drifts.begin(), drifts.end(), name), drifts.end())
        << name;
  }
}

}  // namespace
}  // namespace bulkhead::policy
