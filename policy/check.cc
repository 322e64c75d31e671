#include "policy/check.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "policy/constants.h"
#include "policy/never_steady.h"
#include "policy/rules.h"
#include "sandbox/compiled_policy.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

class Checker {
 public:
  explicit Checker(const Source& source)
      : source_(source), policy_(source.policy) {}

  absl::Status Run() {
    Whole();
    for (int i = 0; i < policy_.rule_size(); ++i) Rule(i);
    if (errors_.empty()) Pairs();
    if (errors_.empty()) Needed();
    for (int i = 0; i < policy_.fd_size(); ++i) Fd(i);
    for (int i = 0; i < policy_.rlimit_size(); ++i) Limit(i);
    if (errors_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(errors_, "\n"));
  }

 private:
  bool IsService() const { return policy_.jail().root() == Jail::EMPTY; }

  void Complain(const Location& where, const std::string& field,
                const std::string& message) {
    errors_.emplace_back(ErrorAt(where, field, message).message());
  }

  void ComplainRule(int i, const std::string& message) {
    Complain(source_.rule[i],
             absl::StrCat("rule (", policy_.rule(i).syscall(), ")"), message);
  }

  void Whole() {
    if (policy_.name().empty()) {
      Complain(source_.where, "name",
               "missing; the file's name without suffix");
    }
    if (policy_.description().empty()) {
      Complain(source_.where, "description",
               "missing; say what the process does and what it can reach");
    }
    std::set<std::string> namespaces;
    for (const std::string& name : policy_.jail().namespace_()) {
      if (!NamespaceFlag(name)) {
        Complain(source_.where, "jail.namespace",
                 name +
                     ": unknown; one of cgroup, ipc, mount, net, pid, time, "
                     "user, uts");
      }
      if (!namespaces.insert(name).second) {
        Complain(source_.where, "jail.namespace", name + ": given twice");
      }
    }
    if (namespaces.size() != (policy_.jail().host_network() ? 7u : 8u) ||
        namespaces.count("net") == (policy_.jail().host_network() ? 1u : 0u)) {
      Complain(
          source_.where, "jail.namespace",
          "a jail has all eight: cgroup, ipc, mount, net, pid, time, user, "
          "uts; all but net with host_network");
    }
    for (const std::string& node : policy_.jail().device_node()) {
      if (IsService()) {
        Complain(source_.where, "jail.device_node",
                 node + ": an empty root shows no device node");
      } else if (node.rfind("/dev/", 0) != 0 ||
                 node.find_first_of("\"\\", 0) != std::string::npos) {
        Complain(source_.where, "jail.device_node",
                 node + ": a path of the host's, below /dev/");
      }
    }
    if (IsService() && !policy_.jail().memory_deny_write_execute()) {
      Complain(source_.where, "jail.memory_deny_write_execute",
               "must be true where the root is empty");
    }
  }

  void Rule(int i) {
    const SyscallRule& rule = policy_.rule(i);
    if (sandbox::SyscallNumber(rule.syscall()) < 0) {
      const std::string near = sandbox::NearestSyscall(rule.syscall());
      ComplainRule(i, absl::StrCat("x86_64 has no such system call",
                                   near.empty() ? "" : "; did you mean ", near,
                                   near.empty() ? "" : "?"));
    }
    if (rule.why().size() < 12) {
      ComplainRule(i, "why: missing; say in a sentence what needs this call");
    }
    if (rule.phase() == PHASE_UNSPECIFIED) {
      ComplainRule(i, "phase: missing; LAUNCH, SET_UP or STEADY");
    }
    // brk has no errno: it says no by returning the old break, or 0. A futex
    // call that returns 0 has woken nobody.
    const bool may_be_zero =
        rule.syscall() == "brk" || rule.syscall() == "futex";
    const int least = may_be_zero ? 0 : 1;
    if (rule.action() == SyscallRule::ERRNO
            ? rule.errno_value() < least || rule.errno_value() > 4095
            : rule.errno_value() != 0) {
      ComplainRule(i,
                   "errno_value: 1 to 4095 with action ERRNO, absent without");
    }
    if (rule.hot() && rule.phase() != STEADY) {
      ComplainRule(i, "hot: only a STEADY rule is on the data path");
    }
    std::set<uint32_t> indices;
    for (const ArgumentConstraint& arg : rule.arg()) {
      Constraint(i, arg);
      if (!indices.insert(arg.index()).second) {
        ComplainRule(i, absl::StrCat("arg ", arg.index(),
                                     ": constrained twice; use one masked "
                                     "test, or two rules"));
      }
    }
    if (IsService()) ServiceRule(i);
  }

