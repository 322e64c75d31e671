#include "sandbox/violation.h"

#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <fstream>
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

// What /proc says of a thread.
struct ThreadStatus {
  pid_t process;                        // that it belongs to
  int filters = 0;                      // of that process
  unsigned long caught = ~uint64_t{0};  // signals with a handler
};

ThreadStatus ReadStatus(pid_t thread) {
  ThreadStatus status = {.process = thread};
  std::ifstream file(absl::StrCat("/proc/", thread, "/status"));
  for (std::string line; std::getline(file, line);) {
    (void)sscanf(line.c_str(), "Tgid: %d", &status.process);
    (void)sscanf(line.c_str(), "Seccomp_filters: %d", &status.filters);
    (void)sscanf(line.c_str(), "SigCgt: %lx", &status.caught);
  }
  return status;
}

// What file is mapped where the call was made.
void FindFile(pid_t pid, uint64_t address, Place* place) {
  place->instruction_pointer = address;
  std::ifstream file(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(file, line);) {
    unsigned long start;
    unsigned long end;
    unsigned long offset;
    unsigned long inode = 0;
    char name[512] = "";
    if (sscanf(line.c_str(), "%lx-%lx %*4s %lx %*s %lu %511[^\n]", &start, &end,
               &offset, &inode, name) >= 4 &&
        address >= start && address < end) {
      place->file_offset = address - start + offset;
      place->file_inode = inode;
      place->file = name;
      break;
    }
  }
}

// The first bytes of a string in the dying process: it may hold anything. They
// end with the page when the next one is not mapped.
std::string ReadString(pid_t thread, uint64_t address) {
  char text[48] = {};
  const size_t most = sizeof(text) - 1;
  const size_t in_page = std::min<uint64_t>(most, 4096 - (address & 4095));
  const iovec here = {.iov_base = text, .iov_len = most};
  // An address in another process is a number here, never followed.
  const iovec there[] = {
      {reinterpret_cast<void*>(address), in_page},                    // NOLINT
      {reinterpret_cast<void*>(address + in_page), most - in_page}};  // NOLINT
  (void)process_vm_readv(thread, &here, 1, there, 2, 0);
  return text;
}

Violation FromRegisters(pid_t thread, const user_regs_struct& registers) {
  Violation violation;
  violation.thread = thread;
  const ThreadStatus status = ReadStatus(thread);
  violation.pid = status.process;
  violation.filters = status.filters;
  FindFile(thread, registers.rip, &violation);
  const int number = static_cast<int>(registers.orig_rax);
  violation.number = number;
  const uint64_t args64[6] = {registers.rdi, registers.rsi, registers.rdx,
                              registers.r10, registers.r8,  registers.r9};
  const uint64_t args32[6] = {registers.rbx, registers.rcx, registers.rdx,
                              registers.rsi, registers.rdi, registers.rbp};
  // Not by the code segment: int 0x80 works from 64-bit code, too.
  __ptrace_syscall_info info = {};
  ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info);
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

struct Seen {
  // Threads besides the first of each process. They are our tracees, so a dead
  // one stays until we wait for it, and its process cannot be reaped before.
  std::set<pid_t> threads;
  // By process, until they are taken.
  std::map<pid_t, Death> deaths;
};

Seen& AllSeen() {
  static auto* seen = new Seen;
  return *seen;
}

void (*seccomp_observer)(pid_t thread) = nullptr;

// Of a stop: a new thread's number, or the wait status of one that exits.
int EventMessage(pid_t thread) {
  unsigned long message = 0;
  ptrace(PTRACE_GETEVENTMSG, thread, nullptr, &message);
  return static_cast<int>(message);
}

bool DiesOfFilter(int wait_status) {
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS;
}

// A signal that means that the process is broken, unless it has a handler.
bool Breaks(pid_t thread, int signal) {
  constexpr int kBreaking[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                               SIGTRAP, SIGABRT, SIGSYS};
  if (std::find(std::begin(kBreaking), std::end(kBreaking), signal) ==
      std::end(kBreaking)) {
    return false;
  }
  return (ReadStatus(thread).caught >> (signal - 1) & 1) == 0;
}

void EndBroken(pid_t thread, int signal) {
  const pid_t process = ReadStatus(thread).process;
  Crash crash;
  crash.signal = signal;
  user_regs_struct registers = {};
  if (ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0) {
    FindFile(thread, registers.rip, &crash);
  }
  AllSeen().deaths[process].crash = crash;
  kill(process, SIGKILL);
}

void HandleStop(const siginfo_t& info) {
  const pid_t thread = info.si_pid;
  const int signal = info.si_status & 0xff;
  const int event = info.si_status >> 8;
  if (event == PTRACE_EVENT_CLONE) {
    AllSeen().threads.insert(EventMessage(thread));
  }
  if (event == PTRACE_EVENT_SECCOMP && seccomp_observer != nullptr) {
    seccomp_observer(thread);
  }
  if (event == 0 && Breaks(thread, signal)) EndBroken(thread, signal);
  if (event == PTRACE_EVENT_EXIT && DiesOfFilter(EventMessage(thread))) {
    // All threads die so. The one that made the call has had it undone: its
    // number is back in ax.
    user_regs_struct registers = {};
    if (ptrace(PTRACE_GETREGS, thread, nullptr, &registers) == 0 &&
        registers.rax == registers.orig_rax) {
      const Violation violation = FromRegisters(thread, registers);
      AllSeen().deaths[violation.pid].violation = violation;
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
void ReapThreads() {
  std::set<pid_t>& threads = AllSeen().threads;
  for (auto thread = threads.begin(); thread != threads.end();) {
    siginfo_t info = {};
    const int result =
        waitid(P_PID, *thread, &info, WEXITED | WNOHANG | __WALL);
    if (result == 0 && info.si_pid == 0) {
      ++thread;
    } else if (result == 0 && info.si_code == CLD_TRAPPED) {
      HandleStop(info);
      ++thread;  // its end, or its next stop, raises SIGCHLD anew
    } else {
      thread = threads.erase(thread);
    }
  }
}

}  // namespace

int WatchForViolations(pid_t pid) {
  long options = PTRACE_O_EXITKILL | PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;
  if (seccomp_observer != nullptr) options |= PTRACE_O_TRACESECCOMP;
  return ptrace(PTRACE_SEIZE, pid, nullptr, options) == 0 ? 0 : errno;
}

Death TakeDeath(pid_t pid) {
  auto taken = AllSeen().deaths.extract(pid);
  return taken.empty() ? Death() : std::move(taken.mapped());
}

void ObserveSeccompStops(void (*observer)(pid_t thread)) {
  seccomp_observer = observer;
}

void HandleStops() {
  int handled = 0;
  for (; handled < kStopsAtOnce; ++handled) {
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | __WALL) != 0 ||
        info.si_pid == 0) {
      break;
    }
    HandleStop(info);
  }
  // No signal will come for those that are left: make one.
  if (handled == kStopsAtOnce) raise(SIGCHLD);
  ReapThreads();
}

}  // namespace bulkhead::sandbox
