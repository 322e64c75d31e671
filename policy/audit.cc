#include "policy/audit.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "policy/ask_launcher.h"
#include "policy/audit_fds.h"
#include "policy/audit_root.h"
#include "policy/bpf_evaluator.h"
#include "policy/live_filters.h"
#include "policy/proc_files.h"

namespace bulkhead::policy {
namespace {

using sandbox::CompiledLimit;
using sandbox::CompiledPolicy;

constexpr const char* kNamespaces[] = {"cgroup", "ipc",  "mnt",  "net",
                                       "pid",    "time", "user", "uts"};
constexpr uint64_t kInsideId = 65534;

class Auditor {
 public:
  Auditor(pid_t pid, const CompiledPolicy& policy, const AuditContext& context)
      : pid_(pid),
        policy_(policy),
        context_(context),
        proc_(absl::StrCat("/proc/", pid, "/")) {}

  std::vector<Finding> Run() {
    status_ = StatusOf(pid_);
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
    for (Finding& finding : AuditRoot(pid_, policy_)) {
      findings_.push_back(std::move(finding));
    }
    for (Finding& finding : AuditFds(pid_, policy_, context_)) {
      findings_.push_back(std::move(finding));
    }
    Limits();
    Memory();
    Environment();
    Expect("core dump in progress", "0", status_["CoreDumping"]);
    Speculation();
    Parent();
    Cgroup();
    Unreadable();
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
                 "one, not root", absl::StrJoin(ids, " "));
      const std::string map = ReadFile(
          proc_ + (kind[0] == 'U' ? std::string("uid_map") : "gid_map"));
      const std::vector<std::string> words =
          absl::StrSplit(map, absl::ByAnyChar(" \n"), absl::SkipEmpty());
      ExpectThat(words.size() == 3 && words[0] == absl::StrCat(kInsideId) &&
                     words[1] == ids[0] && words[2] == "1",
                 absl::StrCat(kind, " map"),
                 absl::StrCat(kInsideId, " ", ids[0], " 1"),
                 absl::StrJoin(words, " "));
    }
    Expect(
        "setgroups", "deny",
        std::string(absl::StripAsciiWhitespace(ReadFile(proc_ + "setgroups"))));
    // Root's launcher drops them; a user's cannot.
    ExpectThat(status_["Groups"].empty() || geteuid() != 0,
               "supplementary groups", "none",
               status_["Groups"].empty() ? "none" : status_["Groups"]);
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
      for (const AuditSubject& other : context_.processes) {
        if (other.pid != pid_ &&
            own == ReadLink(absl::StrCat("/proc/", other.pid, "/ns/", name))) {
          shared = absl::StrCat("shared with process ", other.pid);
        }
      }
      ExpectThat(shared.empty(), check, "its own",
                 shared.empty() ? own : shared);
    }
    const std::vector<std::string> numbers =
        absl::StrSplit(status_["NSpid"], '\t');
    Expect("number in its pid namespace", "1", numbers.back());
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
      if (row == kRows.end()) {
        Add(Finding::kUnread, limit.name, absl::StrCat(limit.value),
            "this audit does not know its name in /proc");
        continue;
      }
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
        const bool is_space = std::string(limit.name) == "RLIMIT_AS";
        const bool fits =
            is_space ? limited && soft != ~uint64_t{0}
                     : limited && soft <= limit.value && hard <= limit.value;
        ExpectThat(
            fits, limit.name,
            limit.value == ~uint64_t{0}
                ? "any"
                : absl::StrCat(is_space ? "RAM and " : "at most ", limit.value),
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
    if (!policy_.memory_deny_write_execute) {
      CodeOfATree(maps);
      return;
    }
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

  // A program of others in a tree: QEMU makes code as it goes, so what is
  // looked for is code in files that are not the tree's.
  void CodeOfATree(const std::string& maps) {
    std::string foreign;
    std::set<std::string> files;
    for (const std::string& line : Lines(maps)) {
      const std::vector<std::string> words =
          absl::StrSplit(line, absl::MaxSplits(' ', 5));
      if (words.size() < 6 || words[1].size() < 3 || words[1][2] != 'x') {
        continue;
      }
      const std::string name(absl::StripAsciiWhitespace(words[5]));
      if (!absl::StartsWith(name, "/")) continue;  // its own, the vDSO
      files.insert(name);
      if (absl::StartsWith(name, "/memfd:") ||
          absl::EndsWith(name, " (deleted)")) {
        foreign = name;
      }
    }
    ExpectThat(
        foreign.empty(), "executable files", "of its read-only tree",
        foreign.empty() ? absl::StrCat(files.size(), " files") : foreign);
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
    Restricted("speculative store bypass", status_["Speculation_Store_Bypass"]);
    Restricted("indirect branch speculation",
               status_["SpeculationIndirectBranch"]);
  }

  // Words of the kernel's for what a process may switch, and for what nobody
  // can switch there.
  void Restricted(const std::string& check, const std::string& state) {
    const std::string expected = "restricted for good";
    if (state == "vulnerable" || state == "always enabled" ||
        state == "unsupported" || state == "unknown" || state.empty()) {
      Add(Finding::kUnread, check, expected,
          absl::StrCat(state, state.empty() ? "" : ": ",
                       "this kernel or CPU has no switch for it"));
      return;
    }
    ExpectThat(state != "thread vulnerable" && state != "thread mitigated" &&
                   state != "conditional enabled" &&
                   state != "conditional disabled",
               check, expected, state);
  }

  void Parent() {
    const std::string parent = status_["PPid"];
    if (context_.launcher != 0) {
      Expect(
          "parent", absl::StrCat("its launcher, ", context_.launcher),
          absl::StrCat(
              parent == absl::StrCat(context_.launcher) ? "its launcher, " : "",
              parent));
    }
    const std::string tracer = status_["TracerPid"];
    ExpectThat(tracer == "0" || tracer == parent, "tracer",
               "its launcher, or none", tracer);
    const std::vector<pid_t> children = ChildrenOf(pid_);
    Expect("children", "0", absl::StrCat(children.size()));
  }

  // What the launcher sets, and Linux tells nobody but the process.
  void Unreadable() {
    Add(Finding::kUnread, "landlock", "no file, no TCP port",
        "Linux shows the rules to nobody; no jail starts without them where "
        "the kernel has Landlock");
    // Linux shows whose cores may be shared only to who may trace it, and only
    // on CPUs with several threads a core.
    unsigned long cookie = 0;
    constexpr int kPrSchedCore = 62;
    if (prctl(kPrSchedCore, 0 /* GET */, pid_, 0 /* one thread */, &cookie) !=
        0) {
      Add(Finding::kUnread, "core scheduling", "a core of its own",
          errno == EINVAL || errno == ENODEV ? "this kernel or CPU has none"
                                             : strerror(errno));
      return;
    }
    ExpectThat(cookie != 0, "core scheduling", "a core of its own",
               cookie != 0 ? "a group of its own" : "shares with everybody");
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
  const AuditContext& context_;
  const std::string proc_;
  std::map<std::string, std::string> status_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> AuditProcess(pid_t pid, const CompiledPolicy& policy,
                                  const AuditContext& context) {
  return Auditor(pid, policy, context).Run();
}

std::vector<Finding> AuditLauncher(const AuditContext& context) {
  std::vector<Finding> findings;
  const auto add = [&findings](bool holds, const std::string& check,
                               const std::string& expected,
                               const std::string& observed) {
    findings.push_back(
        {holds ? Finding::kOk : Finding::kDrift, check, expected, observed});
  };
  findings.push_back(
      {Finding::kUnread, "policy", "none",
       "it makes the jails and watches them from outside: it is trusted"});
  const std::vector<pid_t> children = ChildrenOf(context.launcher);
  std::string unknown;
  for (const pid_t child : children) {
    if (std::none_of(context.processes.begin(), context.processes.end(),
                     [child](const AuditSubject& subject) {
                       return subject.pid == child;
                     })) {
      absl::StrAppend(&unknown, unknown.empty() ? "" : ", ", child, " (",
                      StatusOf(child)["Name"], ")");
    }
  }
  add(unknown.empty(), "children", "each has a policy",
      unknown.empty() ? absl::StrCat(children.size(), " of ", children.size())
                      : "without one: " + unknown);
  std::map<std::string, std::string> status = StatusOf(context.launcher);
  add(status["Threads"] == "1", "threads", "1", status["Threads"]);
  add(status["TracerPid"] == "0", "tracer", "none", status["TracerPid"]);
  return findings;
}

}  // namespace bulkhead::policy
