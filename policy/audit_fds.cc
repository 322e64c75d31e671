#include "policy/audit_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "policy/proc_files.h"
#include "proto/policy.pb.h"

namespace bulkhead::policy {
namespace {

using sandbox::CompiledFd;
using sandbox::CompiledPolicy;
using Kind = FdRule::Kind;

// What one number of one process stands for.
struct Held {
  int fd = -1;
  std::string target;  // as the link says
  struct stat status = {};
  Kind kind = FdRule::KIND_UNSPECIFIED;
  int flags = 0;
};

bool IsWritable(const Held& held) {
  return (held.flags & O_ACCMODE) != O_RDONLY && (held.flags & O_PATH) == 0;
}

bool SameFile(const Held& a, const Held& b) {
  return a.status.st_dev == b.status.st_dev &&
         a.status.st_ino == b.status.st_ino;
}

// Adds the sockets of the network namespace that a process lives in, by inode.
void AddSocketsOf(pid_t pid, std::map<uint64_t, Kind>* found) {
  std::map<uint64_t, Kind>& sockets = *found;
  const std::string folder = absl::StrCat("/proc/", pid, "/net/");
  for (const std::string& line : Lines(ReadFile(folder + "unix"))) {
    const std::vector<std::string> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t inode = 0;
    if (words.size() < 7 || !absl::SimpleAtoi(words[6], &inode)) continue;
    sockets[inode] = words[4] == "0005"   ? FdRule::SOCKET_SEQPACKET
                     : words[4] == "0001" ? FdRule::SOCKET_STREAM
                                          : FdRule::KIND_UNSPECIFIED;
  }
  // To NBD servers.
  for (const char* file : {"tcp", "tcp6"}) {
    for (const std::string& line : Lines(ReadFile(folder + file))) {
      const std::vector<std::string> words =
          absl::StrSplit(line, ' ', absl::SkipEmpty());
      uint64_t inode = 0;
      if (words.size() < 10 || !absl::SimpleAtoi(words[9], &inode)) continue;
      sockets[inode] = FdRule::SOCKET_STREAM;
    }
  }
}

// Those that a process of a VM can hold: its launcher has made them, or another
// process of the VM, as QEMU makes the connections to its devices. One that is
// not among them is of a kind that no policy names.
std::map<uint64_t, Kind> SocketsNear(pid_t pid) {
  std::map<uint64_t, Kind> sockets;
  pid_t parent = 0;
  if (!absl::SimpleAtoi(StatusOf(pid)["PPid"], &parent) || parent <= 1) {
    parent = getpid();
  }
  AddSocketsOf(parent, &sockets);
  for (const pid_t child : ChildrenOf(parent)) AddSocketsOf(child, &sockets);
  AddSocketsOf(pid, &sockets);
  return sockets;
}

Kind KindOf(const Held& held, const std::map<uint64_t, Kind>& sockets) {
  const std::string& target = held.target;
  if ((held.flags & O_PATH) != 0) return FdRule::PATH;
  if (absl::StartsWith(target, "pipe:")) return FdRule::PIPE;
  if (absl::StartsWith(target, "/memfd:")) return FdRule::MEMFD;
  if (absl::StartsWith(target, "anon_inode:[eventfd]")) return FdRule::EVENTFD;
  if (absl::StartsWith(target, "anon_inode:[io_uring]")) {
    return FdRule::IO_URING;
  }
  if (absl::StartsWith(target, "anon_inode:[eventpoll]")) return FdRule::EPOLL;
  if (absl::StartsWith(target, "anon_inode:[signalfd]")) {
    return FdRule::SIGNALFD;
  }
  if (absl::StartsWith(target, "anon_inode:kvm-")) return FdRule::KVM;
  if (S_ISSOCK(held.status.st_mode)) {
    const auto socket = sockets.find(held.status.st_ino);
    return socket == sockets.end() ? FdRule::KIND_UNSPECIFIED : socket->second;
  }
  if (absl::StartsWith(target, "anon_inode:")) {
    return FdRule::KIND_UNSPECIFIED;
  }
  if (S_ISCHR(held.status.st_mode)) return FdRule::DEVICE;
  return FdRule::FILE;
}

bool SameKind(int wanted, Kind kind) {
  // A disk may be a block device, a test's RAM an ordinary file.
  if (wanted == FdRule::FILE && kind == FdRule::DEVICE) return true;
  return wanted == kind || wanted == FdRule::ANY;
}

bool AccessFits(int wanted, int flags) {
  const int mode = flags & O_ACCMODE;
  if (wanted == FdRule::READ_WRITE) return true;
  return mode == (wanted == FdRule::READ ? O_RDONLY : O_WRONLY);
}

// Everything that a process holds; nothing: it cannot be read (errno says why).
std::optional<std::vector<Held>> FdsOf(
    pid_t pid, const std::map<uint64_t, Kind>& sockets) {
  const std::string proc = absl::StrCat("/proc/", pid, "/");
  bool readable = false;
  const std::vector<std::string> names = Entries(proc + "fd", &readable);
  if (!readable) return std::nullopt;
  std::vector<Held> fds;
  for (const std::string& name : names) {
    Held held;
    held.fd = atoi(name.c_str());
    const std::string link = absl::StrCat(proc, "fd/", name);
    const std::string info = absl::StrCat(proc, "fdinfo/", name);
    held.target = ReadLink(link);
    if (stat(link.c_str(), &held.status) != 0) continue;  // closed meanwhile
    for (const std::string& line : Lines(ReadFile(info))) {
      if (absl::StartsWith(line, "flags:")) {
        held.flags = static_cast<int>(strtol(line.c_str() + 6, nullptr, 8));
      }
    }
    held.kind = KindOf(held, sockets);
    fds.push_back(std::move(held));
  }
  return fds;
}

// The line of the table that speaks of this fd; null: none does.
const CompiledFd* RuleFor(const CompiledPolicy& policy, const Held& held) {
  const CompiledFd* numbered = nullptr;
  const CompiledFd* received = nullptr;
  for (const CompiledFd& rule : policy.fds) {
    if (rule.received) {
      if (received == nullptr && SameKind(rule.kind, held.kind)) {
        received = &rule;
      }
    } else if (held.fd >= rule.first && held.fd < rule.first + rule.max_count) {
      numbered = &rule;
    }
  }
  if (numbered == nullptr) return received;
  if (received == nullptr || SameKind(numbered->kind, held.kind)) {
    return numbered;
  }
  // In the part of a range that is not filled, a process's own fds lie; one to
  // wait with can only be its own, wherever it lies. A program that is not ours
  // may lack any line, and takes the next free number.
  return numbered->max_count > 1 || held.kind == FdRule::EPOLL ||
                 !policy.empty_root
             ? received
             : numbered;
}

class FdAuditor {
 public:
  FdAuditor(pid_t pid, const CompiledPolicy& policy,
            const AuditContext& context)
      : pid_(pid), policy_(policy), context_(context) {}

