// ViolationWatch tells the launcher which system call a process was killed for.
// A filter that kills leaves nothing in the exit status; so the launcher is the
// tracer of the processes it lets go, asks the kernel to stop each thread where
// its exit begins, and reads the registers there. No code of the dying process
// runs, its system calls are not slowed (nothing traces them), and when the
// launcher dies the kernel kills every process it watched.
//
// A stopped thread waits for the launcher: HandleStops must be called whenever
// SIGCHLD arrives (block it, read it from a signalfd), and a process waited for
// only when its pidfd is readable: a tracer's waitid reports stops as well,
// whatever it asks for, and would swallow them. Until then a process
// that is exiting stays in exit; one that is running is not held up, except
// that a signal sent to it is delivered only after the next HandleStops.
//
// TRUST    Registers and strings are the dying process's own: handed on, never
//          used. violation_text.h puts them into words, elsewhere.
// ERRORS   A host that refuses tracing is reported by Spawn as unavailable;
//          then there are no reports, and everything else works.
// THREADS  The thread that called Spawn (a tracer is a thread).

#ifndef BULKHEAD_SANDBOX_VIOLATION_H_
#define BULKHEAD_SANDBOX_VIOLATION_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::sandbox {

// Where in a program something happened.
struct Place {
  uint64_t instruction_pointer = 0;
  // Offset in the file mapped there, which is what addr2line and a symbol table
  // of the unstripped program take. 0 when unknown.
  uint64_t file_offset = 0;
  uint64_t file_inode = 0;
  std::string file;  // its name as the process sees it; may hold anything
};

struct Violation : Place {
  pid_t pid = -1;     // the process, as the launcher knows it
  pid_t thread = -1;  // the thread in it that made the call
  int number = -1;    // of the system call
  enum class Abi { kX86_64, kX32, kI386 };
  Abi abi = Abi::kX86_64;
  uint64_t args[6] = {};
  // What stands where each argument points to, up to a zero byte: for those
  // that are paths. Raw bytes of the dying process.
  std::string strings[6];
  // How many filters were in force: 2 and more after the lock-down.
  int filters = 0;
};

// A process that broke: it got a signal such as SIGSEGV for which it has no
// handler. The kernel would not let it die of that, since it is the first of
// its pid namespace and has a tracer, and it would fault for ever: so it is
// killed, and this says what for.
struct Crash : Place {
  int signal = 0;
};

// Waits for the stops that are due now and lets each thread go on. Never blocks
// and never reaps: exits stay for waitid. After many stops it returns, and
// SIGCHLD asks for the next call.
void HandleStops();

// What HandleStops has seen a process die of, or has killed it for.
struct Death {
  std::optional<Violation> violation;
  std::optional<Crash> crash;
};

// That of `pid`; asked once. It is there when the pidfd is readable, or before.
Death TakeDeath(pid_t pid);

// For a launcher that learns (learn/main.cc): called with the thread at each
// call that a filter answers with SECCOMP_RET_TRACE, before it happens. The
// policies' own filters never do.
void ObserveSeccompStops(void (*observer)(pid_t thread));

// Called by Spawn while the child still waits for it. An errno, or 0.
int WatchForViolations(pid_t pid);

}  // namespace bulkhead::sandbox

#endif  // BULKHEAD_SANDBOX_VIOLATION_H_
