#include "sandbox/violation.h"

#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead::sandbox {
namespace {

// A process that stops again and again (signals to its own threads do that)
// must not keep the launcher from everything else.
constexpr int kStopsAtOnce = 256;

constexpr int kX32Bit = 0x40000000;
constexpr int kPtraceGetSyscallInfo = 0x420e;

// The head of what PTRACE_GET_SYSCALL_INFO fills in (Linux 5.3).
struct SyscallInfo {
  uint8_t op;
  uint8_t padding[3];
  uint32_t arch;
  uint64_t ip;
  uint64_t sp;
  uint64_t rest[8];
};

// What x86_64 calls struct user_regs_struct, as PTRACE_GETREGS fills it.
struct Registers {
  uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di,
      orig_ax, ip, cs, flags, sp, ss, fs_base, gs_base, ds, es, fs, gs;
};

// The process that a thread belongs to, and its filters.
void ReadStatus(pid_t thread, Violation* violation) {
  const std::string path = absl::StrCat("/proc/", thread, "/status");
  FILE* file = fopen(path.c_str(), "re");
  violation->pid = thread;
  if (file == nullptr) return;
  char line[256];
  while (fgets(line, sizeof(line), file) != nullptr) {
    (void)sscanf(line, "Tgid: %d", &violation->pid);
    (void)sscanf(line, "Seccomp_filters: %d", &violation->filters);
  }
  fclose(file);
}

// What file is mapped where the call was made.
void FindFile(pid_t pid, uint64_t address, Place* place) {
  place->instruction_pointer = address;
  const std::string path = absl::StrCat("/proc/", pid, "/maps");
  FILE* file = fopen(path.c_str(), "re");
  if (file == nullptr) return;
  char line[1024];
  while (fgets(line, sizeof(line), file) != nullptr) {
    unsigned long start;
    unsigned long end;
    unsigned long offset;
    unsigned long inode = 0;
    char name[512] = "";
    if (sscanf(line, "%lx-%lx %*4s %lx %*s %lu %511[^\n]", &start, &end,
               &offset, &inode, name) >= 4 &&
        address >= start && address < end) {
      place->file_offset = address - start + offset;
      place->file_inode = inode;
      place->file = name;
      break;
    }
  }
  fclose(file);
}

// The first bytes of a string in the dying process: it may hold anything.
std::string ReadString(pid_t thread, uint64_t address) {
  char text[48] = {};
  iovec here = {.iov_base = text, .iov_len = sizeof(text) - 1};
  // An address in another process is a number here, never followed.
  iovec there = {.iov_base = reinterpret_cast<void*>(address),  // NOLINT
                 .iov_len = sizeof(text) - 1};
  ssize_t size = process_vm_readv(thread, &here, 1, &there, 1, 0);
  if (size <= 0) {
    // Up to the end of the page, when the next one is not mapped.
    there.iov_len = here.iov_len =
        std::min<uint64_t>(sizeof(text) - 1, 4096 - (address & 4095));
    size = process_vm_readv(thread, &here, 1, &there, 1, 0);
  }
  if (size <= 0) return "";
  return std::string(text, strnlen(text, size));
}

Violation FromRegisters(pid_t thread, const Registers& registers) {
  Violation violation;
  violation.thread = thread;
  ReadStatus(thread, &violation);
  FindFile(thread, registers.ip, &violation);
  const int number = static_cast<int>(registers.orig_ax);
  violation.number = number;
  const uint64_t args64[6] = {registers.di,  registers.si, registers.dx,
                              registers.r10, registers.r8, registers.r9};
  const uint64_t args32[6] = {registers.bx, registers.cx, registers.dx,
                              registers.si, registers.di, registers.bp};
  // Not by the code segment: int 0x80 works from 64-bit code, too.
  SyscallInfo info = {};
  ptrace(static_cast<__ptrace_request>(kPtraceGetSyscallInfo), thread,
         sizeof(info), &info);
  const bool is_32_bit = info.arch == AUDIT_ARCH_I386;
  for (int i = 0; i < 6; ++i) {
    violation.args[i] = is_32_bit ? args32[i] : args64[i];
    violation.strings[i] = ReadString(thread, violation.args[i]);
  }
  violation.abi = is_32_bit                           ? Violation::Abi::kI386
                  : number >= 0 && (number & kX32Bit) ? Violation::Abi::kX32
                                                      : Violation::Abi::kX86_64;
  return violation;
}

// Threads besides the first of each process. They are our tracees, so a dead
// one stays until we wait for it, and its process cannot be reaped before that.
std::set<pid_t>& Threads() {
  static auto* threads = new std::set<pid_t>;
  return *threads;
}

// What was seen while Spawn waited for another process.
std::vector<Violation>& Held() {
  static auto* held = new std::vector<Violation>;
  return *held;
}

void (*seccomp_observer)(pid_t thread) = nullptr;

void RememberNewThread(pid_t parent) {
  unsigned long thread = 0;
  if (ptrace(PTRACE_GETEVENTMSG, parent, nullptr, &thread) == 0) {
    Threads().insert(static_cast<pid_t>(thread));
  }
}

// At PTRACE_EVENT_EXIT: the wait status that the thread will have.
bool DiesOfFilter(pid_t thread) {
  unsigned long status = 0;
  if (ptrace(PTRACE_GETEVENTMSG, thread, nullptr, &status) != 0) return false;
  const int wait_status = static_cast<int>(status);
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS;
}

std::map<pid_t, Crash>& Crashes() {
  static auto* crashes = new std::map<pid_t, Crash>;
  return *crashes;
}

// A signal that means that the process is broken, unless it has a handler.
bool Breaks(pid_t thread, int signal) {
  constexpr int kBreaking[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                               SIGTRAP, SIGABRT, SIGSYS};
  if (std::find(std::begin(kBreaking), std::end(kBreaking), signal) ==
      std::end(kBreaking)) {
    return false;
  }
  FILE* file = fopen(absl::StrCat("/proc/", thread, "/status").c_str(), "re");
  if (file == nullptr) return false;
  char line[256];
  unsigned long caught = 0;
  while (fgets(line, sizeof(line), file) != nullptr) {
    if (sscanf(line, "SigCgt: %lx", &caught) == 1) break;
  }
  fclose(file);
  return (caught >> (signal - 1) & 1) == 0;
}

void EndBroken(pid_t thread, int signal) {
  Violation process;
  ReadStatus(thread, &process);
  Crash crash;
  crash.signal = signal;
  Registers registers = {};
  if (ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0) {
    FindFile(thread, registers.ip, &crash);
  }
  Crashes().emplace(process.pid, crash);
  kill(process.pid, SIGKILL);
}

void HandleStop(const siginfo_t& info, std::vector<Violation>* violations) {
  const pid_t thread = info.si_pid;
  const int signal = info.si_status & 0xff;
  const int event = info.si_status >> 8;
  if (event == PTRACE_EVENT_CLONE) RememberNewThread(thread);
  if (event == PTRACE_EVENT_SECCOMP && seccomp_observer != nullptr) {
    seccomp_observer(thread);
  }
  if (event == 0 && Breaks(thread, signal)) EndBroken(thread, signal);
  if (event == PTRACE_EVENT_EXIT && DiesOfFilter(thread)) {
    // All threads die so. The one that made the call has had it undone: its
    // number is back in ax.
    Registers registers = {};
    if (ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0 &&
        registers.ax == registers.orig_ax) {
      violations->push_back(FromRegisters(thread, registers));
    }
  }
  if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
    // SIGSTOP and its like: stay stopped, as without a tracer.
    ptrace(PTRACE_LISTEN, thread, nullptr, nullptr);
  } else {
    // A signal is handed on; events carry none.
    ptrace(PTRACE_CONT, thread, nullptr,
           static_cast<unsigned long>(event == 0 ? signal : 0));
  }
}