  std::vector<Finding> Run() {
    sockets_ = SocketsNear(pid_);
    const std::optional<std::vector<Held>> fds = FdsOf(pid_, sockets_);
    if (!fds.has_value()) {
      findings_.push_back({Finding::kUnread, "fds", "the policy's table",
                           absl::StrCat(strerror(errno),
                                        "; a process that cannot be dumped "
                                        "shows its fds to root only")});
      return findings_;
    }
    for (const Held& held : *fds) CheckOne(held);
    CheckCounts(*fds);
    CheckOthers(*fds);
    if (findings_.empty()) {
      findings_.push_back(
          {Finding::kOk, "fds", "the policy's table",
           absl::StrCat(fds->size(), " held, as in the table")});
    }
    return findings_;
  }

 private:
  void Drift(const std::string& check, const std::string& expected,
             const std::string& observed) {
    findings_.push_back({Finding::kDrift, check, expected, observed});
  }

  void CheckOne(const Held& held) {
    const CompiledFd* rule = RuleFor(policy_, held);
    std::string problem;
    if (rule == nullptr) {
      problem = "is in no line of the table";
    } else if (!SameKind(rule->kind, held.kind)) {
      problem = absl::StrCat("is not what \"", rule->name, "\" is");
    } else if (!AccessFits(rule->access, held.flags)) {
      problem = absl::StrCat("can do more than \"", rule->name, "\" may");
    } else if (rule->seals != 0 && held.kind == FdRule::MEMFD) {
      const std::string path = absl::StrCat("/proc/", pid_, "/fd/", held.fd);
      const int copy = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      const int seals = copy < 0 ? -1 : fcntl(copy, F_GET_SEALS);
      if (copy >= 0) close(copy);
      if (seals >= 0 && (seals & rule->seals) != rule->seals) {
        problem = absl::StrCat("lacks seals that \"", rule->name, "\" needs");
      }
    }
    if (problem.empty()) return;
    Drift(absl::StrCat("fd ", held.fd), "in the policy's table",
          absl::StrCat(held.target, " ", problem));
  }

