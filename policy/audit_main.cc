// bazel run //policy:audit -- LAUNCHER_PID          every process of a VM
// bazel run //policy:audit -- --pid=PID --policy=NAME
//     [--format=text|json]
//
// 0 only when everything that was read agrees with the policies; 1 on drift;
// 2 when nothing could be audited. What cannot be read is listed with the
// reason.

#include <dirent.h>

#include <fstream>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "policy/registry.h"
#include "policy/audit.h"

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

// The launcher starts every process under the name of its kind.
std::vector<Subject> ChildrenOf(pid_t launcher) {
  std::vector<Subject> subjects;
  std::istringstream children(ReadFile(
      absl::StrCat("/proc/", launcher, "/task/", launcher, "/children")));
  for (pid_t pid; children >> pid;) {
    const std::string name =
        ReadFile(absl::StrCat("/proc/", pid, "/cmdline")).c_str();
    const sandbox::CompiledPolicy* policy =
        absl::StrContains(name, "qemu-system") ? FindPolicy("qemu")
                                               : FindPolicy(name);
    if (policy != nullptr) subjects.push_back({pid, policy});
  }
  return subjects;
}

const char* ResultName(Finding::Result result) {
  switch (result) {
    case Finding::kOk:
      return "ok";
    case Finding::kDrift:
      return "DRIFT";
    case Finding::kUnread:
      break;
  }
  return "unread";
}

int Main(const std::vector<std::string>& arguments) {
  pid_t launcher = 0;
  pid_t pid = 0;
  std::string name;
  bool json = false;
  for (const std::string& argument : arguments) {
    if (absl::StartsWith(argument, "--pid=")) {
      pid = atoi(argument.c_str() + 6);
    } else if (absl::StartsWith(argument, "--policy=")) {
      name = argument.substr(9);
    } else if (argument == "--format=json") {
      json = true;
    } else if (argument != "--format=text") {
      launcher = atoi(argument.c_str());
    }
  }
  std::vector<Subject> subjects;
  if (pid > 0 && FindPolicy(name) != nullptr) {
    subjects.push_back({pid, FindPolicy(name)});
  } else if (launcher > 0) {
    subjects = ChildrenOf(launcher);
  }
  if (subjects.empty()) {
    std::cerr << "nothing to audit: give the launcher's process id, or --pid "
                 "and --policy (image_tool, lsi53c895a, qemu, shim)\n";
    return 2;
  }

  std::vector<pid_t> pids;
  for (const Subject& subject : subjects) pids.push_back(subject.pid);
  nlohmann::json report = nlohmann::json::array();
  int counts[3] = {};
  for (const Subject& subject : subjects) {
    if (!json) {
      std::cout << subject.policy->name << "  pid " << subject.pid << '\n';
    }
    for (const Finding& finding :
         AuditProcess(subject.pid, *subject.policy, pids)) {
      ++counts[finding.result];
      report.push_back({{"pid", subject.pid},
                        {"policy", subject.policy->name},
                        {"check", finding.check},
                        {"expected", finding.expected},
                        {"observed", finding.observed},
                        {"result", ResultName(finding.result)}});
      if (json) continue;
      std::cout << "  " << std::left << std::setw(7)
                << ResultName(finding.result) << std::setw(38) << finding.check
                << std::setw(28) << finding.expected << ' ' << finding.observed
                << '\n';
    }
  }
  if (json) {
    std::cout << report.dump(2) << '\n';
  } else {
    std::cout << (counts[Finding::kDrift] == 0 ? "PASS " : "FAIL ")
              << counts[Finding::kOk] << " checks agree, "
              << counts[Finding::kDrift] << " drifted, "
              << counts[Finding::kUnread] << " could not be read\n";
  }
  return counts[Finding::kDrift] == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::policy

// The JSON library throws for misuse, which would be a bug of ours.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  return bulkhead::policy::Main({argv + 1, argv + argc});
}
