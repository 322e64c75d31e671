#include "tests/containment/attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
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
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/service_fds.h"

namespace bulkhead::containment {
namespace {

using S = Surroundings;

alignas(4096) char scratch[64 * 1024];

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

// Paths live where no allocation is needed after the lock-down.
char* In(const S& s, const char* name) {
  static char path[2][512];
  static int turn = 0;
  turn ^= 1;
  strncpy(path[turn], s.folder.c_str(), 400);
  strncat(path[turn], "/", 2);
  strncat(path[turn], name, 100);
  return path[turn];
}
char* ProcOf(const S& s, const char* name) {
  static char path[128];
  char digits[16];
  int at = 15;
  digits[at] = 0;
  for (pid_t pid = s.sibling; pid > 0; pid /= 10) {
    digits[--at] = static_cast<char>('0' + pid % 10);
  }
  strcpy(path, "/proc/");
  strncat(path, digits + at, 16);
  strncat(path, name, 64);
  return path;
}

socklen_t UnixAddress(const char* name, bool abstract, sockaddr_un* address) {
  memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  strncpy(address->sun_path + (abstract ? 1 : 0), name, 100);
  return offsetof(sockaddr_un, sun_path) + strlen(name) + 1;
}

long ConnectUnix(const char* name, bool abstract) {
  sockaddr_un address;
  const socklen_t size = UnixAddress(name, abstract, &address);
  const long fd = Raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
  return fd < 0 ? fd : Raw(SYS_connect, fd, P(&address), size);
}

long ConnectTcp(const S& s, int type) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(s.tcp_port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const long fd = Raw(SYS_socket, AF_INET, type, 0);
  return fd < 0 ? fd : Raw(SYS_connect, fd, P(&address), sizeof(address));
}

// An fd that a taken-over neighbour hands over on the control channel.
long TakeFd() {
  char byte;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  if (recvmsg(kControlFd, &message, MSG_DONTWAIT) < 0) return -1;
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (head == nullptr) return -2;  // no room for it
  int fd;
  memcpy(&fd, CMSG_DATA(head), sizeof(fd));
  return fd;
}

long SendFd(int socket, int fd) {
  char bytes[] = "\xff\xff\xff\xff";
  iovec data = {bytes, 4};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof(space);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof(fd));
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

iovec Scratch(size_t size) { return {scratch, size}; }

constexpr Jailed kKilled = Jailed::kKilled;
constexpr Jailed kRefused = Jailed::kRefused;
constexpr Jailed kBounded = Jailed::kBounded;
constexpr Free kDone = Free::kDone;
constexpr Free kReached = Free::kReached;

#define TRY [](const S& s [[maybe_unused]]) -> long

const std::vector<Attempt>& Files() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"open", "files", kKilled, "open", kDone,
       TRY{return Raw(SYS_open, P(In(s, "canary")), O_RDWR);
}
}  // namespace
, {"openat", "files", kKilled, "openat", kDone,
   TRY{return Raw(SYS_openat, AT_FDCWD, P(In(s, "canary")), O_RDWR);
}  // namespace bulkhead::containment
}
, {"openat2", "files", kKilled, "openat2", kDone,
   TRY{static uint64_t how[3] = {O_RDWR, 0, 0};
return Raw(437, AT_FDCWD, P(In(s, "canary")), P(how), sizeof(how));
}
}
, {"creat", "files", kKilled, "creat", kDone,
   TRY{return Raw(SYS_creat, P(In(s, "new")), 0600);
}
}
, {"another_devices_disk", "files", kKilled, "openat", kDone,
   TRY{return Raw(SYS_openat, AT_FDCWD, P(In(s, "other_disk")), O_RDWR);
}
}
, {"own_memory_file", "files", kKilled, "openat", kDone,
   TRY{return Raw(SYS_openat, AT_FDCWD, P("/proc/self/mem"), O_RDWR);
}
}
, {"own_fd_again", "files", kKilled, "openat", kReached,
   TRY{return Raw(SYS_openat, AT_FDCWD, P("/proc/self/fd/2"), O_RDWR);
}
}
, {"siblings_memory_file", "files", kKilled, "openat", kReached,
   TRY{return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/mem")), O_RDWR);
}
}
, {"siblings_root", "files", kKilled, "openat", kReached,
   TRY{return Raw(SYS_openat, AT_FDCWD, P(ProcOf(s, "/root")), O_PATH);
}
}
, {"kvm_device", "files", kKilled, "openat", kReached,
   TRY{return Raw(SYS_openat, AT_FDCWD, P("/dev/kvm"), O_RDWR);
}
}
, {"name_to_handle", "files", kKilled, "name_to_handle_at", kReached,
   TRY{return Raw(SYS_name_to_handle_at, AT_FDCWD, P(In(s, "canary")),
                  P(scratch), P(scratch + 512), 0);
}
}
, {"open_by_handle", "files", kKilled, "open_by_handle_at", kReached,
   TRY{return Raw(SYS_open_by_handle_at, AT_FDCWD, P(scratch), 0);
}
}
, {"mkdir", "files", kKilled, "mkdir", kDone,
   TRY{return Raw(SYS_mkdir, P(In(s, "new")), 0700);
}
}
, {"mknod", "files", kKilled, "mknod", kDone,
   TRY{return Raw(SYS_mknod, P(In(s, "new")), S_IFIFO | 0600, 0);
}
}
, {"symlink", "files", kKilled, "symlink", kDone,
   TRY{return Raw(SYS_symlink, P("/etc/passwd"), P(In(s, "new")));
}
}
, {"link", "files", kKilled, "link", kReached,
   TRY{return Raw(SYS_link, P(In(s, "canary")), P(In(s, "new")));
}
}
, {"rename", "files", kKilled, "rename", kDone,
   TRY{return Raw(SYS_rename, P(In(s, "canary")), P(In(s, "new")));
}
}
, {"unlink", "files", kKilled, "unlink", kDone,
   TRY{return Raw(SYS_unlink, P(In(s, "canary")));
}
}
, {"truncate", "files", kKilled, "truncate", kDone,
   TRY{return Raw(SYS_truncate, P(In(s, "canary")), 0);
}
}
, {"chmod", "files", kKilled, "chmod", kReached,
   TRY{return Raw(SYS_chmod, P(In(s, "canary")), 0777);
}
}
, {"fchmod_own_disk", "files", kKilled, "fchmod", kReached,
   TRY{return Raw(SYS_fchmod, kFirstBackendFd, 04777);
}
}
, {"setxattr", "files", kKilled, "setxattr", kReached,
   TRY{return Raw(SYS_setxattr, P(In(s, "canary")), P("user.x"), P("x"), 1);
}
}
, {"stat", "files", kKilled, "stat", kDone,
   TRY{return Raw(SYS_stat, P("/"), P(scratch));
}
}
, {"statx", "files", kKilled, "statx", kDone,
   TRY{return Raw(332, AT_FDCWD, P("/"), 0, 0x7ff, P(scratch));
}
}
, {"chdir", "files", kKilled, "chdir", kDone, TRY{return Raw(SYS_chdir, P("/"));
}
}
, {"inotify", "files", kKilled, "inotify_init1", kDone,
   TRY{return Raw(SYS_inotify_init1, 0);
}
}
, {"fanotify", "files", kKilled, "fanotify_init", kReached,
   TRY{return Raw(SYS_fanotify_init, 0, 0);
}
}
, {"chroot", "mounts", kKilled, "chroot", kReached,
   TRY{return Raw(SYS_chroot, P(s.folder.c_str()));
}
}
, {"mount", "mounts", kKilled, "mount", kReached,
   TRY{return Raw(SYS_mount, P("x"), P(s.folder.c_str()), P("tmpfs"), 0, 0);
}
}
, {"umount", "mounts", kKilled, "umount2", kReached,
   TRY{return Raw(SYS_umount2, P("/"), 2 /* MNT_DETACH */);
}
}
, {"pivot_root", "mounts", kKilled, "pivot_root", kReached,
   TRY{return Raw(SYS_pivot_root, P(s.folder.c_str()), P(s.folder.c_str()));
}
}
, {"open_tree", "mounts", kKilled, "open_tree", kReached,
   TRY{return Raw(428, AT_FDCWD, P("/"), 1);
}
}
, {"move_mount", "mounts", kKilled, "move_mount", kReached,
   TRY{return Raw(429, -1, P(""), -1, P(""), 0);
}
}
, {"fsopen", "mounts", kKilled, "fsopen", kReached,
   TRY{return Raw(430, P("tmpfs"), 0);
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Sockets() {
  static const auto& attempts =
      *new std::vector<Attempt>{{"tcp", "sockets", kKilled, "socket", kDone,
                                 TRY{return ConnectTcp(s, SOCK_STREAM);
}
}
, {"udp", "sockets", kKilled, "socket", kDone,
   TRY{return ConnectTcp(s, SOCK_DGRAM);
}
}
, {"ipv6", "sockets", kKilled, "socket", kReached,
   TRY{return Raw(SYS_socket, AF_INET6, SOCK_STREAM, 0);
}
}
, {"unix_path", "sockets", kKilled, "socket", kDone,
   TRY{return ConnectUnix(In(s, "listener"), false);
}
}
, {"unix_abstract", "sockets", kKilled, "socket", kDone,
   TRY{return ConnectUnix(s.abstract.c_str(), true);
}
}
, {"netlink", "sockets", kKilled, "socket", kDone,
   TRY{return Raw(SYS_socket, AF_NETLINK, SOCK_RAW, 0);
}
}
, {"packet", "sockets", kKilled, "socket", kReached,
   TRY{return Raw(SYS_socket, AF_PACKET, SOCK_RAW, 0);
}
}
, {"raw_ip", "sockets", kKilled, "socket", kReached,
   TRY{return Raw(SYS_socket, AF_INET, SOCK_RAW, 1);
}
}
, {"vsock", "sockets", kKilled, "socket", kReached,
   TRY{return Raw(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
}
}
, {"crypto_socket", "sockets", kKilled, "socket", kReached,
   TRY{return Raw(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0);
}
}
, {"socketpair", "sockets", kKilled, "socketpair", kDone,
   TRY{return Raw(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, P(scratch));
}
}
, {"bind_own_channel", "sockets", kKilled, "bind", kReached,
   TRY{sockaddr_un address;
const socklen_t size = UnixAddress("x", true, &address);
return Raw(SYS_bind, kChannelFd, P(&address), size);
}
}
, {"connect_own_channel_elsewhere", "sockets", kKilled, "connect", kReached,
   TRY{sockaddr_un address;
const socklen_t size = UnixAddress(s.abstract.c_str(), true, &address);
return Raw(SYS_connect, kChannelFd, P(&address), size);
}
}
, {"listen_on_own_channel", "sockets", kKilled, "listen", kReached,
   TRY{return Raw(SYS_listen, kChannelFd, 1);
}
}
, {"accept_on_own_channel", "sockets", kKilled, "accept", kReached,
   TRY{return Raw(SYS_accept, kChannelFd, 0, 0);
}
}
, {"sendto_an_address", "sockets", kKilled, "sendto", kReached,
   TRY{sockaddr_un address;
const socklen_t size = UnixAddress(s.abstract.c_str(), true, &address);
return Raw(SYS_sendto, kChannelFd, P("x"), 1, 0, P(&address), size);
}
}
, {"sendmsg_to_an_address", "sockets", kBounded, "", kReached,
   TRY{// The call that it has; a connected socket takes no address.
       static sockaddr_un address;
msghdr message = {};
iovec data = {scratch, 1};
message.msg_name = &address;
message.msg_namelen = UnixAddress(s.abstract.c_str(), true, &address);
message.msg_iov = &data;
message.msg_iovlen = 1;
return sendmsg(kControlFd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
}
, {"setsockopt", "sockets", kKilled, "setsockopt", kDone,
   TRY{static int size = 1 << 20;
return Raw(SYS_setsockopt, kChannelFd, SOL_SOCKET, SO_SNDBUF, P(&size),
           sizeof(size));
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Processes() {
  static const auto& attempts =
      *new std::vector<Attempt>{{"fork", "processes", kKilled, "fork", kDone,
                                 TRY{const long pid = Raw(SYS_fork);
  if (pid == 0) Raw(SYS_exit_group, 0);
  return pid;
}
}
, {"clone_process", "processes", kKilled, "clone", kDone,
   TRY{const long pid = Raw(SYS_clone, SIGCHLD, 0);
if (pid == 0) Raw(SYS_exit_group, 0);
return pid;
}
}
, {"clone3", "processes", kKilled, "clone3", kDone,
   TRY{static uint64_t args[11] = {0, 0, 0, 0, SIGCHLD};
const long pid = Raw(SYS_clone3, P(args), sizeof(args));
if (pid == 0) Raw(SYS_exit_group, 0);
return pid;
}
}
, {"clone_user_namespace", "processes", kKilled, "clone", kReached,
   TRY{const long pid = Raw(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0);
if (pid == 0) Raw(SYS_exit_group, 0);
return pid;
}
}
, {"unshare_user", "processes", kKilled, "unshare", kReached,
   TRY{return Raw(SYS_unshare, CLONE_NEWUSER);
}
}
, {"unshare_files", "processes", kKilled, "unshare", kDone,
   TRY{return Raw(SYS_unshare, CLONE_FILES);
}
}
, {"setns", "processes", kKilled, "setns", kReached,
   TRY{return Raw(SYS_setns, kRamFd, 0);
}
}
, {"execve", "processes", kKilled, "execve", kDone,
   TRY{static const char * argv[] = {"true", nullptr};
return Raw(SYS_execve, P("/bin/true"), P(argv), 0);
}
}
, {"execveat_path", "processes", kKilled, "execveat", kDone,
   TRY{static const char * argv[] = {"true", nullptr};
return Raw(SYS_execveat, AT_FDCWD, P("/bin/true"), P(argv), 0, 0);
}
}
, {"execveat_own_disk", "processes", kKilled, "execveat", kReached,
   TRY{static const char * argv[] = {"x", nullptr};
return Raw(SYS_execveat, kFirstBackendFd, P(""), P(argv), 0, AT_EMPTY_PATH);
}
}
, {"execveat_ram", "processes", kKilled, "execveat", kReached,
   TRY{static const char * argv[] = {"x", nullptr};
return Raw(SYS_execveat, kRamFd, P(""), P(argv), 0, AT_EMPTY_PATH);
}
}
, {"execveat_the_programs_number", "processes", kKilled, "execveat", kReached,
   TRY{static const char * argv[] = {"x", nullptr};
return Raw(SYS_execveat, 120, P(""), P(argv), 0, AT_EMPTY_PATH);
}
}
, {"kill_sibling", "siblings", kKilled, "kill", kDone,
   TRY{return Raw(SYS_kill, s.sibling, SIGUSR1);
}
}
, {"tgkill_sibling", "siblings", kKilled, "tgkill", kDone,
   TRY{return Raw(SYS_tgkill, s.sibling, s.sibling, SIGUSR1);
}
}
, {"queue_signal", "siblings", kKilled, "rt_sigqueueinfo", kDone,
   TRY{static siginfo_t info;
info.si_code = SI_QUEUE;
return Raw(SYS_rt_sigqueueinfo, s.sibling, SIGUSR1, P(&info));
}
}
, {"pidfd_open", "siblings", kKilled, "pidfd_open", kDone,
   TRY{return Raw(SYS_pidfd_open, s.sibling, 0);
}
}
, {"pidfd_send_signal", "siblings", kKilled, "pidfd_send_signal", kReached,
   TRY{return Raw(SYS_pidfd_send_signal, kRamFd, SIGUSR1, 0, 0);
}
}
, {"pidfd_getfd", "siblings", kKilled, "pidfd_getfd", kReached,
   TRY{return Raw(438, kRamFd, 3, 0);
}
}
, {"ptrace_sibling", "siblings", kKilled, "ptrace", kReached,
   TRY{return Raw(SYS_ptrace, PTRACE_SEIZE, s.sibling, 0, 0);
}
}
, {"read_sibling", "siblings", kKilled, "process_vm_readv", kReached,
   TRY{iovec here = Scratch(8);
iovec there = {reinterpret_cast<void*>(s.word), 8};  // NOLINT
return Raw(SYS_process_vm_readv, s.sibling, P(&here), 1, P(&there), 1, 0);
}
}
, {"write_sibling", "siblings", kKilled, "process_vm_writev", kReached,
   TRY{iovec here = Scratch(8);
iovec there = {reinterpret_cast<void*>(s.word), 8};  // NOLINT
return Raw(SYS_process_vm_writev, s.sibling, P(&here), 1, P(&there), 1, 0);
}
}
, {"kcmp", "siblings", kKilled, "kcmp", kReached,
   TRY{return Raw(SYS_kcmp, s.sibling, s.sibling, 0, 3, 3);
}
}
, {"slow_sibling_down", "siblings", kKilled, "setpriority", kDone,
   TRY{return Raw(SYS_setpriority, PRIO_PROCESS, s.sibling, 19);
}
}
, {"pin_sibling", "siblings", kKilled, "sched_setaffinity", kDone,
   TRY{static unsigned long one = 1;
return Raw(SYS_sched_setaffinity, s.sibling, sizeof(one), P(&one));
}
}
, {"limit_sibling", "siblings", kKilled, "prlimit64", kDone,
   TRY{static rlimit none = {0, 0};
return Raw(SYS_prlimit64, s.sibling, RLIMIT_FSIZE, P(&none), 0);
}
}
, {"share_core_with_sibling", "siblings", kKilled, "prctl", kReached,
   TRY{return Raw(SYS_prctl, 62, 3, s.sibling, 1, 0);
}
}
, {"setsid", "processes", kKilled, "setsid", kDone, TRY{return Raw(SYS_setsid);
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Memory() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"map_code", "memory", kKilled, "mmap", kDone,
       TRY{return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
}
, {"map_writable_code", "memory", kKilled, "mmap", kDone,
   TRY{return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
}
, {"map_ram_as_code", "memory", kKilled, "mmap", kDone,
   TRY{return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, kRamFd,
                  0);
}
}
, {"map_memory", "memory", kRefused, "", kDone,
   TRY{return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
}
, {"map_ram_again", "memory", kRefused, "", kDone,
   TRY{return Raw(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, kRamFd,
                  0);
}
}
, {"protect_data_as_code", "memory", kKilled, "mprotect", kDone,
   TRY{return Raw(SYS_mprotect, P(scratch), 4096, PROT_READ | PROT_EXEC);
}
}
, {"protect_code_as_data", "memory", kKilled, "mprotect", kDone,
   TRY{return Raw(SYS_mprotect, P(&AllAttempts) & ~4095L, 4096,
                  PROT_READ | PROT_WRITE);
}
}
, {"pkey_mprotect", "memory", kKilled, "pkey_mprotect", kReached,
   TRY{return Raw(329, P(scratch), 4096, PROT_EXEC, -1);
}
}
, {"move_memory", "memory", kRefused, "", kDone,
   TRY{return Raw(SYS_mremap, P(scratch), 4096, 4096,
                  MREMAP_MAYMOVE | 4 /* DONTUNMAP */, 0);
}
}
, {"unmap_code", "memory", kRefused, "", kDone,
   TRY{return Raw(SYS_munmap, P(scratch + 4096 * 8), 4096);
}
}
, {"drop_memory", "memory", kRefused, "", kDone,
   TRY{return Raw(SYS_madvise, P(scratch), 4096, MADV_DONTNEED);
}
}
, {"personality", "memory", kKilled, "personality", kDone,
   TRY{return Raw(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
}
}
, {"memfd", "memory", kKilled, "memfd_create", kDone,
   TRY{return Raw(SYS_memfd_create, P("x"), 0);
}
}
, {"memfd_secret", "memory", kKilled, "memfd_secret", kReached,
   TRY{return Raw(447, 0);
}
}
, {"shared_memory", "memory", kKilled, "shmget", kReached,
   TRY{return Raw(SYS_shmget, 0, 4096, 01600);
}
}
, {"attach_shared_memory", "memory", kKilled, "shmat", kReached,
   TRY{return Raw(SYS_shmat, -1, 0, 040000 /* SHM_EXEC */);
}
}
, {"userfaultfd", "memory", kKilled, "userfaultfd", kReached,
   TRY{return Raw(SYS_userfaultfd, 1);
}
}
, {"remap_file_pages", "memory", kKilled, "remap_file_pages", kReached,
   TRY{return Raw(SYS_remap_file_pages, P(scratch), 4096, 0, 0, 0);
}
}
, {"lock_memory", "memory", kKilled, "mlock", kDone,
   TRY{return Raw(SYS_mlock, P(scratch), 4096);
}
}
, {"local_descriptors", "memory", kKilled, "modify_ldt", kReached,
   TRY{return Raw(SYS_modify_ldt, 0, P(scratch), 64);
}
}
, {"shrink_ram", "guest_ram", kRefused, "", kDone,
   TRY{return Raw(SYS_ftruncate, kRamFd, 0);
}
}
, {"grow_ram", "guest_ram", kRefused, "", kDone,
   TRY{return Raw(SYS_ftruncate, kRamFd, 1L << 30);
}
}
, {"grow_ram_by_allocation", "guest_ram", kRefused, "", kDone,
   TRY{return Raw(SYS_fallocate, kRamFd, 0, 0, 8 << 20);
}
}
, {"write_behind_ram", "guest_ram", kRefused, "", kDone,
   TRY{iovec data = Scratch(4096);
return pwritev2(kRamFd, &data, 1, 16 << 20, 0);
}
}
, {"seal_ram_against_others", "guest_ram", kKilled, "fcntl", kDone,
   TRY{return Raw(SYS_fcntl, kRamFd, F_ADD_SEALS, 0x10);
}
}
, {"punch_hole_in_own_ram", "guest_ram", kBounded, "", kDone,
   TRY{return Raw(SYS_fallocate, kRamFd, 3, 0, 4096);
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Kernel() {
  static const auto& attempts =
      *new std::vector<Attempt>{{"bpf", "kernel", kKilled, "bpf", kReached,
                                 TRY{return Raw(SYS_bpf, 0, P(scratch), 64);
}
}
, {"perf", "kernel", kKilled, "perf_event_open", kReached,
   TRY{return Raw(SYS_perf_event_open, P(scratch), 0, -1, -1, 0);
}
}
, {"keyctl", "kernel", kKilled, "keyctl", kReached,
   TRY{return Raw(SYS_keyctl, 0, -3, 0);
}
}
, {"add_key", "kernel", kKilled, "add_key", kReached,
   TRY{return Raw(SYS_add_key, P("user"), P("x"), P("x"), 1, -2);
}
}
, {"io_uring_setup", "kernel", kKilled, "io_uring_setup", kReached,
   TRY{return Raw(425, 8, P(scratch));
}
}
, {"io_uring_enter", "kernel", kKilled, "io_uring_enter", kReached,
   TRY{return Raw(426, kRamFd, 1, 0, 0, 0, 0);
}
}
, {"io_uring_register", "kernel", kKilled, "io_uring_register", kReached,
   TRY{return Raw(427, kRamFd, 0, 0, 0);
}
}
, {"old_aio", "kernel", kKilled, "io_setup", kDone,
   TRY{static uint64_t context = 0;
return Raw(SYS_io_setup, 1, P(&context));
}
}
, {"ioctl_on_disk", "kernel", kKilled, "ioctl", kReached,
   TRY{return Raw(SYS_ioctl, kFirstBackendFd, 0x127c, P(scratch));
}
}
, {"type_on_terminal", "kernel", kKilled, "ioctl", kReached,
   TRY{return Raw(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, P("x"));
}
}
, {"epoll", "kernel", kKilled, "epoll_create1", kDone,
   TRY{return Raw(SYS_epoll_create1, 0);
}
}
, {"timerfd", "kernel", kKilled, "timerfd_create", kDone,
   TRY{return Raw(SYS_timerfd_create, 1, 0);
}
}
, {"pipe", "kernel", kKilled, "pipe2", kDone,
   TRY{return Raw(SYS_pipe2, P(scratch), 0);
}
}
, {"splice_disk", "kernel", kKilled, "splice", kReached,
   TRY{return Raw(SYS_splice, kFirstBackendFd, 0, 1, 0, 1, 0);
}
}
, {"copy_disk_to_ram", "kernel", kKilled, "copy_file_range", kReached,
   TRY{return Raw(SYS_copy_file_range, kFirstBackendFd, 0, kRamFd, 0, 1, 0);
}
}
, {"module", "kernel", kKilled, "init_module", kReached,
   TRY{return Raw(SYS_init_module, P(scratch), 64, P(""));
}
}
, {"module_from_file", "kernel", kKilled, "finit_module", kReached,
   TRY{return Raw(SYS_finit_module, kFirstBackendFd, P(""), 0);
}
}
, {"kexec", "kernel", kKilled, "kexec_load", kReached,
   TRY{return Raw(SYS_kexec_load, 0, 0, 0, 0);
}
}
, {"reboot", "kernel", kKilled, "reboot", kReached,
   TRY{return Raw(SYS_reboot, 0, 0, 0, 0);
}
}
, {"kernel_log", "kernel", kKilled, "syslog", kReached,
   TRY{return Raw(SYS_syslog, 10, 0, 0);
}
}
, {"set_clock", "kernel", kKilled, "clock_settime", kReached,
   TRY{static timespec zero = {};
return Raw(SYS_clock_settime, CLOCK_REALTIME, P(&zero));
}
}
, {"host_name", "kernel", kKilled, "sethostname", kReached,
   TRY{return Raw(SYS_sethostname, P("x"), 1);
}
}
, {"io_ports", "kernel", kKilled, "iopl", kReached, TRY{return Raw(SYS_iopl, 3);
}
}
, {"swap", "kernel", kKilled, "swapon", kReached,
   TRY{return Raw(SYS_swapon, P(In(s, "canary")), 0);
}
}
, {"landlock", "kernel", kKilled, "landlock_create_ruleset", kReached,
   TRY{return Raw(444, 0, 0, 1);
}
}
, {"message_queue", "kernel", kKilled, "mq_open", kReached,
   TRY{return Raw(SYS_mq_open, P("x"), O_CREAT | O_RDWR, 0600, 0);
}
}
, {"i386_interface", "interfaces", kKilled, "getpid", kReached,
   TRY{return Int80(20, 0);
}
}
, {"i386_execve", "interfaces", kKilled, "execve", kReached,
   TRY{return Int80(11, 0);
}
}
, {"x32_interface", "interfaces", kKilled, "getpid", kReached,
   TRY{return Raw(0x40000000 | SYS_getpid);
}
}
, {"a_call_to_come", "interfaces", kKilled, "syscall 1000", kReached,
   TRY{return Raw(1000);
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Privileges() {
  static const auto& attempts =
      *new std::vector<Attempt>{{"become_root", "privileges", kKilled, "setuid",
                                 kReached, TRY{return Raw(SYS_setuid, 0);
}
}
, {"groups", "privileges", kKilled, "setgroups", kReached,
   TRY{return Raw(SYS_setgroups, 0, 0);
}
}
, {"capabilities", "privileges", kKilled, "capset", kReached,
   TRY{static uint32_t head[2] = {0x20080522, 0};
return Raw(SYS_capset, P(head), P(scratch));
}
}
, {"own_limits", "privileges", kKilled, "setrlimit", kDone,
   TRY{static rlimit limit = {64, 64};
return Raw(SYS_setrlimit, RLIMIT_NOFILE, P(&limit));
}
}
, {"dumpable", "privileges", kKilled, "prctl", kDone,
   TRY{return Raw(SYS_prctl, PR_SET_DUMPABLE, 1);
}
}
, {"survive_the_launcher", "privileges", kKilled, "prctl", kDone,
   TRY{return Raw(SYS_prctl, PR_SET_PDEATHSIG, 0);
}
}
, {"another_filter", "privileges", kKilled, "seccomp", kReached,
   TRY{return Raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                  SECCOMP_FILTER_FLAG_NEW_LISTENER, 0);
}
}
, {"another_filter_by_prctl", "privileges", kKilled, "prctl", kReached,
   TRY{return Raw(SYS_prctl, PR_SET_SECCOMP, 2, 0);
}
}
, {"speculate_past_stores", "speculation", kKilled, "prctl", kReached,
   TRY{return Raw(SYS_prctl, PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS,
                  PR_SPEC_ENABLE, 0);
}
}
, {"speculate_through_branches", "speculation", kKilled, "prctl", kReached,
   TRY{return Raw(SYS_prctl, PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH,
                  PR_SPEC_ENABLE, 0);
}
}
, {"leave_the_core_group", "speculation", kKilled, "prctl", kReached,
   TRY{return Raw(SYS_prctl, 62, 1, 0, 0, 0);
}
}
, {"run_in_real_time", "resources", kKilled, "sched_setscheduler", kReached,
   TRY{static int priority = 50;
return Raw(SYS_sched_setscheduler, 0, SCHED_FIFO, P(&priority));
}
}
,
}
;
return attempts;
}

const std::vector<Attempt>& Exhaustion() {
  static const auto& attempts = *new std::vector<Attempt>{
      // Megabytes that malloc gives; the test compares with what it may have.
      {"all_memory", "resources", kBounded, "", kDone, TRY{long blocks = 0;
  while (blocks < 512) {
    auto* block = static_cast<volatile char*>(malloc(1 << 20));
    if (block == nullptr) break;
    for (int i = 0; i < 1 << 20; i += 4096) block[i] = 1;
    ++blocks;
  }
  return blocks;
}
}
, {"heap_by_brk", "resources", kRefused, "", kDone,
   TRY{// What brk says no with is the old end; the filter says 0.
       const long end = Raw(SYS_brk, 0);
const long more = Raw(SYS_brk, end + (64L << 20));
if (more >= end + (64L << 20)) return 0;
errno = ENOMEM;
return -1;
}
}
,
    // Fds that neighbours hand over, which it keeps.
    {"all_fds", "resources", kBounded, "", kDone, TRY{long held = 0;
while (TakeFd() >= 0) ++held;
return held;
}
}
, {"vfork_by_clone", "resources", kKilled, "clone", kDone,
   TRY{const long pid = Raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
if (pid == 0) Raw(SYS_exit_group, 0);
return pid;
}
}
,
    // The launcher reads when it likes, and the pipe ends somewhere.
    {"flood_the_log", "resources", kBounded, "", kReached,
     TRY{iovec line = {const_cast<char*>("\x1b]0;x\x07 forged line\n"), 20};
long written = 0;
while (written < 10000 && pwritev2(1, &line, 1, -1, 0) > 0) ++written;
return written;
}
}
, {"flood_the_shim", "neighbours", kBounded, "", kReached, TRY{long sent = 0;
iovec data = Scratch(1000);
msghdr message = {};
message.msg_iov = &data;
message.msg_iovlen = 1;
while (sent < 100000 &&
       sendmsg(kChannelFd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  ++sent;
}
return sent;
}
}
, {"own_disk_to_the_shim", "neighbours", kBounded, "", kReached,
   TRY{return SendFd(kChannelFd, kFirstBackendFd);
}
}
, {"ram_to_the_shim", "neighbours", kBounded, "", kReached,
   TRY{return SendFd(kChannelFd, kRamFd);
}
}
, {"own_channel_to_the_shim", "neighbours", kBounded, "", kReached,
   TRY{return SendFd(kChannelFd, kChannelFd);
}
}
, {"own_disk_to_the_launcher", "neighbours", kBounded, "", kReached,
   TRY{return SendFd(kControlFd, kFirstBackendFd);
}
}
,
    // A neighbour hands a folder over (the test does).
    {"open_in_a_folder_handed_over", "neighbours", kKilled, "openat", kDone,
     TRY{const long folder = TakeFd();
return Raw(SYS_openat, folder, P("canary"), O_RDWR);
}
}
, {"go_to_a_folder_handed_over", "neighbours", kKilled, "fchdir", kDone,
   TRY{return Raw(SYS_fchdir, TakeFd());
}
}
, {"unlink_in_a_folder_handed_over", "neighbours", kKilled, "unlinkat", kDone,
   TRY{return Raw(SYS_unlinkat, TakeFd(), P("canary"), 0);
}
}
,
}
;
return attempts;
}

#undef TRY

}  // namespace

std::vector<std::string> Surroundings::ToArguments() const {
  return {folder, abstract, absl::StrCat(tcp_port), absl::StrCat(sibling),
          absl::StrCat(word)};
}

Surroundings Surroundings::FromArguments(char** begin, char** end) {
  Surroundings s;
  if (end - begin < 5) return s;
  int port = 0;
  int sibling = 0;
  s.folder = begin[0];
  s.abstract = begin[1];
  if (absl::SimpleAtoi(begin[2], &port)) s.tcp_port = port;
  if (absl::SimpleAtoi(begin[3], &sibling)) s.sibling = sibling;
  if (!absl::SimpleAtoi(begin[4], &s.word)) s.word = 0;
  return s;
}

const std::vector<Attempt>& AllAttempts() {
  static const auto& all = *[] {
    auto* attempts = new std::vector<Attempt>;
    for (const std::vector<Attempt>* group :
         {&Files(), &Sockets(), &Processes(), &Memory(), &Kernel(),
          &Privileges(), &Exhaustion()}) {
      attempts->insert(attempts->end(), group->begin(), group->end());
    }
    return attempts;
  }();
  return all;
}

}  // namespace bulkhead::containment
