// The kernel's other interfaces.

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#include "proto/service_fds.h"
#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Kernel() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"bpf", "kernel", kKilled, "bpf", kReached,
       [](const S&) { return Raw(SYS_bpf, 0, P(scratch), 64); }},
      {"perf", "kernel", kKilled, "perf_event_open", kReached,
       [](const S&) {
         return Raw(SYS_perf_event_open, P(scratch), 0, -1, -1, 0);
       }},
      {"keyctl", "kernel", kKilled, "keyctl", kReached,
       [](const S&) { return Raw(SYS_keyctl, 0, -3, 0); }},
      {"add_key", "kernel", kKilled, "add_key", kReached,
       [](const S&) {
         return Raw(SYS_add_key, P("user"), P("x"), P("x"), 1, -2);
       }},
      {"io_uring_setup", "kernel", kKilled, "io_uring_setup", kReached,
       [](const S&) { return Raw(425, 8, P(scratch)); }},
      {"io_uring_enter", "kernel", kKilled, "io_uring_enter", kReached,
       [](const S&) { return Raw(426, kRamFd, 1, 0, 0, 0, 0); }},
      {"io_uring_register", "kernel", kKilled, "io_uring_register", kReached,
       [](const S&) { return Raw(427, kRamFd, 0, 0, 0); }},
      {"old_aio", "kernel", kKilled, "io_setup", kDone,
       [](const S&) -> long {
         static uint64_t context = 0;
         return Raw(SYS_io_setup, 1, P(&context));
       }},
      {"ioctl_on_disk", "kernel", kKilled, "ioctl", kReached,
       [](const S&) {
         return Raw(SYS_ioctl, kFirstBackendFd, 0x127c, P(scratch));
       }},
      {"type_on_terminal", "kernel", kKilled, "ioctl", kReached,
       [](const S&) {
         return Raw(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, P("x"));
       }},
      {"epoll", "kernel", kKilled, "epoll_create1", kDone,
       [](const S&) { return Raw(SYS_epoll_create1, 0); }},
      {"timerfd", "kernel", kKilled, "timerfd_create", kDone,
       [](const S&) { return Raw(SYS_timerfd_create, 1, 0); }},
      {"pipe", "kernel", kKilled, "pipe2", kDone,
       [](const S&) { return Raw(SYS_pipe2, P(scratch), 0); }},
      {"splice_disk", "kernel", kKilled, "splice", kReached,
       [](const S&) {
         return Raw(SYS_splice, kFirstBackendFd, 0, 1, 0, 1, 0);
       }},
      {"copy_disk_to_ram", "kernel", kKilled, "copy_file_range", kReached,
       [](const S&) {
         return Raw(SYS_copy_file_range, kFirstBackendFd, 0, kRamFd, 0, 1, 0);
       }},
      {"module", "kernel", kKilled, "init_module", kReached,
       [](const S&) { return Raw(SYS_init_module, P(scratch), 64, P("")); }},
      {"module_from_file", "kernel", kKilled, "finit_module", kReached,
       [](const S&) {
         return Raw(SYS_finit_module, kFirstBackendFd, P(""), 0);
       }},
      {"kexec", "kernel", kKilled, "kexec_load", kReached,
       [](const S&) { return Raw(SYS_kexec_load, 0, 0, 0, 0); }},
      {"reboot", "kernel", kKilled, "reboot", kReached,
       [](const S&) { return Raw(SYS_reboot, 0, 0, 0, 0); }},
      {"kernel_log", "kernel", kKilled, "syslog", kReached,
       [](const S&) { return Raw(SYS_syslog, 10, 0, 0); }},
      {"set_clock", "kernel", kKilled, "clock_settime", kReached,
       [](const S&) -> long {
         static timespec zero = {};
         return Raw(SYS_clock_settime, CLOCK_REALTIME, P(&zero));
       }},
      {"host_name", "kernel", kKilled, "sethostname", kReached,
       [](const S&) { return Raw(SYS_sethostname, P("x"), 1); }},
      {"io_ports", "kernel", kKilled, "iopl", kReached,
       [](const S&) { return Raw(SYS_iopl, 3); }},
      {"swap", "kernel", kKilled, "swapon", kReached,
       [](const S& s) { return Raw(SYS_swapon, P(In(s, "canary")), 0); }},
      {"landlock", "kernel", kKilled, "landlock_create_ruleset", kReached,
       [](const S&) { return Raw(444, 0, 0, 1); }},
      {"message_queue", "kernel", kKilled, "mq_open", kReached,
       [](const S&) {
         return Raw(SYS_mq_open, P("x"), O_CREAT | O_RDWR, 0600, 0);
       }},
      {"i386_interface", "interfaces", kKilled, "getpid", kReached,
       [](const S&) { return Int80(20, 0); }},
      {"i386_execve", "interfaces", kKilled, "execve", kReached,
       [](const S&) { return Int80(11, 0); }},
      {"x32_interface", "interfaces", kKilled, "getpid", kReached,
       [](const S&) { return Raw(0x40000000 | SYS_getpid); }},
      {"a_call_to_come", "interfaces", kKilled, "syscall 1000", kReached,
       [](const S&) { return Raw(1000); }},
      {"request_key", "kernel", kKilled, "request_key", kReached,
       [](const S&) { return Raw(SYS_request_key, P("user"), P("x"), 0, 0); }},
      {"quotactl", "kernel", kKilled, "quotactl", kReached,
       [](const S&) { return Raw(SYS_quotactl, 0, 0, 0, 0); }},
      {"accounting", "kernel", kKilled, "acct", kReached,
       [](const S& s) { return Raw(SYS_acct, P(In(s, "canary"))); }},
      {"signalfd", "kernel", kKilled, "signalfd4", kDone,
       [](const S&) {
         static uint64_t none = 0;
         return Raw(SYS_signalfd4, -1, P(&none), 8, 0);
       }},
      {"clock_by_call", "kernel", kRefused, "", kDone,
       [](const S&) {
         return Raw(SYS_clock_gettime, CLOCK_MONOTONIC, P(scratch));
       }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
