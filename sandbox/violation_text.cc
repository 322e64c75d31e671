#include "sandbox/violation_text.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sandbox/syscalls.h"

namespace bulkhead::sandbox {
namespace {

// One letter for each argument: d a number, x an address or bits, f a folder
// fd, s a string, p protection, m mapping flags, o open flags, a an address
// family, t a socket type, c clone flags.
struct Shape {
  const char* syscall;
  const char* letters;
};

constexpr Shape kShapes[] = {
    {"accept4", "dxxt"},
    {"bind", "dxd"},
    {"bpf", "dxd"},
    {"brk", "x"},
    {"chdir", "s"},
    {"chmod", "sd"},
    {"clone", "cxxxx"},
    {"clone3", "xd"},
    {"close", "d"},
    {"connect", "dxd"},
    {"creat", "sd"},
    {"dup2", "dd"},
    {"dup3", "ddo"},
    {"epoll_wait", "dxdd"},
    {"execve", "sxx"},
    {"execveat", "fsxxx"},
    {"exit", "d"},
    {"exit_group", "d"},
    {"fallocate", "dddd"},
    {"fchmod", "dd"},
    {"fcntl", "ddx"},
    {"fork", ""},
    {"fstat", "dx"},
    {"ftruncate", "dd"},
    {"futex", "xddxxd"},
    {"getdents64", "dxd"},
    {"getpid", ""},
    {"getppid", ""},
    {"getrandom", "xdd"},
    {"gettid", ""},
    {"getuid", ""},
    {"io_uring_enter", "ddddxd"},
    {"io_uring_register", "ddxd"},
    {"io_uring_setup", "dx"},
    {"ioctl", "dxx"},
    {"kill", "dd"},
    {"link", "ss"},
    {"listen", "dd"},
    {"lseek", "ddd"},
    {"madvise", "xdd"},
    {"memfd_create", "sx"},
    {"mkdir", "sd"},
    {"mmap", "xdpmdx"},
    {"mount", "sssxx"},
    {"mprotect", "xdp"},
    {"mremap", "xddxx"},
    {"munmap", "xd"},
    {"newfstatat", "fsxx"},
    {"open", "sod"},
    {"open_tree", "fsx"},
    {"openat", "fsod"},
    {"openat2", "fsxd"},
    {"pidfd_getfd", "ddx"},
    {"pidfd_open", "dd"},
    {"pivot_root", "ss"},
    {"poll", "xdd"},
    {"ppoll", "xdxxd"},
    {"prctl", "dxxxx"},
    {"pread64", "dxdd"},
    {"preadv2", "dxdddx"},
    {"prlimit64", "ddxx"},
    {"process_vm_readv", "dxdxdx"},
    {"process_vm_writev", "dxdxdx"},
    {"ptrace", "ddxx"},
    {"pwrite64", "dxdd"},
    {"pwritev2", "dxdddx"},
    {"read", "dxd"},
    {"readlink", "sxd"},
    {"recvmsg", "dxx"},
    {"rt_sigaction", "dxxd"},
    {"rt_sigprocmask", "dxxd"},
    {"rt_sigreturn", ""},
    {"sched_yield", ""},
    {"seccomp", "dxx"},
    {"sendmsg", "dxx"},
    {"sendto", "dxdxxd"},
    {"setns", "dx"},
    {"setsockopt", "dddxd"},
    {"shmget", "xdx"},
    {"socket", "atd"},
    {"socketpair", "atdx"},
    {"stat", "sx"},
    {"symlink", "ss"},
    {"tgkill", "ddd"},
    {"umount2", "sx"},
    {"unlink", "s"},
    {"unlinkat", "fsx"},
    {"unshare", "c"},
    {"userfaultfd", "x"},
    {"vfork", ""},
    {"write", "dxd"},
    {"writev", "dxd"},
};

struct Bit {
  uint64_t value;
  const char* name;
};

constexpr Bit kProtection[] = {{PROT_READ, "PROT_READ"},
                               {PROT_WRITE, "PROT_WRITE"},
                               {PROT_EXEC, "PROT_EXEC"}};
constexpr Bit kMapping[] = {
    {MAP_SHARED, "MAP_SHARED"},       {MAP_PRIVATE, "MAP_PRIVATE"},
    {MAP_FIXED, "MAP_FIXED"},         {MAP_ANONYMOUS, "MAP_ANONYMOUS"},
    {MAP_NORESERVE, "MAP_NORESERVE"}, {MAP_STACK, "MAP_STACK"}};
constexpr Bit kOpen[] = {{O_WRONLY, "O_WRONLY"},      {O_RDWR, "O_RDWR"},
                         {O_CREAT, "O_CREAT"},        {O_EXCL, "O_EXCL"},
                         {O_TRUNC, "O_TRUNC"},        {O_APPEND, "O_APPEND"},
                         {O_NONBLOCK, "O_NONBLOCK"},  {O_CLOEXEC, "O_CLOEXEC"},
                         {O_DIRECTORY, "O_DIRECTORY"}};
constexpr Bit kClone[] = {
    {CLONE_VM, "CLONE_VM"},         {CLONE_THREAD, "CLONE_THREAD"},
    {CLONE_VFORK, "CLONE_VFORK"},   {CLONE_NEWUSER, "CLONE_NEWUSER"},
    {CLONE_NEWNS, "CLONE_NEWNS"},   {CLONE_NEWPID, "CLONE_NEWPID"},
    {CLONE_NEWNET, "CLONE_NEWNET"}, {CLONE_NEWIPC, "CLONE_NEWIPC"},
    {CLONE_NEWUTS, "CLONE_NEWUTS"}};
constexpr Bit kFamilies[] = {
    {AF_UNIX, "AF_UNIX"},     {AF_INET, "AF_INET"},
    {AF_INET6, "AF_INET6"},   {AF_NETLINK, "AF_NETLINK"},
    {AF_PACKET, "AF_PACKET"}, {AF_ALG, "AF_ALG"},
    {AF_VSOCK, "AF_VSOCK"}};
constexpr Bit kTypes[] = {{SOCK_STREAM, "SOCK_STREAM"},
                          {SOCK_DGRAM, "SOCK_DGRAM"},
                          {SOCK_RAW, "SOCK_RAW"},
                          {SOCK_SEQPACKET, "SOCK_SEQPACKET"}};

// Names of the bits, and what is left as a number.
template <size_t kCount>
std::string Bits(const Bit (&names)[kCount], uint64_t value,
                 const char* nothing) {
  std::string text;
  for (const Bit& bit : names) {
    if ((value & bit.value) != bit.value) continue;
    absl::StrAppend(&text, text.empty() ? "" : "|", bit.name);
    value &= ~bit.value;
  }
  if (value != 0) {
    absl::StrAppendFormat(&text, "%s0x%x", text.empty() ? "" : "|", value);
  }
  return text.empty() ? nothing : text;
}

template <size_t kCount>
std::string OneOf(const Bit (&names)[kCount], uint64_t value) {
  for (const Bit& name : names) {
    if (value == name.value) return name.name;
  }
  return absl::StrCat(value);
}

std::string Describe(char letter, uint64_t value, const std::string& text) {
  switch (letter) {
    case 'd':
      // Small negative numbers are negative, whatever their width.
      return value >= 0xfffff000 && value <= 0xffffffff
                 ? absl::StrCat(static_cast<int32_t>(value))
                 : absl::StrCat(static_cast<int64_t>(value));
    case 'f':
      return static_cast<int32_t>(value) == AT_FDCWD
                 ? "AT_FDCWD"
                 : absl::StrCat(static_cast<int32_t>(value));
    case 's':
      if (!text.empty())
        return absl::StrCat("\"", absl::CHexEscape(text), "\"");
      break;
    case 'p':
      return Bits(kProtection, value, "PROT_NONE");
    case 'm':
      return Bits(kMapping, value, "0");
    case 'o':
      return Bits(kOpen, value, "O_RDONLY");
    case 'c':
      return Bits(kClone, value, "0");
    case 'a':
      return OneOf(kFamilies, value);
    case 't': {
      const std::string flags = (value & ~uint64_t{15}) != 0
                                    ? Bits(kOpen, value & ~uint64_t{15}, "")
                                    : "";
      return absl::StrCat(OneOf(kTypes, value & 15), flags.empty() ? "" : "|",
                          flags);
    }
    default:
      break;
  }
  return value == 0 ? "0" : absl::StrFormat("0x%x", value);
}

constexpr int kX32Bit = 0x40000000;

}  // namespace

const char* NameOf(Violation::Abi abi) {
  return abi == Violation::Abi::kI386  ? "i386"
         : abi == Violation::Abi::kX32 ? "x32"
                                       : "x86_64";
}

std::string SyscallOf(const Violation& violation) {
  return SyscallName(violation.abi == Violation::Abi::kX32
                         ? violation.number & ~kX32Bit
                         : violation.number,
                     violation.abi == Violation::Abi::kI386);
}

std::string DescribeViolation(const Violation& violation) {
  const std::string syscall = SyscallOf(violation);
  const char* letters = "xxxxxx";
  for (const Shape& shape : kShapes) {
    if (violation.abi != Violation::Abi::kI386 && syscall == shape.syscall) {
      letters = shape.letters;
    }
  }
  std::string text = syscall + "(";
  for (size_t i = 0; i < std::strlen(letters); ++i) {
    absl::StrAppend(
        &text, i == 0 ? "" : ", ",
        Describe(letters[i], violation.args[i], violation.strings[i]));
  }
  text += ")";
  if (violation.abi != Violation::Abi::kX86_64) {
    absl::StrAppend(&text, " by the ", NameOf(violation.abi), " interface");
  }
  return text;
}

}  // namespace bulkhead::sandbox
