// A program that misbehaves on purpose, from inside a real jail.
//
//   probe PHASE ATTEMPT
//
// PHASE is launch (the launch filter only) or steady (after LockDown). ATTEMPT
// names one call; the probe writes "NAME returned R errno E" to fd 1 when the
// kernel lets it come back. What kills it leaves no line.

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

#include "policy/lsi53c895a.h"
#include "sandbox/lock_down.h"

extern "C" char** environ;

namespace {

char stack[64 * 1024];

long Raw(long number, long a = 0, long b = 0, long c = 0, long d = 0,
         long e = 0, long f = 0) {
  return syscall(number, a, b, c, d, e, f);
}

template <typename T>
long P(T* pointer) {
  return reinterpret_cast<long>(pointer);
}

long Int80(long number, long first) {
  long result;
  asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first) : "memory");
  return result;
}

int Nothing(void*) { return 0; }
void* Idle(void*) {
  ppoll(nullptr, 0, nullptr, nullptr);
  return nullptr;
}

// The steady state has no write: this is writev in its only spelling.
ssize_t WriteTo(int fd, const char* data, size_t size) {
  const iovec bytes = {const_cast<char*>(data), size};
  return pwritev2(fd, &bytes, 1, -1, 0);
}

void Write(const char* data, size_t size) { (void)!WriteTo(1, data, size); }

struct Attempt {
  const char* name;
  long (*run)();
};

