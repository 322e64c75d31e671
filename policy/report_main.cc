// bazel run //policy:report -- out.html
//
// Proves every policy against its bytecode and the running kernel, as
// //policy:prove does, and writes a page about all of them. 0 only when nothing
// differs.

#include <sys/utsname.h>
#include <time.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "policy/filter.h"
#include "policy/generate.h"
#include "policy/lock.h"
#include "policy/names.h"
#include "policy/prove.h"
#include "policy/report.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

constexpr char kVersion[] = "0.1.0";

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string Now() {
  const time_t now = time(nullptr);
  tm parts = {};
  gmtime_r(&now, &parts);
  char text[40];
  strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

absl::StatusOr<ReportedPolicy> Examine(const std::string& folder,
                                       const std::string& name) {
  absl::StatusOr<Source> source = LoadPolicy(folder + name + ".textproto");
  if (!source.ok()) return source.status();
  ReportedPolicy reported;
  reported.policy = source->policy;
  absl::StatusOr<Compiled> compiled = Compile(*source);
  if (!compiled.ok()) return compiled.status();
  reported.compiled = *std::move(compiled);
  for (const FilterPhase phase : {FilterPhase::kLaunch, FilterPhase::kSteady}) {
    const bool launch = phase == FilterPhase::kLaunch;
    absl::StatusOr<Verdicts> verdicts =
        ProveBoth(reported.policy, phase,
                  launch ? reported.compiled.launch : reported.compiled.steady);
    if (!verdicts.ok()) return verdicts.status();
    (launch ? reported.launch : reported.steady) = *std::move(verdicts);
  }
  std::ifstream in(folder + name + ".lock");
  std::stringstream text;
  text << in.rdbuf();
  const absl::StatusOr<PolicyLock> lock = ParseLock(text.str(), name + ".lock");
  reported.locked =
      lock.ok() &&
      Compare(*lock, MakeLock(reported.policy, reported.compiled)).empty();
  return reported;
}

int Main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: report OUT.html\n";
    return 2;
  }
  const std::string workspace = Variable("BUILD_WORKSPACE_DIRECTORY");
  const std::string folder =
      workspace.empty() ? "policy/" : workspace + "/policy/";
  std::string path = argv[1];
  if (path[0] != '/' && !Variable("BUILD_WORKING_DIRECTORY").empty()) {
    path = Variable("BUILD_WORKING_DIRECTORY") + "/" + path;
  }
  utsname kernel;
  uname(&kernel);
  std::vector<ReportedPolicy> policies;
  bool agree = true;
  for (const char* name : kPolicyNames) {
    std::cerr << "proving " << name << " ...\n";
    absl::StatusOr<ReportedPolicy> reported = Examine(folder, name);
    if (!reported.ok()) {
      std::cerr << reported.status().message() << '\n';
      return 2;
    }
    agree &= reported->launch.differences.empty() &&
             reported->steady.differences.empty() && reported->locked;
    policies.push_back(*std::move(reported));
  }
  std::ofstream out(path, std::ios::binary);
  out << ReportPage({.date = Now(),
                     .version = kVersion,
                     .kernel = absl::StrCat(kernel.sysname, " ", kernel.release,
                                            " ", kernel.machine),
                     .backend = FilterBackend()},
                    policies);
  out.close();
  if (!out) {
    std::cerr << path << ": cannot be written\n";
    return 2;
  }
  std::cerr << path << '\n';
  return agree ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::policy

int main(int argc, char** argv) { return bulkhead::policy::Main(argc, argv); }
