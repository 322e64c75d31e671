// bazel run //policy:explain_call -- SYSCALL [ARG...] [--policy=NAME]
//
// What each policy says of a system call, in each phase: allowed or not, the
// rule that does or that comes nearest, and why.

#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "policy/explain.h"
#include "policy/registry.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

// What is said of the call, by whom it is said. Most say the same.
using Answers = std::map<std::string, std::string>;

void Ask(const Policy& policy, const char* phase_name, FilterPhase phase,
         const Call& call, Answers* answers) {
  const Explanation explanation = Explain(policy, phase, call);
  std::string answer = explanation.allowed ? "allowed\n" : "not allowed\n";
  if (!explanation.rule.empty()) {
    absl::StrAppend(&answer, explanation.allowed ? "  by " : "  nearest: ",
                    explanation.rule, "\n");
  }
  if (!explanation.allowed) {
    absl::StrAppend(&answer, "  why not: ", explanation.difference, "\n");
  }
  std::string& who = (*answers)[answer];
  absl::StrAppend(&who, who.empty() ? "" : ", ", policy.name(), phase_name);
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
  Answers answers;
  for (const sandbox::CompiledPolicy* compiled : AllPolicies()) {
    if (!only.empty() && only != compiled->name) continue;
    ++explained;
    const Policy policy = CompiledInPolicy(compiled->name);
    if (!compiled->empty_root) {
      Ask(policy, "", FilterPhase::kLaunch, call, &answers);
      continue;
    }
    Ask(policy, " until the lock-down", FilterPhase::kLaunch, call, &answers);
    Ask(policy, " in its steady state", FilterPhase::kSteady, call, &answers);
  }
  for (const auto& [answer, who] : answers) {
    std::cout << who << ": " << answer;
  }
  if (explained == 0) std::cerr << "no policy is named " << only << '\n';
  return explained == 0 ? 2 : 0;
}

}  // namespace
}  // namespace bulkhead::policy

int main(int argc, char** argv) {
  return bulkhead::policy::Main({argv + 1, argv + argc});
}
