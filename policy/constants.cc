#include "policy/constants.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <termios.h>

#include <utility>

namespace bulkhead::policy {
namespace {

struct Named {
  const char* name;
  uint64_t value;
};

// Younger than the oldest headers that we build with.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define BULKHEAD_NAMED(constant) \
  { #constant, static_cast < uint64_t>(constant) }

constexpr Named kConstants[] = {
    BULKHEAD_NAMED(AF_UNIX),
    {"ARCH_CET_STATUS", 0x3001},
    {"ARCH_GET_XCOMP_GUEST_PERM", 0x1024},
    {"ARCH_GET_XCOMP_SUPP", 0x1021},
    {"ARCH_REQ_XCOMP_GUEST_PERM", 0x1025},
    {"ARCH_SET_FS", 0x1002},
    {"ARCH_SHSTK_STATUS", 0x5005},
    BULKHEAD_NAMED(AT_EMPTY_PATH),
    BULKHEAD_NAMED(CLONE_CHILD_CLEARTID),
    BULKHEAD_NAMED(CLONE_FILES),
    BULKHEAD_NAMED(CLONE_FS),
    BULKHEAD_NAMED(CLONE_PARENT_SETTID),
    BULKHEAD_NAMED(CLONE_SETTLS),
    BULKHEAD_NAMED(CLONE_SIGHAND),
    BULKHEAD_NAMED(CLONE_SYSVSEM),
    BULKHEAD_NAMED(CLONE_THREAD),
    BULKHEAD_NAMED(CLONE_VM),
    BULKHEAD_NAMED(FD_CLOEXEC),
    BULKHEAD_NAMED(FIONBIO),
    BULKHEAD_NAMED(FIONREAD),
    {"FUTEX_WAKE_PRIVATE", FUTEX_WAKE | FUTEX_PRIVATE_FLAG},
    BULKHEAD_NAMED(F_ADD_SEALS),
    BULKHEAD_NAMED(F_DUPFD_CLOEXEC),
    BULKHEAD_NAMED(F_GETFD),
    BULKHEAD_NAMED(FALLOC_FL_KEEP_SIZE),
    BULKHEAD_NAMED(FALLOC_FL_PUNCH_HOLE),
    BULKHEAD_NAMED(FALLOC_FL_ZERO_RANGE),
    BULKHEAD_NAMED(F_GETFL),
    BULKHEAD_NAMED(F_GET_SEALS),
    BULKHEAD_NAMED(F_SETFD),
    BULKHEAD_NAMED(F_SETFL),
    BULKHEAD_NAMED(F_OFD_GETLK),
    BULKHEAD_NAMED(F_OFD_SETLK),
    BULKHEAD_NAMED(MADV_DONTDUMP),
    BULKHEAD_NAMED(MADV_DONTNEED),
    BULKHEAD_NAMED(MADV_HUGEPAGE),
    BULKHEAD_NAMED(MAP_ANONYMOUS),
    BULKHEAD_NAMED(MAP_FIXED),
    BULKHEAD_NAMED(MAP_NORESERVE),
    BULKHEAD_NAMED(MAP_PRIVATE),
    BULKHEAD_NAMED(MAP_SHARED),
    BULKHEAD_NAMED(MAP_STACK),
    BULKHEAD_NAMED(MFD_ALLOW_SEALING),
    BULKHEAD_NAMED(MFD_CLOEXEC),
    BULKHEAD_NAMED(MFD_NOEXEC_SEAL),
    BULKHEAD_NAMED(PROT_EXEC),
    BULKHEAD_NAMED(PROT_READ),
    BULKHEAD_NAMED(PROT_WRITE),
    BULKHEAD_NAMED(PR_GET_NO_NEW_PRIVS),
    BULKHEAD_NAMED(PR_GET_SECCOMP),
    BULKHEAD_NAMED(PR_GET_DUMPABLE),
    BULKHEAD_NAMED(PR_MCE_KILL),
    BULKHEAD_NAMED(PR_SET_DUMPABLE),
    BULKHEAD_NAMED(PR_CAPBSET_READ),
    BULKHEAD_NAMED(PR_SET_NAME),
    BULKHEAD_NAMED(PR_SET_NO_NEW_PRIVS),
    BULKHEAD_NAMED(PR_SET_TIMERSLACK),
    BULKHEAD_NAMED(PR_SET_VMA),
    BULKHEAD_NAMED(SECCOMP_FILTER_FLAG_TSYNC),
    BULKHEAD_NAMED(SECCOMP_GET_ACTION_AVAIL),
    BULKHEAD_NAMED(SECCOMP_GET_NOTIF_SIZES),
    BULKHEAD_NAMED(SECCOMP_SET_MODE_FILTER),
    BULKHEAD_NAMED(SIGABRT),
    BULKHEAD_NAMED(SOCK_CLOEXEC),
    BULKHEAD_NAMED(SOCK_NONBLOCK),
    BULKHEAD_NAMED(SOCK_STREAM),
    BULKHEAD_NAMED(SOL_SOCKET),
    BULKHEAD_NAMED(SO_TYPE),
    BULKHEAD_NAMED(SO_SNDBUF),
    BULKHEAD_NAMED(SO_RCVBUF),
    BULKHEAD_NAMED(TCGETS),
    BULKHEAD_NAMED(TCSETS),
    BULKHEAD_NAMED(TCSETSF),
    BULKHEAD_NAMED(TCSETSW),
    BULKHEAD_NAMED(TIOCGWINSZ),
};

constexpr Named kResources[] = {
    BULKHEAD_NAMED(RLIMIT_AS),      BULKHEAD_NAMED(RLIMIT_CORE),
    BULKHEAD_NAMED(RLIMIT_CPU),     BULKHEAD_NAMED(RLIMIT_DATA),
    BULKHEAD_NAMED(RLIMIT_FSIZE),   BULKHEAD_NAMED(RLIMIT_LOCKS),
    BULKHEAD_NAMED(RLIMIT_MEMLOCK), BULKHEAD_NAMED(RLIMIT_MSGQUEUE),
    BULKHEAD_NAMED(RLIMIT_NICE),    BULKHEAD_NAMED(RLIMIT_NOFILE),
    BULKHEAD_NAMED(RLIMIT_NPROC),   BULKHEAD_NAMED(RLIMIT_RTPRIO),
    BULKHEAD_NAMED(RLIMIT_RTTIME),  BULKHEAD_NAMED(RLIMIT_SIGPENDING),
    BULKHEAD_NAMED(RLIMIT_STACK),
};

constexpr Named kSeals[] = {
    BULKHEAD_NAMED(F_SEAL_SEAL),         BULKHEAD_NAMED(F_SEAL_SHRINK),
    BULKHEAD_NAMED(F_SEAL_GROW),         BULKHEAD_NAMED(F_SEAL_WRITE),
    BULKHEAD_NAMED(F_SEAL_FUTURE_WRITE), {"F_SEAL_EXEC", 0x20},
};

constexpr Named kNamespaces[] = {
    {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC},
    {"mount", CLONE_NEWNS},      {"net", CLONE_NEWNET},
    {"pid", CLONE_NEWPID},       {"time", 0x80 /* CLONE_NEWTIME */},
    {"user", CLONE_NEWUSER},     {"uts", CLONE_NEWUTS},
};

#undef BULKHEAD_NAMED

template <size_t kCount>
std::optional<uint64_t> Find(const Named (&table)[kCount],
                             const std::string& name) {
  for (const Named& entry : table) {
    if (name == entry.name) return entry.value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint64_t> ConstantValue(const std::string& expression) {
  uint64_t value = 0;
  size_t start = 0;
  while (true) {
    const size_t end = expression.find('|', start);
    const std::optional<uint64_t> part =
        Find(kConstants, expression.substr(start, end - start));
    if (!part) return std::nullopt;
    value |= *part;
    if (end == std::string::npos) return value;
    start = end + 1;
  }
}

std::optional<uint64_t> ResourceNumber(const std::string& name) {
  return Find(kResources, name);
}

std::optional<uint64_t> SealValue(const std::string& name) {
  return Find(kSeals, name);
}

std::optional<uint64_t> NamespaceFlag(const std::string& name) {
  return Find(kNamespaces, name);
}

}  // namespace bulkhead::policy