  void Constraint(int i, const ArgumentConstraint& arg) {
    const std::string name = absl::StrCat("arg ", arg.index(), ": ");
    if (arg.index() > 5) {
      ComplainRule(i, name + "a call has arguments 0 to 5");
    }
    uint64_t value = 0;
    switch (arg.test_case()) {
      case ArgumentConstraint::kEquals:
        value = arg.equals();
        break;
      case ArgumentConstraint::kLessOrEqual:
        value = arg.less_or_equal();
        break;
      case ArgumentConstraint::kGreaterOrEqual:
        value = arg.greater_or_equal();
        break;
      case ArgumentConstraint::kMasked:
        value = arg.masked().value() != 0 ? arg.masked().value()
                                          : arg.masked().mask();
        if ((arg.masked().value() & ~arg.masked().mask()) != 0) {
          ComplainRule(i, name + "value has bits outside mask: never true");
        }
        if (arg.masked().mask() == 0) {
          ComplainRule(i, name + "mask is 0: always true");
        }
        break;
      case ArgumentConstraint::TEST_NOT_SET:
        ComplainRule(i, name +
                            "has no test; equals, less_or_equal, "
                            "greater_or_equal or masked");
        return;
    }
    if (arg.name().empty()) return;
    const std::optional<uint64_t> known = ConstantValue(arg.name());
    if (!known) {
      ComplainRule(i, absl::StrCat(name, "name ", arg.name(),
                                   ": unknown; add it to "
                                   "policy/constants.cc or leave it out"));
    } else if (*known != value) {
      ComplainRule(
          i, absl::StrCat(name, arg.name(), " is ", *known, ", not ", value));
    }
  }

  // What holds for every process behind an empty root.
  void ServiceRule(int i) {
    const SyscallRule& rule = policy_.rule(i);
    if (rule.action() != SyscallRule::ALLOW) return;
    const bool connects =
        policy_.jail().host_network() && rule.arg_size() > 0
            ? rule.syscall() == "socket"
            : policy_.jail().host_network() && rule.syscall() == "connect";
    if (NeverSteady(rule.syscall()) && !connects && rule.phase() == STEADY) {
      ComplainRule(i,
                   "not possible in the steady state of a service; do it "
                   "before the lock-down, or let the launcher do it");
    }
    if (rule.syscall() == "mmap" || rule.syscall() == "mprotect" ||
        rule.syscall() == "pkey_mprotect") {
      const bool no_exec = std::any_of(
          rule.arg().begin(), rule.arg().end(),
          [](const ArgumentConstraint& arg) {
            return arg.index() == 2 &&
                   ((arg.has_masked() && (arg.masked().mask() & PROT_EXEC) &&
                     !(arg.masked().value() & PROT_EXEC)) ||
                    (arg.has_equals() && !(arg.equals() & PROT_EXEC)));
          });
      if (!no_exec) {
        ComplainRule(i,
                     "must exclude PROT_EXEC: arg { index: 2 masked { mask: "
                     "4 value: 0 } name: \"PROT_EXEC\" }");
      }
    }
    if ((rule.syscall() == "accept4" || rule.syscall() == "mmap" ||
         rule.syscall() == "fcntl") &&
        rule.phase() == STEADY && rule.arg_size() == 0) {
      ComplainRule(i, "too wide for the steady state without arguments");
    }
    if (rule.syscall() == "execveat" && !IsLaunchExec(rule)) {
      ComplainRule(i, absl::StrCat("must name the program's fd: arg { index: 0 "
                                   "equals: ",
                                   sandbox::kProgramFd,
                                   " } arg { index: 4 equals: 4096 }"));
    }
  }

  static bool IsLaunchExec(const SyscallRule& rule) {
    bool fd = false;
    bool empty_path = false;
    for (const ArgumentConstraint& arg : rule.arg()) {
      fd |= arg.index() == 0 && arg.has_equals() &&
            arg.equals() == sandbox::kProgramFd;
      empty_path |=
          arg.index() == 4 && arg.has_equals() && arg.equals() == 0x1000;
    }
    return rule.syscall() == "execveat" && rule.phase() == LAUNCH && fd &&
           empty_path;
  }

  // Two rules for one call.
  void Pairs() {
    for (int i = 0; i < policy_.rule_size(); ++i) {
      for (int j = 0; j < i; ++j) {
        if (policy_.rule(i).syscall() == policy_.rule(j).syscall()) Pair(i, j);
      }
    }
  }

