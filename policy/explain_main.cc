// bazel run //policy:explain_call -- SYSCALL [ARG...] [--policy=NAME]
//
// What each policy says of a system call, in each phase: allowed or not, the
// rule that does or that comes nearest, and why.

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "policy/explain.h"
#include "policy/registry.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

void Print(const Policy& policy, const char* phase_name, FilterPhase phase,
           const Call& call) {
  const Explanation explanation = Explain(policy, phase, call);
  std::cout << policy.name() << ", " << phase_name << ": "
            << (explanation.allowed ? "allowed" : "not allowed") << '\n';
  if (!explanation.rule.empty()) {
    std::cout << (explanation.allowed ? "  by " : "  nearest: ")
              << explanation.rule << '\n';
  }
  if (!explanation.allowed) {
    std::cout << "  why not: " << explanation.difference << '\n';
  }
}

int Main(const std::vector<std::string>& arguments) {
  Call call;
  std::string only;
  size_t args = 0;
  for (const std::string& argument : arguments) {
    if (absl::StartsWith(argument, "--policy=")) {
      only = argument.substr(9);
    } else if (call.syscall.empty()) {
      call.syscall = argument;
    } else if (args < 6) {
      call.args[args++] = strtoull(argument.c_str(), nullptr, 0);
    }
  }
  if (sandbox::SyscallNumber(call.syscall) < 0) {
    std::cerr << "x86_64 has no system call \"" << call.syscall
              << "\"; usage: explain_call SYSCALL [ARG...] [--policy=NAME]\n";
    return 2;
  }
  int explained = 0;
  for (const sandbox::CompiledPolicy* compiled : AllPolicies()) {
    if (!only.empty() && only != compiled->name) continue;
    ++explained;
    const Policy policy = CompiledInPolicy(compiled->name);
    if (!compiled->empty_root) {
      Print(policy, "all its life", FilterPhase::kLaunch, call);
      continue;
    }
    Print(policy, "until the lock-down", FilterPhase::kLaunch, call);
    Print(policy, "steady state", FilterPhase::kSteady, call);
  }
  if (explained == 0) std::cerr << "no policy is named " << only << '\n';
  return explained == 0 ? 2 : 0;
}

}  // namespace
}  // namespace bulkhead::policy

int main(int argc, char** argv) {
  return bulkhead::policy::Main({argv + 1, argv + argc});
}
