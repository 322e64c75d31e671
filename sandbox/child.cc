#include "sandbox/child.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sandbox/child_io.h"
#include "sandbox/landlock.h"
#include "sandbox/root_filesystem.h"

namespace bulkhead::sandbox {
namespace {

// Younger than the oldest headers that we build with.
constexpr int kPrSetMdwe = 65;
constexpr int kPrMdweRefuseExecGain = 1;
constexpr int kPrSchedCore = 62;
constexpr int kPrSchedCoreCreate = 1;
constexpr int kPidTypeTgid = 1;

// Where fds wait while the final numbers are being filled.
constexpr int kParkedFds = 256;
constexpr int kSocketFd = kProgramFd + 1;

constexpr unsigned kSecurebits =
    SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
    SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
    SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

class Child {
 public:
  Child(const JailSpec& spec, int socket)
      : spec_(spec), policy_(*spec.policy), io_(socket) {}

  [[noreturn]] void Run() {
    ArrangeFds();
    io_.AwaitParent(Step::kWait);
    RootFilesystem root(spec_, io_);
    root.OpenSources();
    NewSession();
    TakeIds();
    DieWithParent();
    root.Enter();
    NameHost();
    OpenProgram();
    NoNewPrivileges();
    ForbidFiles(spec_, io_);
    LimitResources();
    LimitHardware();
    DropCapabilities();
    io_.Send({Report::kReady, Step::kFilter, 0, 0});
    io_.AwaitParent(Step::kWait);
    InstallFilter();
    Execute();
  }

 private:
  // Every fd ends up at its number; every other one is closed.
  void ArrangeFds() {
    std::vector<FdAssignment> fds = spec_.fds;
    if (spec_.program_fd >= 0) fds.push_back({spec_.program_fd, kProgramFd});
    for (size_t i = 0; i < spec_.binds.size(); ++i) {
      if (spec_.binds[i].mount_fd < 0) continue;
      fds.push_back(
          {spec_.binds[i].mount_fd, kFirstMountFd + static_cast<int>(i)});
    }
    fds.push_back({io_.socket(), kSocketFd});
    for (FdAssignment& fd : fds) {
      fd.source = fcntl(fd.source, F_DUPFD_CLOEXEC, kParkedFds);
      if (fd.source < 0) io_.Fail(Step::kFds, fd.target);
    }
    io_.set_socket(fds.back().source);
    for (const FdAssignment& fd : fds) {
      const int flags = fd.target >= kProgramFd ? O_CLOEXEC : 0;
      if (dup3(fd.source, fd.target, flags) < 0) {
        io_.Fail(Step::kFds, fd.target);
      }
    }
    io_.set_socket(kSocketFd);

    std::sort(fds.begin(), fds.end(),
              [](const FdAssignment& a, const FdAssignment& b) {
                return a.target < b.target;
              });
    unsigned next = 0;
    for (const FdAssignment& fd : fds) {
      const auto target = static_cast<unsigned>(fd.target);
      if (next < target) Close(next, target - 1);
      next = target + 1;
    }
    Close(next, ~0U);
  }

  void Close(unsigned first, unsigned last) {
    if (syscall(SYS_close_range, first, last, 0) != 0) io_.Fail(Step::kFds);
  }

  void NewSession() {
    if (setsid() < 0) io_.Fail(Step::kSession);
    umask(077);
  }

  void TakeIds() {
    // The user namespace's capabilities must survive the change of ids.
    if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0) {
      io_.Fail(Step::kSecurebits);
    }
    if (setresgid(kInsideId, kInsideId, kInsideId) != 0 ||
        setresuid(kInsideId, kInsideId, kInsideId) != 0) {
      io_.Fail(Step::kIds);
    }
  }

  // After the ids: changing them forgets the signal.
  void DieWithParent() {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
      io_.Fail(Step::kParentDeath);
    }
    // A parent that died before that call closed its end of the socket.
    pollfd parent = {.fd = io_.socket(), .events = POLLRDHUP, .revents = 0};
    if (poll(&parent, 1, 0) != 0) _exit(1);
  }

  void NameHost() {
    constexpr char kName[] = "bulkhead";
    if (sethostname(kName, sizeof(kName) - 1) != 0 ||
        setdomainname("", 0) != 0) {
      io_.Fail(Step::kHostname);
    }
  }

  void OpenProgram() {
    if (spec_.program_fd >= 0) return;
    const int fd = open(spec_.program_path.c_str(), O_PATH | O_CLOEXEC);
    if (fd < 0) io_.Fail(Step::kProgram);
    if (fd != kProgramFd) {
      if (dup3(fd, kProgramFd, O_CLOEXEC) < 0) io_.Fail(Step::kProgram);
      close(fd);
    }
  }