  void Pair(int i, int j) {
    const SyscallRule& a = policy_.rule(i);
    const SyscallRule& b = policy_.rule(j);
    const std::string other = absl::StrCat(" (", source_.rule[j].file, ":",
                                           source_.rule[j].line, ")");
    // A STEADY refusal is in the steady filter alone, any other rule of the
    // same call in the launch filter: they never meet.
    const bool meet = (InPhase(policy_, a, FilterPhase::kLaunch) &&
                       InPhase(policy_, b, FilterPhase::kLaunch)) ||
                      (InPhase(policy_, a, FilterPhase::kSteady) &&
                       InPhase(policy_, b, FilterPhase::kSteady));
    if (!meet) return;
    const bool same_action =
        a.action() == b.action() && a.errno_value() == b.errno_value();
    if (!same_action) {
      if (!Disjoint(a, b)) {
        ComplainRule(i, "another rule has another action for the same call" +
                            other + "; make their arguments disjoint");
      }
      return;
    }
    // A STEADY rule holds in every phase; a LAUNCH or SET_UP rule does not
    // reach the steady state and so may be wider.
    if (Covers(b, a) && (b.phase() == STEADY || a.phase() != STEADY)) {
      ComplainRule(i, "says nothing that another rule does not say" + other +
                          "; remove one");
    } else if (Covers(a, b) && (a.phase() == STEADY || b.phase() != STEADY)) {
      ComplainRule(i, "makes another rule meaningless" + other +
                          "; remove one, or narrow this one");
    }
  }

  // What a process cannot start or end without.
  void Needed() {
    bool exec = false;
    bool exit = false;
    for (const SyscallRule& rule : policy_.rule()) {
      exec |= IsLaunchExec(rule);
      exit |= rule.syscall() == "exit_group" && rule.phase() == STEADY;
    }
    if (!exec) {
      Complain(source_.where, "rule",
               absl::StrCat("no LAUNCH rule lets the program be executed: "
                            "execveat with arg 0 equal to ",
                            sandbox::kProgramFd, " and arg 4 equal to 4096"));
    }
    if (!exit) {
      Complain(source_.where, "rule",
               "no STEADY rule allows exit_group: the process could not end");
    }
  }

  void Fd(int i) {
    const FdRule& fd = policy_.fd(i);
    const std::string field = absl::StrCat("fd (", fd.name(), ")");
    if (fd.name().empty() || fd.why().size() < 8) {
      Complain(source_.fd[i], field, "name or why: missing");
    }
    if (fd.kind() == FdRule::KIND_UNSPECIFIED ||
        fd.access() == FdRule::ACCESS_UNSPECIFIED) {
      Complain(source_.fd[i], field, "kind or access: missing");
    }
    if (!fd.received() &&
        fd.first() + std::max(fd.max_count(), 1u) > sandbox::kProgramFd) {
      Complain(
          source_.fd[i], field,
          absl::StrCat("numbers from ", sandbox::kProgramFd, " on are taken"));
    }
    for (const std::string& seal : fd.seals()) {
      if (!SealValue(seal)) {
        Complain(source_.fd[i], field, seal + ": no such seal (F_SEAL_...)");
      }
    }
    if (fd.received()) return;
    for (int j = 0; j < i; ++j) {
      const FdRule& other = policy_.fd(j);
      if (other.received()) continue;
      if (fd.first() < other.first() + std::max(other.max_count(), 1u) &&
          other.first() < fd.first() + std::max(fd.max_count(), 1u)) {
        Complain(source_.fd[i], field, "overlaps " + other.name());
      }
    }
  }

  void Limit(int i) {
    const ResourceLimit& limit = policy_.rlimit(i);
    const std::string field = absl::StrCat("rlimit (", limit.name(), ")");
    if (!ResourceNumber(limit.name())) {
      Complain(source_.rlimit[i], field, "no such limit (RLIMIT_...)");
    }
    if (limit.why().size() < 8) {
      Complain(source_.rlimit[i], field, "why: missing");
    }
    for (int j = 0; j < i; ++j) {
      if (policy_.rlimit(j).name() == limit.name()) {
        Complain(source_.rlimit[i], field, "given twice");
      }
    }
  }

  const Source& source_;
  const Policy& policy_;
  std::vector<std::string> errors_;
};

}  // namespace

absl::Status Check(const Source& source) { return Checker(source).Run(); }

}  // namespace bulkhead::policy
