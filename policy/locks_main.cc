// bazel run //policy:diff           what changed since policy/*.lock, in words;
//                                   1 when something did
// bazel run //policy:update_locks   writes policy/*.lock, after that look

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "policy/generate.h"
#include "policy/lock.h"
#include "policy/names.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

int Fail(const absl::Status& status) {
  std::cerr << status.message() << '\n';
  return 2;
}

const char* EffectName(Change::Effect effect) {
  switch (effect) {
    case Change::kWidens:
      return "WIDENS  ";
    case Change::kNarrows:
      return "narrows ";
    case Change::kWords:
      break;
  }
  return "words   ";
}

int Main(bool update) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  const std::string folder =
      std::string(workspace == nullptr ? "." : workspace) + "/policy/";
  bool changed = false;
  for (const char* name : kPolicyNames) {
    absl::StatusOr<Source> source = LoadPolicy(folder + name + ".textproto");
    if (!source.ok()) return Fail(source.status());
    absl::StatusOr<Compiled> compiled = Compile(*source);
    if (!compiled.ok()) return Fail(compiled.status());
    const PolicyLock now = MakeLock(source->policy, *compiled);

    const std::string path = folder + name + ".lock";
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    absl::StatusOr<PolicyLock> before = ParseLock(text.str(), path);
    if (!before.ok()) return Fail(before.status());
    const std::vector<Change> changes = Compare(*before, now);
    for (const Change& change : changes) {
      std::cout << EffectName(change.effect) << name << ": " << change.text
                << '\n';
    }
    if (changes.empty()) std::cout << "same    " << name << '\n';
    changed |= !changes.empty();
    if (update) {
      std::ofstream out(path);
      out << LockText(Renew(*before, now));
      out.close();
      if (!out) {
        std::cerr << path << ": cannot be written\n";
        return 2;
      }
    }
  }
  return changed && !update ? 1 : 0;
}

}  // namespace
}  // namespace bulkhead::policy

int main(int argc, char** argv) {
  return bulkhead::policy::Main(argc > 1 && std::string(argv[1]) == "--update");
}