  void NoNewPrivileges() {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
      io_.Fail(Step::kNoNewPrivs);
    }
  }

  void LimitResources() {
    // A write beyond a limit is then an error, and no signal: that would stop
    // the process, and wake the launcher, for each.
    sigset_t too_large;
    sigemptyset(&too_large);
    sigaddset(&too_large, SIGXFSZ);
    if (sigprocmask(SIG_BLOCK, &too_large, nullptr) != 0) {
      io_.Fail(Step::kLimit, RLIMIT_FSIZE);
    }
    for (const CompiledLimit& limit : policy_.limits) {
      rlim_t value = limit.value;
      if (limit.resource == RLIMIT_AS) value += spec_.mapped_bytes;
      rlimit now = {};
      if (getrlimit(static_cast<__rlimit_resource>(limit.resource), &now) !=
          0) {
        io_.Fail(Step::kLimit, limit.resource);
      }
      if (now.rlim_max < value) {
        // Only the host's owner can raise it.
        io_.Unavailable(Step::kLimit, 0, limit.resource);
        value = now.rlim_max;
      }
      rlimit both = {.rlim_cur = value, .rlim_max = value};
      // Only its parent can raise it again, when a disk is to grow: the filter
      // has no call for it.
      if (limit.resource == RLIMIT_FSIZE && spec_.file_bytes > 0) {
        both.rlim_cur = std::min(value, rlim_t{spec_.file_bytes});
      }
      if (setrlimit(static_cast<__rlimit_resource>(limit.resource), &both) !=
          0) {
        io_.Fail(Step::kLimit, limit.resource);
      }
    }
  }

  // What keeps the process from learning from a neighbour on the same core, and
  // from making code. Kernels and CPUs differ in what they have of it.
  void LimitHardware() {
    if (prctl(kPrSchedCore, kPrSchedCoreCreate, 0, kPidTypeTgid, 0) != 0) {
      io_.Unavailable(Step::kCoreScheduling, errno);
    }
    if (prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS,
              PR_SPEC_FORCE_DISABLE, 0, 0) != 0) {
      io_.Unavailable(Step::kStoreBypass, errno);
    }
    if (prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH,
              PR_SPEC_FORCE_DISABLE, 0, 0) != 0) {
      io_.Unavailable(Step::kIndirectBranch, errno);
    }
    if (policy_.memory_deny_write_execute &&
        prctl(kPrSetMdwe, kPrMdweRefuseExecGain, 0, 0, 0) != 0) {
      // The filter refuses PROT_EXEC in any case.
      io_.Unavailable(Step::kWriteExecute, errno);
    }
  }

  void DropCapabilities() {
    if (prctl(PR_SET_SECUREBITS, kSecurebits, 0, 0, 0) != 0) {
      io_.Fail(Step::kSecurebits);
    }
    capng_setpid(0);  // the library remembers the launcher's
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_apply(CAPNG_SELECT_ALL) != 0) io_.Fail(Step::kCapabilities);
    // Believed only when the kernel says so.
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; ++cap) {
      if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 0 ||
          prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) != 0) {
        errno = EPERM;
        io_.Fail(Step::kCapabilities, cap);
      }
    }
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    if (syscall(SYS_capget, &header, data) != 0) io_.Fail(Step::kCapabilities);
    for (const __user_cap_data_struct& set : data) {
      if (set.effective != 0 || set.permitted != 0 || set.inheritable != 0) {
        errno = EPERM;
        io_.Fail(Step::kCapabilities);
      }
    }
  }

  void InstallFilter() {
    const sock_fprog program = {
        .len = static_cast<unsigned short>(policy_.launch_filter.size()),
        .filter = const_cast<sock_filter*>(policy_.launch_filter.data()),
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
      io_.Fail(Step::kFilter);
    }
  }

  [[noreturn]] void Execute() {
    std::vector<char*> argv;
    for (const std::string& arg : spec_.arguments) {
      argv.push_back(const_cast<char*>(arg.c_str()));
    }
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (const std::string& variable : spec_.environment) {
      environment.push_back(const_cast<char*>(variable.c_str()));
    }
    environment.push_back(nullptr);
    syscall(SYS_execveat, kProgramFd, "", argv.data(), environment.data(),
            AT_EMPTY_PATH);
    io_.Fail(Step::kExec);
  }

  const JailSpec& spec_;
  const CompiledPolicy& policy_;
  ChildIo io_;
};

}  // namespace

void RunChild(const JailSpec& spec, int socket) { Child(spec, socket).Run(); }

}  // namespace bulkhead::sandbox