const Attempt kAttempts[] = {
    // Files.
    {"open", [] { return Raw(SYS_open, P("/etc/passwd"), O_RDONLY); }},
    {"openat",
     [] { return Raw(SYS_openat, AT_FDCWD, P("/etc/passwd"), O_RDONLY); }},
    {"openat2", [] { return Raw(437, AT_FDCWD, P("/etc/passwd"), 0, 24); }},
    {"creat", [] { return Raw(SYS_creat, P("/x"), 0600); }},
    {"mkdir", [] { return Raw(SYS_mkdir, P("/x"), 0700); }},
    {"readlink",
     [] { return Raw(SYS_readlink, P("/proc/self/exe"), P(stack), 64); }},
    {"stat", [] { return Raw(SYS_stat, P("/"), P(stack)); }},
    {"fstat_path",
     [] { return Raw(SYS_newfstatat, AT_FDCWD, P("/"), P(stack), 0); }},
    {"mount", [] { return Raw(SYS_mount, P(""), P("/"), P("tmpfs"), 0, 0); }},
    {"chroot", [] { return Raw(SYS_chroot, P("/")); }},
    {"open_by_handle", [] { return Raw(SYS_open_by_handle_at, 0, 0, 0); }},
    // Sockets.
    {"socket_inet", [] { return Raw(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
    {"socket_unix", [] { return Raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }},
    {"socket_netlink", [] { return Raw(SYS_socket, AF_NETLINK, SOCK_RAW, 0); }},
    {"socketpair",
     [] { return Raw(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, P(stack)); }},
    {"connect", [] { return Raw(SYS_connect, 3, P(stack), 16); }},
    // Memory.
    {"mmap_exec",
     [] {
       return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
     }},
    {"mmap_anonymous",
     [] {
       return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
     }},
    {"mprotect_exec",
     [] {
       return Raw(SYS_mprotect, P(stack) & ~4095L, 4096, PROT_READ | PROT_EXEC);
     }},
    {"mprotect_plain",
     [] { return Raw(SYS_mprotect, P(stack) & ~4095L, 4096, PROT_READ); }},
    {"pkey_mprotect",
     [] { return Raw(329, P(stack) & ~4095L, 4096, PROT_EXEC, -1); }},
    {"memfd", [] { return Raw(SYS_memfd_create, P("x"), 1); }},
    {"memfd_exec", [] { return Raw(SYS_memfd_create, P("x"), 0x10); }},
    {"shmat", [] { return Raw(SYS_shmat, 0, 0, 0); }},
    {"userfaultfd", [] { return Raw(SYS_userfaultfd, 0); }},
    // Processes.
    {"fork", [] { return Raw(SYS_fork); }},
    {"vfork_clone",
     [] { return Raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0); }},
    {"clone_newuser",
     [] { return Raw(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0); }},
    {"clone3", [] { return Raw(SYS_clone3, P(stack), 88); }},
    {"clone_process",
     [] {
       return static_cast<long>(
           clone(Nothing, stack + sizeof(stack), SIGCHLD, nullptr));
     }},
    {"thread",
     [] {
       pthread_t thread;
       return -static_cast<long>(
           pthread_create(&thread, nullptr, Idle, nullptr));
     }},
    {"execve", [] { return Raw(SYS_execve, P("/bin/sh"), 0, 0); }},
    {"execveat_again",
     [] { return Raw(SYS_execveat, 120, P(""), 0, 0, AT_EMPTY_PATH); }},
    {"execveat_other",
     [] { return Raw(SYS_execveat, 1, P(""), 0, 0, AT_EMPTY_PATH); }},
    {"unshare", [] { return Raw(SYS_unshare, CLONE_NEWUSER); }},
    {"setns", [] { return Raw(SYS_setns, 0, 0); }},
    {"kill", [] { return Raw(SYS_kill, -1, SIGTERM); }},
    {"tgkill", [] { return Raw(SYS_tgkill, 1, 1, SIGTERM); }},
    {"ptrace", [] { return Raw(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }},
    {"process_vm_readv",
     [] { return Raw(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0); }},
    {"pidfd_open", [] { return Raw(434, 1, 0); }},
    // Privilege and kernel surface.
    {"setuid", [] { return Raw(SYS_setuid, 0); }},
    {"capset", [] { return Raw(SYS_capset, P(stack), P(stack)); }},
    {"prctl_dumpable_on", [] { return Raw(SYS_prctl, PR_SET_DUMPABLE, 1); }},
    {"prctl_name", [] { return Raw(SYS_prctl, PR_SET_NAME, P("x")); }},
    {"seccomp_user_notify",
     [] {
       return Raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                  SECCOMP_FILTER_FLAG_NEW_LISTENER, P(stack));
     }},
    {"seccomp_tsync",
     [] {
       return Raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                  SECCOMP_FILTER_FLAG_TSYNC, 0);
     }},
    {"bpf", [] { return Raw(SYS_bpf, 0, P(stack), 64); }},
    {"perf_event_open",
     [] { return Raw(SYS_perf_event_open, P(stack), 0, -1, -1, 0); }},
    {"io_uring_setup", [] { return Raw(425, 8, P(stack)); }},
    {"keyctl", [] { return Raw(SYS_keyctl, 0, -3, 0); }},
    {"ioctl", [] { return Raw(SYS_ioctl, 1, 0x5401, P(stack)); }},
    {"setrlimit", [] { return Raw(SYS_setrlimit, RLIMIT_CORE, P(stack)); }},
    {"prlimit_set",
     [] { return Raw(SYS_prlimit64, 0, RLIMIT_CORE, P(stack), 0); }},
    {"sethostname", [] { return Raw(SYS_sethostname, P("x"), 1); }},
    {"reboot", [] { return Raw(SYS_reboot, 0, 0, 0, 0); }},
    // Other interfaces of the kernel.
    {"int80_getpid", [] { return Int80(20, 0); }},
    {"int80_write", [] { return Int80(4, 1); }},
    {"x32_getpid", [] { return Raw(0x40000000 | SYS_getpid); }},
    {"x32_write", [] { return Raw(0x40000000 | SYS_write, 1, P("x"), 1); }},
    {"unknown_number", [] { return Raw(1000); }},
    {"minus_one", [] { return Raw(-1); }},
    // What is allowed.
    {"write_nothing", [] { return static_cast<long>(WriteTo(1, "", 0)); }},
    {"close_bad", [] { return Raw(SYS_close, 99); }},
    {"count_fds",
     [] {
       long count = 0;
       for (int fd = 0; fd < 4096; ++fd) {
         // A write of no bytes finds an fd.
         if (WriteTo(fd, "", 0) == 0 || errno != EBADF) ++count;
       }
       return count;
     }},
    {"malloc_huge",
     [] { return static_cast<long>(std::malloc(1L << 30) != nullptr); }},
    {"environment", [] { return static_cast<long>(environ[0] != nullptr); }},
};

void Say(const char* name, long result, int error) {
  char line[128];
  const int size = snprintf(line, sizeof(line), "%s returned %ld errno %d\n",
                            name, result, result == -1 ? error : 0);
  Write(line, size);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (strcmp(argv[1], "steady") == 0) {
    const absl::Status locked =
        bulkhead::sandbox::LockDown(bulkhead::policy::Lsi53c895a());
    if (!locked.ok()) {
      Write(locked.message().data(), locked.message().size());
      return 3;
    }
  }
  // For audits: memory that the real filter and MDWE would never have allowed.
  if (strcmp(argv[2], "wait_rx") == 0 || strcmp(argv[2], "wait_rwx") == 0) {
    const int write = strcmp(argv[2], "wait_rwx") == 0 ? PROT_WRITE : 0;
    if (mmap(nullptr, 4096, PROT_READ | PROT_EXEC | write,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
      return 1;
    }
  }
  if (strncmp(argv[2], "wait", 4) == 0) {
    Write("ready\n", 6);
    // Until the other end closes, and no earlier where fd 3 is, for a test, a
    // file that can always be read.
    pollfd parent = {.fd = 3, .events = 0, .revents = 0};
    ppoll(&parent, 1, nullptr, nullptr);
    return 0;
  }
  for (const Attempt& attempt : kAttempts) {
    if (strcmp(argv[2], attempt.name) != 0) continue;
    errno = 0;
    const long result = attempt.run();
    Say(attempt.name, result, errno);
    syscall(SYS_exit_group, 0);
  }
  return 4;
}
