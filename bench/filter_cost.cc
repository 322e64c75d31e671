// What a policy's filters add to a system call of the data path: the same call
// in two processes, one with both filters of a policy, one with none.
//
//   bazel run //bench:filter_cost
//
// 0 only when the hottest call of every service and shim costs at most 40 ns
// more.

#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "bench/report.h"
#include "policy/registry.h"
#include "sandbox/compiled_policy.h"

namespace bulkhead::bench {
namespace {

constexpr int kCalls = 100000;
constexpr int kRounds = 5;
constexpr double kAim = 40;

// Each fails at once, because its fd is no fd: what is left is the way in and
// out, with the filters on it.
struct HotCall {
  const char* name;
  long number;
};
constexpr HotCall kHotCalls[] = {
    {"ppoll", SYS_ppoll},       {"recvmsg", SYS_recvmsg},
    {"sendmsg", SYS_sendmsg},   {"preadv2", SYS_preadv2},
    {"pwritev2", SYS_pwritev2}, {"futex", SYS_futex},
};

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 +
         static_cast<double>(now.tv_nsec);
}

bool Install(absl::Span<const sock_filter> filter) {
  const sock_fprog program = {static_cast<unsigned short>(filter.size()),
                              const_cast<sock_filter*>(filter.data())};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

// Nanoseconds for a call in a process of its own; negative: it was killed, so
// the policy does not allow it.
double Measure(const sandbox::CompiledPolicy* policy, long number) {
  auto* result =
      static_cast<volatile double*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *result = -1;
  const pid_t child = fork();
  if (child == 0) {
    Now();  // the vDSO is bound
    if (policy != nullptr &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
         !Install(policy->launch_filter) || !Install(policy->steady_filter))) {
      _exit(1);
    }
    // No such fd, no such operation, more fds than there can be.
    const long first = number == SYS_ppoll ? 0 : -1;
    for (int i = 0; i < kCalls / 10; ++i) {
      syscall(number, first, 0xffffffffUL, 0, 0, 0, 0);
    }
    const double begin = Now();
    for (int i = 0; i < kCalls; ++i) {
      syscall(number, first, 0xffffffffUL, 0, 0, 0, 0);
    }
    *result = (Now() - begin) / kCalls;
    syscall(SYS_exit_group, 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const double nanoseconds = *result;
  munmap(const_cast<double*>(result), 4096);
  return WIFEXITED(status) ? nanoseconds : -1;
}

int Main() {
  printf("nanoseconds a call, medians of %d rounds of %d calls\n", kRounds,
         kCalls);
  printf("%-14s %-10s %10s %10s %8s\n", "policy", "call", "no filter",
         "filtered", "cost");
  bool met = true;
  int measured = 0;
  for (const sandbox::CompiledPolicy* policy : policy::AllPolicies()) {
    if (!policy->empty_root) continue;
    for (const HotCall& call : kHotCalls) {
      std::vector<double> without;
      std::vector<double> with;
      std::vector<double> cost;
      for (int round = 0; round < kRounds; ++round) {
        without.push_back(Measure(nullptr, call.number));
        with.push_back(Measure(policy, call.number));
        if (with.back() < 0) break;
        cost.push_back(with.back() - without.back());
      }
      if (cost.size() < kRounds) continue;  // not one of its calls
      const double median = Median(cost);
      printf("%-14s %-10s %10.1f %10.1f %8.1f\n", policy->name, call.name,
             Median(without), Median(with), median);
      fflush(stdout);
      ++measured;
      met = met && median <= kAim;
    }
  }
  printf("aim: at most %.0f ns for each: %s\n", kAim, met ? "met" : "MISSED");
  return met && measured > 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main() { return bulkhead::bench::Main(); }
