#include "tests/support/own_qemu.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace bulkhead::testing {
namespace {

// Runs "$@" with the tree $1 as its root and the directories named before "--"
// bound into it, in namespaces of its own so that nothing stays mounted.
constexpr char kEnterTree[] = R"sh(
set -e
PATH=$PATH:/usr/sbin:/sbin
tree=$1; shift
mount -t tmpfs -o mode=755 tmpfs "$tree/tmp"
mount --rbind /proc "$tree/proc"
mount --rbind /dev "$tree/dev"
while [ "$1" != -- ]; do
  mkdir -p "$tree$1"
  mount --rbind "$1" "$tree$1"
  shift
done
shift
echo "entering the tree" >&2
exec chroot "$tree" "$@"
)sh";

}  // namespace

std::string RuntimePath(const std::string& key) {
  for (const char* file : {"external/runtime/paths", "../runtime/paths"}) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      if (line.rfind(key + "=", 0) == 0) return line.substr(key.size() + 1);
    }
  }
  return "";
}

ScratchDirectory::ScratchDirectory() {
  char name[] = "/tmp/bhXXXXXX";
  if (mkdtemp(name) == nullptr) abort();
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> QemuCommand(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& shared) {
  std::vector<std::string> argv;
  const std::string tree = RuntimePath("qemu_root");
  if (!tree.empty()) {
    argv = {"unshare"};
    // Root needs no user namespace, and in one it could not open what the
    // launcher offers under /proc.
    if (geteuid() != 0) argv.push_back("--map-root-user");
    argv.insert(argv.end(), {"--mount", "--propagation", "private", "sh", "-c",
                             kEnterTree, "sh", tree});
    argv.insert(argv.end(), shared.begin(), shared.end());
    argv.push_back("--");
  }
  argv.push_back(RuntimePath("qemu"));
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

OwnQemu::OwnQemu(std::vector<std::string> arguments,
                 const std::string& directory,
                 const std::vector<std::string>& shared) {
  const std::string monitor = directory + "/qmp";
  arguments.push_back("-qmp");
  arguments.push_back("unix:" + monitor + ",server=on,wait=off");
  std::vector<std::string> directories = shared;
  directories.push_back(directory);
  process_ = std::make_unique<Process>(QemuCommand(arguments, directories));
  connected_ = qmp_.Connect(monitor, 20);
}

}  // namespace bulkhead::testing