// A tracer's wait reports stops as well, whatever it asks for.
void ReapThreads(std::vector<Violation>* violations) {
  for (auto thread = Threads().begin(); thread != Threads().end();) {
    siginfo_t info = {};
    const int result =
        waitid(P_PID, *thread, &info, WEXITED | WNOHANG | __WALL);
    if (result == 0 && info.si_pid == 0) {
      ++thread;
    } else if (result == 0 && info.si_code == CLD_TRAPPED) {
      HandleStop(info, violations);
      ++thread;  // its end, or its next stop, raises SIGCHLD anew
    } else {
      thread = Threads().erase(thread);
    }
  }
}

}  // namespace

int WatchForViolations(pid_t pid) {
  long options = PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;
  if (seccomp_observer != nullptr) options |= PTRACE_O_TRACESECCOMP;
  return ptrace(PTRACE_SEIZE, pid, nullptr, options) == 0 ? 0 : errno;
}

std::optional<Crash> TakeCrash(pid_t pid) {
  const auto crash = Crashes().find(pid);
  if (crash == Crashes().end()) return std::nullopt;
  std::optional<Crash> taken = std::move(crash->second);
  Crashes().erase(crash);
  return taken;
}

void ObserveSeccompStops(void (*observer)(pid_t thread)) {
  seccomp_observer = observer;
}

void ReportLater(const Violation& violation) { Held().push_back(violation); }

std::vector<Violation> HandleStops() {
  std::vector<Violation> violations = std::exchange(Held(), {});
  int handled = 0;
  for (; handled < kStopsAtOnce; ++handled) {
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | __WALL) != 0 ||
        info.si_pid == 0) {
      break;
    }
    HandleStop(info, &violations);
  }
  // No signal will come for those that are left: make one.
  if (handled == kStopsAtOnce) raise(SIGCHLD);
  ReapThreads(&violations);
  return violations;
}

}  // namespace bulkhead::sandbox
