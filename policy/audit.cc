#include "policy/audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "policy/ask_launcher.h"
#include "policy/bpf_evaluator.h"
#include "policy/live_filters.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {
namespace {

using sandbox::CompiledFd;
using sandbox::CompiledLimit;
using sandbox::CompiledPolicy;

constexpr const char* kNamespaces[] = {"cgroup", "ipc",  "mnt",  "net",
                                       "pid",    "time", "user", "uts"};
constexpr uint64_t kInsideId = 65534;

std::string ReadFile(const std::string& path, bool* readable = nullptr) {
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

class Auditor {
 public:
  Auditor(pid_t pid, const CompiledPolicy& policy,
          const std::vector<pid_t>& others)
      : pid_(pid),
        policy_(policy),
        others_(others),
        proc_(absl::StrCat("/proc/", pid, "/")) {}

  std::vector<Finding> Run() {
    ReadStatus();
    if (status_.empty()) {
      Add(Finding::kUnread, "process", "running", "no such process");
      return findings_;
    }
    Expect("no_new_privs", "1", status_["NoNewPrivs"]);
    Expect("seccomp mode", "2 (filter)",
           status_["Seccomp"] == "2" ? "2 (filter)" : status_["Seccomp"]);
    Filters();
    Threads();
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      Expect(absl::StrCat("capabilities ", set), "0000000000000000",
             status_[set]);
    }
    Ids();
    Namespaces();
    Root();
    Fds();
    Limits();
    Memory();
    Environment();
    Expect("core dump in progress", "0", status_["CoreDumping"]);
    Speculation();
    Parent();
    Cgroup();
    return findings_;
  }

 private:
  void Add(Finding::Result result, const std::string& check,
           const std::string& expected, const std::string& observed) {
    findings_.push_back({result, check, expected, observed});
  }

  void Expect(const std::string& check, const std::string& expected,
              const std::string& observed) {
    Add(expected == observed ? Finding::kOk : Finding::kDrift, check, expected,
        observed);
  }

  void ExpectThat(bool holds, const std::string& check,
                  const std::string& expected, const std::string& observed) {
    Add(holds ? Finding::kOk : Finding::kDrift, check, expected, observed);
  }

  void ReadStatus() {
    for (const std::string& line : Lines(ReadFile(proc_ + "status"))) {
      const size_t colon = line.find(':');
      status_[line.substr(0, colon)] =
          std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
  }

  // A process with an empty root locks itself down: two filters.
  std::vector<Filter> ExpectedFilters() const {
    if (!policy_.empty_root) return {policy_.launch_filter};
    return {policy_.launch_filter, policy_.steady_filter};
  }

  void Filters() {
    const std::vector<Filter> expected = ExpectedFilters();
    // QEMU stacks its own on ours; more filters only narrow.
    int count = 0;
    const bool counted = absl::SimpleAtoi(status_["Seccomp_filters"], &count);
    ExpectThat(counted && (policy_.empty_root
                               ? count == static_cast<int>(expected.size())
                               : count >= 1),
               "seccomp filters in force", absl::StrCat(expected.size()),
               status_["Seccomp_filters"]);
    const absl::StatusOr<std::vector<std::vector<sock_filter>>> live =
        LiveFilters();
    if (!live.ok()) {
      Add(Finding::kUnread, "filters, instruction by instruction",
          policy_.sha256, std::string(live.status().message()));
      return;
    }
    // The oldest are ours.
    for (size_t i = 0; i < expected.size(); ++i) {
      const char* name = i == 0 ? "launch filter" : "steady filter";
      if (i >= live->size()) {
        Add(Finding::kDrift, name, "in force", "missing");
        continue;
      }
      const std::vector<sock_filter>& filter = (*live)[i];
      size_t same = 0;
      while (same < filter.size() && same < expected[i].size() &&
             memcmp(&filter[same], &expected[i][same], sizeof(sock_filter)) ==
                 0) {
        ++same;
      }
      ExpectThat(same == filter.size() && same == expected[i].size(), name,
                 absl::StrCat(expected[i].size(), " instructions"),
                 same == filter.size() && same == expected[i].size()
                     ? absl::StrCat(same, " equal instructions")
                     : absl::StrCat("differs at instruction ", same));
    }
  }

  // From the kernel, or from the only one who can ask it.
  absl::StatusOr<std::vector<std::vector<sock_filter>>> LiveFilters() {
    pid_t tracer = 0;
    if (absl::SimpleAtoi(status_["TracerPid"], &tracer) && tracer != 0 &&
        tracer != getpid()) {
      return AskLauncher(tracer, pid_);
    }
    return ReadLiveFilters(pid_);
  }

  void Threads() {
    bool readable = false;
    const std::vector<std::string> threads = Entries(proc_ + "task", &readable);
    for (const std::string& thread : threads) {
      const std::string status =
          ReadFile(absl::StrCat(proc_, "task/", thread, "/status"));
      const std::string filters =
          absl::StrCat("Seccomp_filters:\t", status_["Seccomp_filters"], "\n");
      if (!absl::StrContains(status, "Seccomp:\t2\n") ||
          !absl::StrContains(status, filters) ||
          !absl::StrContains(status, "NoNewPrivs:\t1\n")) {
        Add(Finding::kDrift, "threads", "all under the same filters",
            absl::StrCat("thread ", thread, " is not"));
        return;
      }
    }
    Add(Finding::kOk, "threads", "all under the same filters",
        absl::StrCat(threads.size(), " of ", threads.size()));
  }

  void Ids() {
    for (const char* kind : {"Uid", "Gid"}) {
      const std::vector<std::string> ids = absl::StrSplit(status_[kind], '\t');
      const bool same =
          std::all_of(ids.begin(), ids.end(),
                      [&](const std::string& id) { return id == ids[0]; });
      ExpectThat(same && ids[0] != "0", absl::StrCat(kind, " outside"),
                 "one, not root", status_[kind]);
      const std::string map = ReadFile(
          proc_ + (kind[0] == 'U' ? std::string("uid_map") : "gid_map"));
      const std::vector<std::string> words =
          absl::StrSplit(map, absl::ByAnyChar(" \n"), absl::SkipEmpty());
      ExpectThat(words.size() == 3 && words[0] == absl::StrCat(kInsideId) &&
                     words[1] == ids[0] && words[2] == "1",
                 absl::StrCat(kind, " map"),
                 absl::StrCat(kInsideId, " ", ids[0], " 1"),
                 std::string(absl::StripAsciiWhitespace(map)));
    }
    Expect(
        "setgroups", "deny",
        std::string(absl::StripAsciiWhitespace(ReadFile(proc_ + "setgroups"))));
    // Root's launcher drops them; a user's cannot.
    ExpectThat(status_["Groups"].empty() || geteuid() != 0,
               "supplementary groups", "none", status_["Groups"]);
  }

  void Namespaces() {
    for (const char* name : kNamespaces) {
      const std::string own = ReadLink(absl::StrCat(proc_, "ns/", name));
      const std::string check = absl::StrCat("namespace ", name);
      if (own.empty()) {
        Add(Finding::kUnread, check, "its own", strerror(errno));
        continue;
      }
      if (std::string(name) == "net" &&
          (policy_.clone_flags & CLONE_NEWNET) == 0) {
        ExpectThat(own == ReadLink("/proc/self/ns/net"), check, "the host's",
                   own);
        continue;
      }
      std::string shared;
      if (own == ReadLink(absl::StrCat("/proc/self/ns/", name))) {
        shared = "shared with the auditor";
      }
      for (const pid_t other : others_) {
        if (other != pid_ &&
            own == ReadLink(absl::StrCat("/proc/", other, "/ns/", name))) {
          shared = absl::StrCat("shared with process ", other);
        }
      }
      ExpectThat(shared.empty(), check, "its own",
                 shared.empty() ? own : shared);
    }
    const std::vector<std::string> numbers =
        absl::StrSplit(status_["NSpid"], '\t');
    Expect("number in its pid namespace", "1", numbers.back());
  }

  void Root() {
    const std::vector<std::string> mounts =
        Lines(ReadFile(proc_ + "mountinfo"));
    if (mounts.empty()) {
      Add(Finding::kUnread, "mounts", "its own root", "not readable");
      return;
    }
    const std::vector<std::string> words = absl::StrSplit(mounts[0], ' ');
    const bool read_only =
        words.size() > 5 && words[4] == "/" &&
        absl::StrContains(absl::StrCat(words[5], ","), "ro,") &&
        absl::StrContains(mounts[0], " - tmpfs ");
    ExpectThat(read_only, "root", "a read-only tmpfs",
               words.size() > 5 ? words[5] : mounts[0]);
    if (!policy_.empty_root) return;
    Expect("mounts", "1", absl::StrCat(mounts.size()));
    bool readable = false;
    const std::vector<std::string> entries =
        Entries(proc_ + "root/", &readable);
    if (!readable) {
      Add(Finding::kUnread, "root's entries", "none", strerror(errno));
    } else {
      Expect("root's entries", "0", absl::StrCat(entries.size()));
    }
  }

  // What kind of thing an fd is, in the policy's words.
  static FdRule::Kind KindOf(const std::string& target,
                             const struct stat& status) {
    if (absl::StartsWith(target, "pipe:")) return FdRule::PIPE;
    if (absl::StartsWith(target, "/memfd:")) return FdRule::MEMFD;
    if (absl::StartsWith(target, "anon_inode:[eventfd]")) {
      return FdRule::EVENTFD;
    }
    if (absl::StartsWith(target, "anon_inode:[io_uring]")) {
      return FdRule::IO_URING;
    }
    if (absl::StartsWith(target, "anon_inode:[eventpoll]")) {
      return FdRule::EPOLL;
    }
    if (S_ISSOCK(status.st_mode)) return FdRule::SOCKET_STREAM;
    if (S_ISCHR(status.st_mode)) return FdRule::DEVICE;
    return FdRule::FILE;
  }

  static bool SameKind(int wanted, FdRule::Kind kind) {
    // /proc does not tell one kind of socket from another.
    if (wanted == FdRule::SOCKET_SEQPACKET) wanted = FdRule::SOCKET_STREAM;
    // A disk may be a block device, a test's RAM an ordinary file.
    if (wanted == FdRule::FILE && kind == FdRule::DEVICE) return true;
    return wanted == kind || wanted == FdRule::PATH || wanted == FdRule::ANY;
  }

  static bool AccessFits(int wanted, int flags) {
    const int mode = flags & O_ACCMODE;
    if (wanted == FdRule::READ_WRITE) return true;
    return mode == (wanted == FdRule::READ ? O_RDONLY : O_WRONLY);
  }

  int FdFlags(const std::string& fd) const {
    for (const std::string& line : Lines(ReadFile(proc_ + "fdinfo/" + fd))) {
      if (absl::StartsWith(line, "flags:")) {
        return static_cast<int>(strtol(line.c_str() + 6, nullptr, 8));
      }
    }
    return 0;
  }

  void Fds() {
    bool readable = false;
    const std::vector<std::string> held = Entries(proc_ + "fd", &readable);
    if (!readable) {
      Add(Finding::kUnread, "fds", "the policy's table",
          absl::StrCat(strerror(errno),
                       "; a process that cannot be dumped shows its fds to "
                       "root only"));
      return;
    }
    size_t wrong = 0;
    for (const std::string& name : held) wrong += !FdFits(name);
    if (wrong == 0) {
      Add(Finding::kOk, "fds", "the policy's table",
          absl::StrCat(held.size(), " held, each in the table"));
    }
  }

  // The line of the table that speaks of this fd; null: none does.
  const CompiledFd* RuleFor(int fd, FdRule::Kind kind) const {
    const CompiledFd* numbered = nullptr;
    const CompiledFd* received = nullptr;
    for (const CompiledFd& rule : policy_.fds) {
      if (rule.received) {
        if (received == nullptr && SameKind(rule.kind, kind)) received = &rule;
      } else if (fd >= rule.first && fd < rule.first + rule.max_count) {
        numbered = &rule;
      }
    }
    if (numbered == nullptr) return received;
    if (received == nullptr || SameKind(numbered->kind, kind)) return numbered;
    // In the part of a range that is not filled, a process's own fds lie; one
    // to wait with can only be its own, wherever it lies.
    return numbered->max_count > 1 || kind == FdRule::EPOLL ? received
                                                            : numbered;
  }

  bool FdFits(const std::string& name) {
    const int fd = atoi(name.c_str());
    const std::string path = proc_ + "fd/" + name;
    const std::string target = ReadLink(path);
    struct stat status = {};
    stat(path.c_str(), &status);
    const FdRule::Kind kind = KindOf(target, status);
    const CompiledFd* rule = RuleFor(fd, kind);
    std::string problem;
    if (rule == nullptr) {
      problem = "is in no line of the table";
    } else if (!SameKind(rule->kind, kind)) {
      problem = absl::StrCat("is not what \"", rule->name, "\" is");
    } else if (!AccessFits(rule->access, FdFlags(name))) {
      problem = absl::StrCat("can do more than \"", rule->name, "\" may");
    } else if (rule->seals != 0 && kind == FdRule::MEMFD) {
      const int copy = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      const int seals = copy < 0 ? -1 : fcntl(copy, F_GET_SEALS);
      if (copy >= 0) close(copy);
      if (seals >= 0 && (seals & rule->seals) != rule->seals) {
        problem = absl::StrCat("lacks seals that \"", rule->name, "\" needs");
      }
    }
    if (problem.empty()) return true;
    Add(Finding::kDrift, absl::StrCat("fd ", fd), "in the policy's table",
        absl::StrCat(target, " ", problem));
    return false;
  }

  static bool Limit(const std::string& word, uint64_t* value) {
    *value = ~uint64_t{0};
    return word == "unlimited" || absl::SimpleAtoi(word, value);
  }

  void Limits() {
    // "RLIMIT_NOFILE" is "Max open files" there.
    const std::map<std::string, std::string> kRows = {
        {"RLIMIT_AS", "Max address space"},
        {"RLIMIT_CORE", "Max core file size"},
        {"RLIMIT_FSIZE", "Max file size"},
        {"RLIMIT_MEMLOCK", "Max locked memory"},
        {"RLIMIT_MSGQUEUE", "Max msgqueue size"},
        {"RLIMIT_NICE", "Max nice priority"},
        {"RLIMIT_NOFILE", "Max open files"},
        {"RLIMIT_NPROC", "Max processes"},
        {"RLIMIT_RTPRIO", "Max realtime priority"},
        {"RLIMIT_SIGPENDING", "Max pending signals"},
        {"RLIMIT_STACK", "Max stack size"},
    };
    const std::vector<std::string> lines = Lines(ReadFile(proc_ + "limits"));
    for (const CompiledLimit& limit : policy_.limits) {
      const auto row = kRows.find(limit.name);
      if (row == kRows.end()) continue;
      for (const std::string& line : lines) {
        if (!absl::StartsWith(line, row->second + "  ") &&
            !absl::StartsWith(line, row->second + " ")) {
          continue;
        }
        const std::vector<std::string> words = absl::StrSplit(
            line.substr(row->second.size()), ' ', absl::SkipEmpty());
        uint64_t soft = 0;
        uint64_t hard = 0;
        const bool limited = words.size() >= 2 && Limit(words[0], &soft) &&
                             Limit(words[1], &hard);
        // The launcher adds the guest's RAM to the address space.
        const bool fits =
            std::string(limit.name) == "RLIMIT_AS"
                ? limited && soft != ~uint64_t{0}
                : limited && soft <= limit.value && hard <= limit.value;
        ExpectThat(fits, limit.name, absl::StrCat("at most ", limit.value),
                   words.empty() ? "?" : words[0]);
        break;
      }
    }
  }

  void Memory() {
    bool readable = false;
    const std::string maps = ReadFile(proc_ + "maps", &readable);
    if (!readable || maps.empty()) {
      Add(Finding::kUnread, "memory", "nothing writable and executable",
          "not readable");
      return;
    }
    if (!policy_.memory_deny_write_execute) return;
    // What it forbids is looked for below.
    Add(Finding::kUnread, "memory-deny-write-execute", "on",
        "Linux shows this switch to the process alone");
    std::string both;
    std::vector<std::string> programs;
    for (const std::string& line : Lines(maps)) {
      const std::vector<std::string> words =
          absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 5 || words[1].size() < 3 || words[1][2] != 'x') {
        continue;
      }
      if (words[1][1] == 'w') both = line;
      const std::string name = words.size() > 5 ? words[5] : "anonymous memory";
      if (name != "[vdso]" && name != "[vsyscall]" &&
          std::find(programs.begin(), programs.end(), name) == programs.end()) {
        programs.push_back(name);
      }
    }
    ExpectThat(both.empty(), "memory", "nothing writable and executable",
               both.empty() ? "nothing" : both);
    ExpectThat(programs.size() == 1, "executable memory",
               "the program's code alone",
               programs.size() == 1 ? programs[0]
                                    : absl::StrCat(programs.size(), " files"));
    // A process that cannot be dumped has /proc entries that are not its own.
    struct stat status = {};
    const std::vector<std::string> ids = absl::StrSplit(status_["Uid"], '\t');
    stat((proc_ + "maps").c_str(), &status);
    ExpectThat(absl::StrCat(status.st_uid) != ids[0], "dumpable", "no",
               absl::StrCat(status.st_uid) != ids[0] ? "no" : "yes");
  }

  void Environment() {
    if (!policy_.empty_root) return;
    bool readable = false;
    const std::string environment = ReadFile(proc_ + "environ", &readable);
    if (!readable) {
      Add(Finding::kUnread, "environment", "empty", "not readable");
    } else {
      Expect("environment", "0 bytes",
             absl::StrCat(environment.size(), " bytes"));
    }
  }

  void Speculation() {
    // "vulnerable" and "not vulnerable" CPUs have no control to set.
    const std::string bypass = status_["Speculation_Store_Bypass"];
    ExpectThat(bypass != "thread vulnerable" && bypass != "thread mitigated",
               "speculative store bypass", "restricted for good", bypass);
    const std::string branch = status_["SpeculationIndirectBranch"];
    ExpectThat(
        branch != "conditional enabled" && branch != "conditional disabled",
        "indirect branch speculation", "restricted for good", branch);
  }

  void Parent() {
    const std::string tracer = status_["TracerPid"];
    ExpectThat(tracer == "0" || tracer == status_["PPid"], "tracer",
               "its launcher, or none", tracer);
  }

  // In its launcher's group or below it, so that what limits one limits both.
  void Cgroup() {
    const std::string own = ReadFile(proc_ + "cgroup");
    const std::string parents =
        ReadFile(absl::StrCat("/proc/", status_["PPid"], "/cgroup"));
    const std::vector<std::string> lines = Lines(own);
    const std::vector<std::string> parent_lines = Lines(parents);
    if (lines.empty() || lines.size() != parent_lines.size()) {
      Add(Finding::kUnread, "cgroup", "its launcher's", "not readable");
      return;
    }
    std::string elsewhere;
    for (size_t i = 0; i < lines.size(); ++i) {
      if (!absl::StartsWith(lines[i], parent_lines[i])) elsewhere = lines[i];
    }
    ExpectThat(elsewhere.empty(), "cgroup", "its launcher's",
               elsewhere.empty() ? lines.back() : elsewhere);
  }

  const pid_t pid_;
  const CompiledPolicy& policy_;
  const std::vector<pid_t>& others_;
  const std::string proc_;
  std::map<std::string, std::string> status_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> AuditProcess(pid_t pid, const CompiledPolicy& policy,
                                  const std::vector<pid_t>& others) {
  return Auditor(pid, policy, others).Run();
}

}  // namespace bulkhead::policy
