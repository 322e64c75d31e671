#include "vm/runfiles.h"

#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/fd.h"

namespace bulkhead::vm {
namespace {

std::string OwnPath() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  return length > 0 ? std::string(path, length) : std::string();
}

}  // namespace

std::string FindRunfile(const std::string& name) {
  const std::string own = OwnPath();
  std::vector<std::string> roots = {own + ".runfiles/bulkhead/",
                                    own + ".runfiles/_main/"};
  // Beside us, as Bazel lays out what it builds: BIN/launcher/vm.
  const size_t folder = own.rfind('/');
  if (folder != std::string::npos) {
    const size_t bin = own.rfind('/', folder - 1);
    if (bin != std::string::npos) roots.push_back(own.substr(0, bin + 1));
  }
  for (const std::string& root : roots) {
    const std::string path = root + name;
    if (access(path.c_str(), R_OK) == 0) return path;
  }
  return "";
}

bool ReadFile(const std::string& path, std::string* text) {
  constexpr size_t kLargest = 1 << 20;
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!file.valid()) return false;
  text->resize(kLargest + 1);
  size_t length = 0;
  while (length < text->size()) {
    const ssize_t got =
        read(file.get(), text->data() + length, text->size() - length);
    if (got < 0) return false;
    if (got == 0) break;
    length += got;
  }
  text->resize(length);
  return length <= kLargest;
}

std::map<std::string, std::string> ReadRuntimePaths() {
  std::map<std::string, std::string> paths;
  std::string text;
  if (!ReadFile(FindRunfile("launcher/runtime_paths"), &text)) return paths;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<std::string, std::string> sides =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (!sides.first.empty()) paths[sides.first] = sides.second;
  }
  return paths;
}

}  // namespace bulkhead::vm
