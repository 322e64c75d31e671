// What a policy's filters add to a system call of the data path: the same call
// in three processes, one with both filters of a policy, one with a filter of a
// single instruction that allows everything, one with none. The second is what
// the kernel asks for having a filter at all: no policy can cost less.
//
//   bazel run //bench:filter_cost [-- POLICY]
//
// 0 only when each hot call of every process of ours that is on a guest's data
// path costs at most 40 ns more than without a filter.
//
// The three share one CPU and take turns of a millisecond, so that what the
// machine does meanwhile (clock speed, neighbours) meets all alike. Each writes
// down how long a batch of calls took; the medians of some thousand batches are
// compared.

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "bench/report.h"
#include "policy/registry.h"
#include "sandbox/compiled_policy.h"

namespace bulkhead::bench {
namespace {

constexpr int kCallsOfABatch = 500;
constexpr int kTurns = 40;
constexpr useconds_t kTurnMicroseconds = 1500;
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
    {"io_uring_enter", 426},
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

// Which filters a process has.
using Filters = std::vector<absl::Span<const sock_filter>>;

constexpr sock_filter kAllowAll[] = {
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

// A process that makes one call again and again, while it is let.
class Caller {
 public:
  Caller(const Filters& filters, long number)
      : log_(
            static_cast<Log*>(mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0))),
        pid_(fork()) {
    if (pid_ == 0) Run(filters, number);
    alive_ = Stop();
  }
  ~Caller() {
    if (alive_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    munmap(log_, sizeof(Log));
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  // Not: its policy does not allow the call, and it was killed for it.
  bool alive() const { return alive_; }
  int error() const { return log_->error; }

  void TakeATurn(std::vector<double>* nanoseconds) {
    const uint64_t first = log_->batches.load();
    kill(pid_, SIGCONT);
    usleep(kTurnMicroseconds);
    alive_ = alive_ && Stop();
    // The first batches find cold caches, the last one was cut short.
    constexpr uint64_t kCold = 2;
    for (uint64_t i = first + kCold; i + 1 < log_->batches.load(); ++i) {
      nanoseconds->push_back(log_->nanoseconds[i % kKept]);
    }
  }

 private:
  static constexpr size_t kKept = 1024;
  struct Log {
    std::atomic<uint64_t> batches;
    int error;                  // what the call fails with
    double nanoseconds[kKept];  // a call; of the last batches
  };

  bool Stop() {
    usleep(1000);  // it has its filters, and has made its first calls
    kill(pid_, SIGSTOP);
    int status = 0;
    return waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status);
  }

  [[noreturn]] void Run(const Filters& filters, long number) {
    Now();  // the vDSO is bound
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(1);
    for (const absl::Span<const sock_filter> filter : filters) {
      if (!Install(filter)) _exit(1);
    }
    // No such fd, no such operation, more fds than there can be.
    const long first = number == SYS_ppoll ? 0 : -1;
    const unsigned long second = number == 426 ? 0 : 0xffffffff;
    for (;;) {
      errno = 0;
      const double begin = Now();
      for (int i = 0; i < kCallsOfABatch; ++i) {
        syscall(number, first, second, 0, 0, 0, 0);
      }
      const uint64_t batch = log_->batches.load(std::memory_order_relaxed);
      log_->error = errno;
      log_->nanoseconds[batch % kKept] = (Now() - begin) / kCallsOfABatch;
      log_->batches.store(batch + 1);
    }
  }

  Log* const log_;
  const pid_t pid_;
  bool alive_ = false;
};

// Medians.
struct Times {
  double unfiltered = 0;
  double allow_all = 0;
  double filtered = 0;
};

bool Measure(const sandbox::CompiledPolicy& policy, long number, Times* times) {
  Caller filtered({policy.launch_filter, policy.steady_filter}, number);
  if (!filtered.alive()) return false;
  Caller allow_all({kAllowAll}, number);
  Caller unfiltered({}, number);
  std::vector<double> samples[3];
  for (int turn = 0; turn < kTurns; ++turn) {
    unfiltered.TakeATurn(&samples[0]);
    allow_all.TakeATurn(&samples[1]);
    filtered.TakeATurn(&samples[2]);
  }
  for (const std::vector<double>& some : samples) {
    if (some.empty()) return false;
  }
  // A call that the policy answers itself is on no data path.
  if (filtered.error() != unfiltered.error()) return false;
  *times = {Median(samples[0]), Median(samples[1]), Median(samples[2])};
  return true;
}

// The children, on one CPU; it is the last one, where least is going on.
void Pin() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    return;
  }
}

int Main(const char* only) {
  Pin();
  printf(
      "nanoseconds a call: medians of batches of %d calls, in turns on one "
      "CPU\n",
      kCallsOfABatch);
  printf("%-18s %-15s %9s %9s %9s %9s %7s\n", "policy", "call", "no filter",
         "allow all", "filtered", "cost", "ratio");
  // Of a guest's data path; the others are measured and shown.
  const std::set<std::string> kOthers = {"connector", "console", "image"};
  std::vector<double> costs;
  std::vector<double> beyond;
  double worst = 0;
  for (const sandbox::CompiledPolicy* policy : policy::AllPolicies()) {
    if (!policy->empty_root) continue;
    if (only != nullptr && strcmp(only, policy->name) != 0) continue;
    for (const HotCall& call : kHotCalls) {
      Times times;
      if (!Measure(*policy, call.number, &times)) continue;
      const double cost = times.filtered - times.unfiltered;
      printf("%-18s %-15s %9.1f %9.1f %9.1f %9.1f %6.2fx\n", policy->name,
             call.name, times.unfiltered, times.allow_all, times.filtered, cost,
             times.filtered / times.unfiltered);
      fflush(stdout);
      if (kOthers.count(policy->name) != 0) continue;
      costs.push_back(cost);
      beyond.push_back(times.filtered - times.allow_all);
      worst = std::max(worst, cost);
    }
  }
  if (costs.empty()) return 1;
  printf("a filter's cost: %.1f ns (median), %.1f ns (most)\n", Median(costs),
         worst);
  printf("of that, beyond a filter that allows everything: %.1f ns (median)\n",
         Median(beyond));
  printf("aim: at most %.0f ns for each: %s\n", kAim,
         worst <= kAim ? "met" : "MISSED");
  return worst <= kAim ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::bench

int main(int argc, char** argv) {
  return bulkhead::bench::Main(argc > 1 ? argv[1] : nullptr);
}
