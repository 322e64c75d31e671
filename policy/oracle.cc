#include "policy/oracle.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iterator>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace bulkhead::policy {
namespace {

// An errno that no call gives.
constexpr int kAllowedErrno = 0x123;
constexpr uint32_t kX32Bit = 0x40000000;

// What child and parent share: how far the child is, and what came back.
struct Shared {
  size_t next;
  bool ready;  // both filters are in force
  long results[1];
};

// Answers everything but the one `seccomp` that installs the other filter.
void InstallAnswering(const sock_fprog* exception) {
  const auto address = reinterpret_cast<uint64_t>(exception);
  const sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(address), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2]) + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(address >> 32),
               0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | kAllowedErrno),
  };
  const sock_fprog program = {.len = std::size(code),
                              .filter = const_cast<sock_filter*>(code)};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    _exit(1);
  }
}

// The raw result, -errno and all. No libc: nothing may be called besides.
long Call64(uint64_t number, const uint64_t (&args)[6]) {
  long result;
  register uint64_t r10 asm("r10") = args[3];
  register uint64_t r8 asm("r8") = args[4];
  register uint64_t r9 asm("r9") = args[5];
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]),
                 "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

long Call32(uint64_t number, const uint64_t (&args)[6]) {
  long result;
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(number), "b"(args[0]), "c"(args[1]), "d"(args[2]),
                 "S"(args[3]), "D"(args[4])
               : "r8", "r9", "r10", "r11", "memory");
  return static_cast<int32_t>(result);
}

[[noreturn]] void RunChild(Filter filter, const std::vector<Probe>& probes,
                           Shared* shared) {
  const rlimit no_core = {.rlim_cur = 0, .rlim_max = 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const sock_fprog program = {
      .len = static_cast<unsigned short>(filter.size()),
      .filter = const_cast<sock_filter*>(filter.data()),
  };
  InstallAnswering(&program);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    _exit(1);  // which the first filter answers with an errno...
  }
  shared->ready = true;
  for (size_t i = shared->next; i < probes.size(); ++i) {
    const Probe& probe = probes[i];
    volatile size_t* next = &shared->next;
    *next = i;
    switch (probe.interface) {
      case Interface::kX86_64:
        shared->results[i] = Call64(probe.number, probe.args);
        break;
      case Interface::kX32:
        shared->results[i] = Call64(probe.number | kX32Bit, probe.args);
        break;
      case Interface::kI386:
        shared->results[i] = Call32(probe.number, probe.args);
        break;
    }
    *next = i + 1;
  }
  __builtin_trap();  // ...so this is the way out
}

Answer FromResult(long result) {
  if (result == -kAllowedErrno) return {.kind = Answer::kAllowed};
  if (result <= 0 && result > -4096) {
    return {.kind = Answer::kRefused, .detail = static_cast<int>(-result)};
  }
  return {.kind = Answer::kOther};
}

}  // namespace

absl::StatusOr<std::vector<Answer>> AskKernel(
    Filter filter, const std::vector<Probe>& probes) {
  const size_t size = sizeof(Shared) + probes.size() * sizeof(long);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return absl::InternalError(absl::StrCat("mmap: ", strerror(errno)));
  }
  absl::Cleanup unmap = [memory, size] { munmap(memory, size); };
  auto* shared = static_cast<Shared*>(memory);

  std::vector<Answer> answers(probes.size());
  while (shared->next < probes.size()) {
    const size_t first = shared->next;
    shared->ready = false;
    const pid_t child = fork();
    if (child < 0) {
      return absl::InternalError(absl::StrCat("fork: ", strerror(errno)));
    }
    if (child == 0) RunChild(filter, probes, shared);
    int status = 0;
    if (waitpid(child, &status, 0) != child || !shared->ready ||
        !WIFSIGNALED(status)) {
      return absl::InternalError(
          "the kernel refuses seccomp filters in a child here");
    }
    for (size_t i = first; i < shared->next; ++i) {
      answers[i] = FromResult(shared->results[i]);
    }
    if (shared->next == probes.size()) break;
    // The one at `next` did not come back.
    answers[shared->next] =
        WTERMSIG(status) == SIGSYS
            ? Answer{.kind = Answer::kKilled}
            : Answer{.kind = Answer::kOther, .detail = WTERMSIG(status)};
    ++shared->next;
  }
  return answers;
}

}  // namespace bulkhead::policy
