#include "policy/audit_root.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "policy/proc_files.h"

namespace bulkhead::policy {
namespace {

// A line of /proc/PID/mountinfo.
struct Mount {
  std::string target;
  std::vector<std::string> options;
  std::string filesystem;

  bool Has(const char* option) const {
    return std::find(options.begin(), options.end(), option) != options.end();
  }
};

std::vector<Mount> MountsOf(const std::string& proc) {
  std::vector<Mount> mounts;
  for (const std::string& line : Lines(ReadFile(proc + "mountinfo"))) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 6 || words.end() - dash < 2) continue;
    mounts.push_back({.target = words[4],
                      .options = absl::StrSplit(words[5], ','),
                      .filesystem = dash[1]});
  }
  return mounts;
}

class RootAuditor {
 public:
  RootAuditor(pid_t pid, const sandbox::CompiledPolicy& policy)
      : pid_(pid), policy_(policy), proc_(absl::StrCat("/proc/", pid, "/")) {}

  std::vector<Finding> Run() {
    mounts_ = MountsOf(proc_);
    if (mounts_.empty()) {
      Add(Finding::kUnread, "mounts", "its own root", "not readable");
      return findings_;
    }
    Root();
    if (policy_.empty_root) {
      Emptiness();
    } else {
      Writable();
    }
    DeviceNodes();
    return findings_;
  }

 private:
  void Add(Finding::Result result, const std::string& check,
           const std::string& expected, const std::string& observed) {
    findings_.push_back({result, check, expected, observed});
  }

  void ExpectThat(bool holds, const std::string& check,
                  const std::string& expected, const std::string& observed) {
    Add(holds ? Finding::kOk : Finding::kDrift, check, expected, observed);
  }

  void Root() {
    std::string observed = "none";
    bool right = false;
    for (const Mount& mount : mounts_) {
      if (mount.target != "/") continue;
      right = mount.Has("ro") && mount.filesystem == "tmpfs";
      observed = absl::StrCat(absl::StrJoin(mount.options, ","),
                              mount.filesystem == "tmpfs" ? "" : ", no tmpfs");
    }
    ExpectThat(right, "root", "a read-only tmpfs", observed);
  }

  void Writable() {
    std::string writable;
    for (const Mount& mount : mounts_) {
      if (!mount.Has("ro") && mount.filesystem != "tmpfs" &&
          mount.filesystem != "devtmpfs" && mount.filesystem != "proc") {
        writable = mount.target;
      }
    }
    ExpectThat(writable.empty(), "mounts", "read-only, or its own tmpfs",
               writable.empty() ? absl::StrCat(mounts_.size(), " mounts")
                                : "writable: " + writable);
  }

  void Emptiness() {
    ExpectThat(mounts_.size() == 1, "mounts", "1",
               absl::StrCat(mounts_.size()));
    bool readable = false;
    const std::vector<std::string> entries =
        Entries(proc_ + "root/", &readable);
    if (!readable) {
      Add(Finding::kUnread, "root's entries", "none", strerror(errno));
    } else {
      ExpectThat(entries.empty(), "root's entries", "0",
                 absl::StrCat(entries.size()));
    }
  }

  // Where no mount lets devices be opened, no node is one.
  void DeviceNodes() {
    const std::string expected =
        policy_.device_nodes.empty()
            ? "none"
            : absl::StrCat("none, or ",
                           absl::StrJoin(policy_.device_nodes, ", "));
    std::vector<std::string> nodes;
    for (const Mount& mount : mounts_) {
      if (mount.Has("nodev")) continue;
      struct stat status;
      const std::string path = proc_ + "root" + mount.target;
      if (lstat(path.c_str(), &status) != 0) {
        Add(Finding::kUnread, "device nodes", expected,
            absl::StrCat(mount.target, ": ", strerror(errno)));
        return;
      }
      if (!S_ISDIR(status.st_mode)) {
        nodes.push_back(mount.target);
        continue;
      }
      // A folder of nothing else.
      bool readable = false;
      const std::vector<std::string> entries = Entries(path, &readable);
      if (!readable || !mount.Has("ro")) {
        nodes.push_back("any below " + mount.target);
        continue;
      }
      for (const std::string& entry : entries) {
        nodes.push_back(absl::StrCat(mount.target, "/", entry));
      }
    }
    std::vector<std::string> seen;
    bool right = true;
    for (const std::string& node : nodes) {
      const bool is_the_hosts = IsTheHosts(node, &seen.emplace_back());
      right &=
          is_the_hosts && std::count(policy_.device_nodes.begin(),
                                     policy_.device_nodes.end(), node) != 0;
    }
    ExpectThat(right, "device nodes", expected,
               seen.empty() ? "none" : absl::StrJoin(seen, ", "));
  }

  // The very device that the host calls so. `text`: what it is.
  bool IsTheHosts(const std::string& node, std::string* text) const {
    struct stat host = {};
    struct stat own = {};
    const bool exist = lstat((proc_ + "root" + node).c_str(), &own) == 0 &&
                       stat(node.c_str(), &host) == 0;
    *text = node;
    if (!exist) return false;
    *text =
        absl::StrFormat("%s %d:%d %04o of %d", node, major(own.st_rdev),
                        minor(own.st_rdev), own.st_mode & 07777, own.st_uid);
    return S_ISCHR(own.st_mode) && own.st_rdev == host.st_rdev;
  }

  const pid_t pid_;
  const sandbox::CompiledPolicy& policy_;
  const std::string proc_;
  std::vector<Mount> mounts_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> AuditRoot(pid_t pid,
                               const sandbox::CompiledPolicy& policy) {
  return RootAuditor(pid, policy).Run();
}

}  // namespace bulkhead::policy
