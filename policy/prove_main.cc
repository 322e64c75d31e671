// bazel run //policy:prove
//
// For every policy and phase: is the bytecode what the policy says, and does
// the kernel of this machine agree? 0 only when nothing differs.

#include <sys/utsname.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "policy/generate.h"
#include "policy/names.h"
#include "policy/prove.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

bool Report(const std::string& name, const char* phase,
            const absl::StatusOr<Verdicts>& verdicts) {
  if (!verdicts.ok()) {
    std::cerr << verdicts.status().message() << '\n';
    return false;
  }
  std::cout << name << ' ' << phase << ": " << verdicts->classes
            << " classes of calls proven, " << verdicts->probes
            << " calls asked of the kernel: " << verdicts->allowed
            << " allowed, " << verdicts->refused << " refused, "
            << verdicts->killed << " killed; " << verdicts->differences.size()
            << " differences, " << verdicts->exceptions.size()
            << " kernel exceptions\n";
  for (const std::string& text : verdicts->exceptions) {
    std::cout << "  kernel exception: " << text << '\n';
  }
  for (const std::string& text : verdicts->differences) {
    std::cout << "  DIFFERENCE: " << text << '\n';
  }
  return verdicts->differences.empty();
}

int Main() {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  const std::string folder =
      workspace == nullptr ? "policy/" : std::string(workspace) + "/policy/";
  utsname kernel;
  uname(&kernel);
  std::cout << "Linux " << kernel.release << ", " << FilterBackend() << '\n';
  bool agree = true;
  for (const char* name : kPolicyNames) {
    absl::StatusOr<Source> source = LoadPolicy(folder + name + ".textproto");
    absl::StatusOr<Compiled> compiled =
        source.ok() ? Compile(*source)
                    : absl::StatusOr<Compiled>(source.status());
    if (!compiled.ok()) {
      std::cerr << compiled.status().message() << '\n';
      return 2;
    }
    const Policy& policy = source->policy;
    agree &= Report(name, "launch",
                    ProveBoth(policy, FilterPhase::kLaunch, compiled->launch));
    agree &= Report(name, "steady",
                    ProveBoth(policy, FilterPhase::kSteady, compiled->steady));
  }
  return agree ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead::policy

int main() { return bulkhead::policy::Main(); }
