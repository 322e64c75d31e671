// The launcher that learns: `vm --policy_mode=learn` becomes it instead of
// //launcher. The processes run in their jails, but no filter holds them: each
// of their calls is stopped, compared with the policy and let go on. At the end
// it prints which rules are missing, which were never used, and which could be
// tighter.
//
// Nothing of this is in //launcher: it cannot be made to let a call pass.
//
// TRUST    The guest, the images and the programs are trusted while one learns.
// ERRORS   As //launcher; no verdict of its own.
// THREADS  One.

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/exit_code.h"
#include "base/fd.h"
#include "launcher/plan_file.h"
#include "launcher/supervisor.h"
#include "policy/explain.h"
#include "policy/learner.h"
#include "policy/registry.h"
#include "proto/launch.pb.h"
#include "sandbox/syscalls.h"
#include "sandbox/violation.h"

namespace bulkhead::learn {
namespace {

using policy::FilterPhase;
using policy::Learner;

struct Subject {
  std::string policy;  // "": it has not become its program yet
  policy::Call exec;   // how it became that
  bool locked_down = false;
};

std::map<pid_t, Subject>& Subjects() {
  static auto& subjects = *new std::map<pid_t, Subject>;
  return subjects;
}

// By the policy's name.
std::map<std::string, std::unique_ptr<Learner>>& Learners() {
  static auto& learners = *new std::map<std::string, std::unique_ptr<Learner>>;
  return learners;
}

pid_t ProcessOf(pid_t thread) {
  std::ifstream status(absl::StrCat("/proc/", thread, "/status"));
  pid_t process = thread;
  for (std::string line; std::getline(status, line);) {
    if (!absl::StartsWith(line, "Tgid:\t")) continue;
    (void)absl::SimpleAtoi(line.substr(6), &process);
    break;
  }
  return process;
}

// The plan's policy of a process, by its command line.
std::map<std::string, std::string>& Planned() {
  static auto& planned = *new std::map<std::string, std::string>;
  return planned;
}

std::string PolicyOf(pid_t process) {
  std::ifstream in(absl::StrCat("/proc/", process, "/cmdline"));
  std::stringstream line;
  line << in.rdbuf();
  const auto policy = Planned().find(line.str());
  return policy == Planned().end() ? "" : policy->second;
}

// Lets a lock-down believe that it has installed its filter.
void PretendSuccess(pid_t thread) {
  ptrace(PTRACE_POKEUSER, thread, offsetof(user_regs_struct, orig_rax), -1L);
  ptrace(PTRACE_POKEUSER, thread, offsetof(user_regs_struct, rax), 0L);
}

void Look(pid_t thread) {
  __ptrace_syscall_info info = {};
  if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) <= 0 ||
      info.op != PTRACE_SYSCALL_INFO_SECCOMP) {
    return;
  }
  constexpr uint64_t kX32Bit = 0x40000000;
  const bool i386 = info.arch == AUDIT_ARCH_I386;
  const bool x32 = !i386 && (info.seccomp.nr & kX32Bit) != 0;
  policy::Call call;
  call.abi = i386 ? "i386" : x32 ? "x32" : "x86_64";
  call.syscall = sandbox::SyscallName(
      static_cast<int>(x32 ? info.seccomp.nr & ~kX32Bit : info.seccomp.nr),
      i386);
  for (int i = 0; i < 6; ++i) call.args[i] = info.seccomp.args[i];

  const pid_t process = ProcessOf(thread);
  Subject& subject = Subjects()[process];
  if (subject.policy.empty() && call.syscall == "execveat") {
    subject.exec = call;
    return;
  }
  const bool is_new = subject.policy.empty();
  if (is_new) subject.policy = PolicyOf(process);
  const sandbox::CompiledPolicy* compiled = policy::FindPolicy(subject.policy);
  if (compiled == nullptr) return;
  std::unique_ptr<Learner>& learner = Learners()[subject.policy];
  if (learner == nullptr) {
    learner =
        std::make_unique<Learner>(policy::CompiledInPolicy(subject.policy));
  }
  if (is_new) learner->Add(FilterPhase::kLaunch, subject.exec);
  learner->Add(
      subject.locked_down ? FilterPhase::kSteady : FilterPhase::kLaunch, call);
  if (compiled->empty_root && call.syscall == "seccomp" &&
      call.args[0] == SECCOMP_SET_MODE_FILTER) {
    subject.locked_down = true;
    PretendSuccess(thread);
  }
}

int Main(int argc, char** argv) {
  LaunchPlan plan;
  {
    const Fd file(argc == 2 ? std::atoi(argv[1]) : -1);
    if (!launcher::ReadPlan(file.get(), &plan)) {
      (void)fputs("learn: started by `vm --policy_mode=learn`\n", stderr);
      return kExitUsage;
    }
  }
  for (const JailedProcess& process : plan.processes()) {
    std::string line;
    for (const std::string& argument : process.arguments()) {
      line.append(argument).push_back('\0');
    }
    Planned()[line] = process.policy();
  }
  sandbox::ObserveSeccompStops(Look);
  const int code = launcher::Supervisor(plan).Run();
  launcher::RemoveLeftovers(plan);
  fprintf(stderr, "\nlearnt, with no filter in force:\n");
  for (const auto& [name, learner] : Learners()) {
    fputs(learner->Report().c_str(), stderr);
  }
  return code;
}

}  // namespace
}  // namespace bulkhead::learn

int main(int argc, char** argv) { return bulkhead::learn::Main(argc, argv); }
