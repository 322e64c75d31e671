// bazel run //policy:audit -- VM                    every process of that VM
// bazel run //policy:audit -- LAUNCHER_PID          the same
// bazel run //policy:audit -- --pid=PID --policy=NAME
//     [--format=text|json|sarif]
//
// 0 only when everything that was read agrees with the policies; 1 on drift;
// 2 when nothing could be audited. What cannot be read is listed with the
// reason.

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "policy/ask_launcher.h"
#include "policy/audit.h"
#include "policy/audit_format.h"
#include "policy/registry.h"

namespace bulkhead::policy {
namespace {

struct Subject {
  pid_t pid;
  const sandbox::CompiledPolicy* policy;
};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// The launcher says which policy each has; if it does not, a process's own name
// is that of its kind.
std::vector<Subject> ChildrenOf(pid_t launcher) {
  std::vector<Subject> subjects;
  std::map<pid_t, std::string> policies = PoliciesOf(launcher);
  std::istringstream children(ReadFile(
      absl::StrCat("/proc/", launcher, "/task/", launcher, "/children")));
  for (pid_t pid; children >> pid;) {
    const std::string name =
        ReadFile(absl::StrCat("/proc/", pid, "/cmdline")).c_str();
    std::string& known = policies[pid];
    if (known.empty()) {
      known = absl::StrContains(name, "qemu-system") ? "qemu" : name;
    }
    const sandbox::CompiledPolicy* policy = FindPolicy(known);
    if (policy == nullptr) {
      std::cerr << "process " << pid << " (" << name
                << ") has no policy of its name: not audited\n";
      continue;
    }
    subjects.push_back({pid, policy});
  }
  return subjects;
}

int Usage() {
  std::string names;
  for (const sandbox::CompiledPolicy* policy : AllPolicies()) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", policy->name);
  }
  std::cerr << "nothing to audit: give a running VM's name or its launcher's "
               "process id, or --pid and --policy ("
            << names << ")\n";
  return 2;
}

int Main(const std::vector<std::string>& arguments) {
  std::vector<pid_t> launchers;
  pid_t pid = 0;
  std::string name;
  std::string format = "text";
  for (const std::string& argument : arguments) {
    pid_t launcher = 0;
    if (absl::StartsWith(argument, "--pid=")) {
      pid = atoi(argument.c_str() + 6);
    } else if (absl::StartsWith(argument, "--policy=")) {
      name = argument.substr(9);
    } else if (absl::StartsWith(argument, "--format=")) {
      format = argument.substr(9);
    } else if (absl::StartsWith(argument, "-")) {
      return Usage();
    } else if (absl::SimpleAtoi(argument, &launcher)) {
      launchers.push_back(launcher);
    } else {
      launchers = LaunchersOf(argument);
    }
  }
  if (format != "text" && format != "json" && format != "sarif") {
    std::cerr << "--format is text, json or sarif\n";
    return 2;
  }
  std::vector<Subject> subjects;
  if (pid > 0 && FindPolicy(name) != nullptr) {
    subjects.push_back({pid, FindPolicy(name)});
  }
  for (const pid_t launcher : launchers) {
    for (const Subject& subject : ChildrenOf(launcher)) {
      subjects.push_back(subject);
    }
  }
  if (subjects.empty()) return Usage();

  std::vector<pid_t> pids;
  for (const Subject& subject : subjects) pids.push_back(subject.pid);
  std::vector<AuditedProcess> audited;
  for (const Subject& subject : subjects) {
    audited.push_back({subject.pid, subject.policy->name,
                       AuditProcess(subject.pid, *subject.policy, pids)});
  }
  std::cout << (format == "json"    ? AuditJson(audited)
                : format == "sarif" ? AuditSarif(audited)
                                    : AuditText(audited));
  return Count(audited).drifted == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::policy

// The JSON library throws for misuse, which would be a bug of ours.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  return bulkhead::policy::Main({argv + 1, argv + argc});
}
