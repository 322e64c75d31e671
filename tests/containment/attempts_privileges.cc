// Privileges and speculation.

#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/containment/attempt_calls.h"
#include "tests/containment/attempts.h"

namespace bulkhead::containment {

const std::vector<Attempt>& Privileges() {
  static const auto& attempts = *new std::vector<Attempt>{
      {"become_root", "privileges", kKilled, "setuid", kReached,
       [](const S&) { return Raw(SYS_setuid, 0); }},
      {"groups", "privileges", kKilled, "setgroups", kReached,
       [](const S&) { return Raw(SYS_setgroups, 0, 0); }},
      {"capabilities", "privileges", kKilled, "capset", kReached,
       [](const S&) -> long {
         static uint32_t head[2] = {0x20080522, 0};
         return Raw(SYS_capset, P(head), P(scratch));
       }},
      {"own_limits", "privileges", kKilled, "setrlimit", kDone,
       [](const S&) -> long {
         static rlimit limit = {64, 64};
         return Raw(SYS_setrlimit, RLIMIT_NOFILE, P(&limit));
       }},
      {"dumpable", "privileges", kKilled, "prctl", kDone,
       [](const S&) { return Raw(SYS_prctl, PR_SET_DUMPABLE, 1); }},
      {"survive_the_launcher", "privileges", kKilled, "prctl", kDone,
       [](const S&) { return Raw(SYS_prctl, PR_SET_PDEATHSIG, 0); }},
      {"another_filter", "privileges", kKilled, "seccomp", kReached,
       [](const S&) {
         return Raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                    SECCOMP_FILTER_FLAG_NEW_LISTENER, 0);
       }},
      {"another_filter_by_prctl", "privileges", kKilled, "prctl", kReached,
       [](const S&) { return Raw(SYS_prctl, PR_SET_SECCOMP, 2, 0); }},
      {"speculate_past_stores", "speculation", kKilled, "prctl", kReached,
       [](const S&) {
         return Raw(SYS_prctl, PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS,
                    PR_SPEC_ENABLE, 0);
       }},
      {"speculate_through_branches", "speculation", kKilled, "prctl", kReached,
       [](const S&) {
         return Raw(SYS_prctl, PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH,
                    PR_SPEC_ENABLE, 0);
       }},
      {"leave_the_core_group", "speculation", kKilled, "prctl", kReached,
       [](const S&) { return Raw(SYS_prctl, 62, 1, 0, 0, 0); }},
      {"run_in_real_time", "resources", kKilled, "sched_setscheduler", kReached,
       [](const S&) -> long {
         static int priority = 50;
         return Raw(SYS_sched_setscheduler, 0, SCHED_FIFO, P(&priority));
       }},
      {"a_filter_that_lets_speculate", "speculation", kKilled, "seccomp",
       kReached,
       [](const S&) {
         return Raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                    SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0);
       }},
      {"keep_the_cache", "speculation", kKilled, "prctl", kReached,
       [](const S&) {
         return Raw(SYS_prctl, PR_SET_SPECULATION_CTRL, 2 /* L1D_FLUSH */,
                    PR_SPEC_DISABLE, 0);
       }},
      {"run_first", "resources", kKilled, "sched_setattr", kReached,
       [](const S&) { return Raw(SYS_sched_setattr, 0, P(scratch), 0); }},
      {"read_first", "resources", kKilled, "ioprio_set", kReached,
       [](const S&) { return Raw(SYS_ioprio_set, 1, 0, 1 << 13); }},
  };
  return attempts;
}

}  // namespace bulkhead::containment
