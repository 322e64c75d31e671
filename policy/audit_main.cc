// bazel run //policy:audit -- VM                    every process of that VM
// bazel run //policy:audit -- LAUNCHER_PID          the same
// bazel run //policy:audit -- --pid=PID --policy=NAME
//     [--format=text|json|sarif]
//
// 0 only when everything that was read agrees with the policies; 1 on drift;
// 2 when nothing could be audited. What cannot be read is listed with the
// reason.

#include <cstdlib>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "policy/ask_launcher.h"
#include "policy/audit.h"
#include "policy/audit_format.h"
#include "policy/proc_files.h"
#include "policy/registry.h"

namespace bulkhead::policy {
namespace {

// A process that is running in a VM and has no policy.
AuditedProcess Unknown(pid_t pid, const std::string& name) {
  return {pid,
          name,
          {{Finding::kDrift, "policy", "one of those that are compiled in",
            absl::StrCat("none of the name ", name)}}};
}

// The launcher says which policy each has; if it does not, a process's own name
// is that of its kind. What has none goes to `unknown`.
AuditContext ContextOf(pid_t launcher, std::vector<AuditedProcess>* unknown) {
  AuditContext context;
  context.launcher = launcher;
  std::map<pid_t, std::string> policies = PoliciesOf(launcher);
  for (const pid_t pid : ChildrenOf(launcher)) {
    const std::string name =
        ReadFile(absl::StrCat("/proc/", pid, "/cmdline")).c_str();
    std::string& known = policies[pid];
    if (known.empty()) {
      known = absl::StrContains(name, "qemu-system") ? "qemu" : name;
    }
    const sandbox::CompiledPolicy* policy = FindPolicy(known);
    if (policy != nullptr) {
      context.processes.push_back({pid, policy});
    } else {
      unknown->push_back(Unknown(pid, known));
    }
  }
  return context;
}

std::vector<AuditedProcess> Audit(const AuditContext& context) {
  std::vector<AuditedProcess> audited;
  for (const AuditSubject& subject : context.processes) {
    audited.push_back({subject.pid, subject.policy->name,
                       AuditProcess(subject.pid, *subject.policy, context)});
  }
  if (context.launcher != 0) {
    audited.push_back({context.launcher, "launcher", AuditLauncher(context)});
  }
  return audited;
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
  std::vector<AuditedProcess> audited;
  if (pid > 0 && FindPolicy(name) != nullptr) {
    audited = Audit({.processes = {{pid, FindPolicy(name)}}});
  }
  for (const pid_t launcher : launchers) {
    std::vector<AuditedProcess> unknown;
    const AuditContext context = ContextOf(launcher, &unknown);
    if (context.processes.empty()) continue;  // no launcher of a VM
    std::move(unknown.begin(), unknown.end(), std::back_inserter(audited));
    for (AuditedProcess& process : Audit(context)) {
      audited.push_back(std::move(process));
    }
  }
  if (audited.empty()) return Usage();
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
