// Processes and siblings.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Processes() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"fork", "processes", kKilled, "fork", kDone,
       [](const S&) -> long {
         const long pid = Raw(SYS_fork);
         if (pid == 0) Raw(SYS_exit_group, 0);
         return pid;
       }},
      {"clone_process", "processes", kKilled, "clone", kDone,
       [](const S&) -> long {
         const long pid = Raw(SYS_clone, SIGCHLD, 0);
         if (pid == 0) Raw(SYS_exit_group, 0);
         return pid;
       }},
      {"clone3", "processes", kKilled, "clone3", kDone,
       [](const S&) -> long {
         static uint64_t args[11] = {0, 0, 0, 0, SIGCHLD};
         const long pid = Raw(SYS_clone3, P(args), sizeof(args));
         if (pid == 0) Raw(SYS_exit_group, 0);
         return pid;
       }},
      {"clone_user_namespace", "processes", kKilled, "clone", kReached,
       [](const S&) -> long {
         const long pid = Raw(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0);
         if (pid == 0) Raw(SYS_exit_group, 0);
         return pid;
       }},
      {"unshare_user", "processes", kKilled, "unshare", kReached,
       [](const S&) { return Raw(SYS_unshare, CLONE_NEWUSER); }},
      {"unshare_files", "processes", kKilled, "unshare", kDone,
       [](const S&) { return Raw(SYS_unshare, CLONE_FILES); }},
      {"setns", "processes", kKilled, "setns", kReached,
       [](const S&) { return Raw(SYS_setns, kRamFd, 0); }},
      {"execve", "processes", kKilled, "execve", kDone,
       [](const S&) -> long {
         static const char* argv[] = {"true", nullptr};
         return Raw(SYS_execve, P("/bin/true"), P(argv), 0);
       }},
      {"execveat_path", "processes", kKilled, "execveat", kDone,
       [](const S&) -> long {
         static const char* argv[] = {"true", nullptr};
         return Raw(SYS_execveat, AT_FDCWD, P("/bin/true"), P(argv), 0, 0);
       }},
      {"execveat_own_disk", "processes", kKilled, "execveat", kReached,
       [](const S&) -> long {
         static const char* argv[] = {"x", nullptr};
         return Raw(SYS_execveat, kFirstBackendFd, P(""), P(argv), 0,
                    AT_EMPTY_PATH);
       }},
      {"execveat_ram", "processes", kKilled, "execveat", kReached,
       [](const S&) -> long {
         static const char* argv[] = {"x", nullptr};
         return Raw(SYS_execveat, kRamFd, P(""), P(argv), 0, AT_EMPTY_PATH);
       }},
      {"execveat_the_programs_number", "processes", kKilled, "execveat",
       kReached,
       [](const S&) -> long {
         static const char* argv[] = {"x", nullptr};
         return Raw(SYS_execveat, 120, P(""), P(argv), 0, AT_EMPTY_PATH);
       }},
      {"kill_sibling", "siblings", kKilled, "kill", kDone,
       [](const S& s) { return Raw(SYS_kill, s.sibling, SIGUSR1); }},
      {"tgkill_sibling", "siblings", kKilled, "tgkill", kDone,
       [](const S& s) {
         return Raw(SYS_tgkill, s.sibling, s.sibling, SIGUSR1);
       }},
      {"queue_signal", "siblings", kKilled, "rt_sigqueueinfo", kDone,
       [](const S& s) -> long {
         static siginfo_t info;
         info.si_code = SI_QUEUE;
         return Raw(SYS_rt_sigqueueinfo, s.sibling, SIGUSR1, P(&info));
       }},
      {"pidfd_open", "siblings", kKilled, "pidfd_open", kDone,
       [](const S& s) { return Raw(SYS_pidfd_open, s.sibling, 0); }},
      {"pidfd_send_signal", "siblings", kKilled, "pidfd_send_signal", kReached,
       [](const S&) {
         return Raw(SYS_pidfd_send_signal, kRamFd, SIGUSR1, 0, 0);
       }},
      {"pidfd_getfd", "siblings", kKilled, "pidfd_getfd", kReached,
       [](const S&) { return Raw(438, kRamFd, 3, 0); }},
      {"ptrace_sibling", "siblings", kKilled, "ptrace", kReached,
       [](const S& s) {
         return Raw(SYS_ptrace, PTRACE_SEIZE, s.sibling, 0, 0);
       }},
      {"read_sibling", "siblings", kKilled, "process_vm_readv", kReached,
       [](const S& s) -> long {
         iovec here = Scratch(8);
         iovec there = {reinterpret_cast<void*>(s.word), 8};  // NOLINT
         return Raw(SYS_process_vm_readv, s.sibling, P(&here), 1, P(&there), 1,
                    0);
       }},
      {"write_sibling", "siblings", kKilled, "process_vm_writev", kReached,
       [](const S& s) -> long {
         iovec here = Scratch(8);
         iovec there = {reinterpret_cast<void*>(s.word), 8};  // NOLINT
         return Raw(SYS_process_vm_writev, s.sibling, P(&here), 1, P(&there), 1,
                    0);
       }},
      {"kcmp", "siblings", kKilled, "kcmp", kReached,
       [](const S& s) { return Raw(SYS_kcmp, s.sibling, s.sibling, 0, 3, 3); }},
      {"slow_sibling_down", "siblings", kKilled, "setpriority", kDone,
       [](const S& s) {
         return Raw(SYS_setpriority, PRIO_PROCESS, s.sibling, 19);
       }},
      {"pin_sibling", "siblings", kKilled, "sched_setaffinity", kDone,
       [](const S& s) -> long {
         static unsigned long one = 1;
         return Raw(SYS_sched_setaffinity, s.sibling, sizeof(one), P(&one));
       }},
      {"limit_sibling", "siblings", kKilled, "prlimit64", kDone,
       [](const S& s) -> long {
         static rlimit none = {0, 0};
         return Raw(SYS_prlimit64, s.sibling, RLIMIT_FSIZE, P(&none), 0);
       }},
      {"share_core_with_sibling", "siblings", kKilled, "prctl", kReached,
       [](const S& s) { return Raw(SYS_prctl, 62, 3, s.sibling, 1, 0); }},
      {"setsid", "processes", kKilled, "setsid", kDone,
       [](const S&) { return Raw(SYS_setsid); }},
      {"thread", "processes", kKilled, "clone", kReached,
       [](const S&) {
         return Raw(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
                    P(scratch + sizeof(scratch) - 64));
       }},
      {"unshare_mount", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWNS>},
      {"unshare_net", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWNET>},
      {"unshare_pid", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWPID>},
      {"unshare_ipc", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWIPC>},
      {"unshare_uts", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWUTS>},
      {"unshare_cgroup", "processes", kKilled, "unshare", kReached,
       &Unshare<CLONE_NEWCGROUP>},
      {"unshare_time", "processes", kKilled, "unshare", kReached,
       &Unshare<0x80>},

      {"signal_everybody", "siblings", kKilled, "kill", kDone,
       [](const S&) { return Raw(SYS_kill, -1, 0); }},
      {"signal_the_launcher", "siblings", kKilled, "kill", kReached,
       [](const S& s) { return Raw(SYS_kill, s.launcher, 0); }},
      {"ptrace_the_launcher", "siblings", kKilled, "ptrace", kReached,
       [](const S& s) {
         return Raw(SYS_ptrace, PTRACE_SEIZE, s.launcher, 0, 0);
       }},
      {"pages_of_sibling", "siblings", kKilled, "move_pages", kReached,
       [](const S& s) {
         return Raw(SYS_move_pages, s.sibling, 0, 0, 0, 0, 0);
       }},
      {"drop_siblings_memory", "siblings", kKilled, "process_madvise", kReached,
       [](const S&) { return Raw(440, kRamFd, P(scratch), 1, 21, 0); }},
      {"siblings_robust_list", "siblings", kKilled, "get_robust_list", kReached,
       [](const S& s) {
         return Raw(SYS_get_robust_list, s.sibling, P(scratch), P(scratch + 8));
       }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
