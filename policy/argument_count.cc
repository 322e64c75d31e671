#include "policy/argument_count.h"

#include <map>
#include <vector>

#include "absl/strings/str_split.h"

namespace bulkhead::policy {
namespace {

// By number of arguments, 0 to 6 (the kernel's include/linux/syscalls.h).
constexpr const char* kByCount[] = {
    "getegid geteuid getgid getpid getppid gettid getuid restart_syscall "
    "rt_sigreturn sched_yield",
    "brk close dup epoll_create1 exit exit_group fchdir fdatasync fsync "
    "memfd_secret set_tid_address sched_get_priority_max "
    "sched_get_priority_min sched_getscheduler sysinfo time timer_delete "
    "timer_getoverrun times "
    "umask uname unlink userfaultfd",
    "access arch_prctl capget clock_getres clock_gettime clone3 dup2 eventfd2 "
    "flock fstat fstatfs ftruncate getcwd getitimer getpriority getrusage "
    "gettimeofday io_uring_setup listen lstat memfd_create mkdir mlock munlock "
    "munmap nanosleep pidfd_open pipe2 rt_sigpending sched_getparam "
    "set_robust_list shutdown sigaltstack stat statfs timer_gettime "
    "timerfd_create timerfd_gettime",
    "close_range connect dup3 faccessat fcntl getcpu getdents64 getpeername "
    "getrandom getsockname ioctl landlock_create_ruleset lseek madvise "
    "membarrier mincore mkdirat mprotect mseal msync open poll read readlink "
    "readv recvmsg sched_getaffinity sched_setaffinity sched_setattr seccomp "
    "sendmsg set_mempolicy setitimer setpriority socket tgkill timer_create "
    "unlinkat write writev",
    "accept4 clock_nanosleep epoll_ctl epoll_wait faccessat2 fadvise64 "
    "fallocate io_uring_register newfstatat openat pread64 prlimit64 pwrite64 "
    "readlinkat rseq rt_sigaction rt_sigprocmask rt_sigtimedwait sched_getattr "
    "signalfd4 socketpair timer_settime timerfd_settime",
    "clone execveat get_mempolicy getsockopt mremap ppoll prctl preadv pwritev "
    "select setsockopt statx",
    "copy_file_range epoll_pwait epoll_pwait2 futex io_uring_enter mbind mmap "
    "preadv2 pselect6 pwritev2 recvfrom sendto",
};

const std::map<std::string, int>& Counts() {
  static const auto& counts = *[] {
    auto* made = new std::map<std::string, int>;
    int count = 0;
    for (const char* names : kByCount) {
      const std::vector<std::string> words = absl::StrSplit(names, ' ');
      for (const std::string& name : words) made->emplace(name, count);
      ++count;
    }
    return made;
  }();
  return counts;
}

}  // namespace

int ArgumentCount(const std::string& syscall) {
  const auto found = Counts().find(syscall);
  return found == Counts().end() ? 6 : found->second;
}

bool KnowsArgumentCount(const std::string& syscall) {
  return Counts().count(syscall) != 0;
}

}  // namespace bulkhead::policy