  // Numbers that are the process's own choice are as many as all lines for
  // their kind allow together.
  void CheckCounts(const std::vector<Held>& fds) {
    std::map<int, int> counts;
    std::map<int, int> most;
    std::map<int, std::string> names;
    for (const CompiledFd& rule : policy_.fds) {
      if (!rule.received) continue;
      most[rule.kind] += rule.max_count;
      absl::StrAppend(&names[rule.kind], names[rule.kind].empty() ? "" : ", ",
                      rule.name);
    }
    for (const Held& held : fds) {
      const CompiledFd* rule = RuleFor(policy_, held);
      if (rule != nullptr && rule->received) ++counts[rule->kind];
    }
    for (const auto& [kind, count] : counts) {
      if (count <= most[kind]) continue;
      Drift(absl::StrCat("fds: ", names[kind]),
            absl::StrCat("at most ", most[kind]), absl::StrCat(count));
    }
  }

  static bool IsRam(const CompiledFd* rule) {
    return rule != nullptr && strcmp(rule->name, "ram") == 0;
  }
  static bool IsWrittenImage(const CompiledFd* rule, const Held& held) {
    return rule != nullptr && absl::StartsWith(rule->name, "image") &&
           IsWritable(held);
  }

  // Each device has disks of its own; all have the one guest's memory.
  void CheckOthers(const std::vector<Held>& fds) {
    for (const AuditSubject& other : context_.processes) {
      if (other.pid == pid_) continue;
      const std::optional<std::vector<Held>> theirs =
          FdsOf(other.pid, sockets_);
      if (!theirs.has_value()) continue;
      for (const Held& own : fds) {
        const CompiledFd* rule = RuleFor(policy_, own);
        if (!IsRam(rule) && !IsWrittenImage(rule, own)) continue;
        for (const Held& their : *theirs) {
          const CompiledFd* their_rule = RuleFor(*other.policy, their);
          if (IsWrittenImage(rule, own) && IsWritable(their) &&
              SameFile(own, their)) {
            Drift(absl::StrCat("fd ", own.fd), "an image of its own",
                  absl::StrCat(own.target, " is written to by process ",
                               other.pid, ", too"));
          }
          if (IsRam(rule) && IsRam(their_rule) && !SameFile(own, their)) {
            Drift(absl::StrCat("fd ", own.fd), "the VM's one memory",
                  absl::StrCat("another memory than process ", other.pid,
                               " has"));
          }
        }
      }
    }
  }

  const pid_t pid_;
  const CompiledPolicy& policy_;
  const AuditContext& context_;
  std::map<uint64_t, Kind> sockets_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> AuditFds(pid_t pid, const CompiledPolicy& policy,
                              const AuditContext& context) {
  return FdAuditor(pid, policy, context).Run();
}

}  // namespace bulkhead::policy
