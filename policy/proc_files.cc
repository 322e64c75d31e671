#include "policy/proc_files.h"

#include <dirent.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace bulkhead::policy {

std::string ReadFile(const std::string& path, bool* readable) {
  std::ifstream in(path, std::ios::binary);
  if (readable != nullptr) *readable = static_cast<bool>(in);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

std::string ReadLink(const std::string& path) {
  char target[1024];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  return size < 0 ? "" : std::string(target, size);
}

std::vector<std::string> Entries(const std::string& path, bool* readable) {
  std::vector<std::string> names;
  DIR* folder = opendir(path.c_str());
  *readable = folder != nullptr;
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(folder);
  return names;
}

std::map<std::string, std::string> StatusOf(pid_t pid) {
  std::map<std::string, std::string> status;
  for (const std::string& line :
       Lines(ReadFile(absl::StrCat("/proc/", pid, "/status")))) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    status[line.substr(0, colon)] =
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return status;
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  bool readable = false;
  for (const std::string& thread : Entries(tasks, &readable)) {
    std::istringstream in(
        ReadFile(absl::StrCat(tasks, "/", thread, "/children")));
    for (pid_t child; in >> child;) children.push_back(child);
  }
  return children;
}

}  // namespace bulkhead::policy
