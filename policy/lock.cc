#include "policy/lock.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "policy/filter.h"
#include "policy/rules.h"

namespace bulkhead::policy {
namespace {

struct Phase {
  FilterPhase phase;
  const char* name;
};
constexpr Phase kPhases[] = {{FilterPhase::kLaunch, "launch"},
                             {FilterPhase::kSteady, "steady"}};

std::string ArgumentText(const ArgumentConstraint& arg) {
  const std::string name = absl::StrCat("argument ", arg.index());
  const std::string called = arg.name().empty() ? "" : " " + arg.name();
  switch (arg.test_case()) {
    case ArgumentConstraint::kEquals:
      return absl::StrCat(name, " = ", arg.equals(), called);
    case ArgumentConstraint::kLessOrEqual:
      return absl::StrCat(name, " <= ", arg.less_or_equal(), called);
    case ArgumentConstraint::kGreaterOrEqual:
      return absl::StrCat(name, " >= ", arg.greater_or_equal(), called);
    case ArgumentConstraint::kMasked:
      return absl::StrFormat("%s & 0x%x = 0x%x%s", name, arg.masked().mask(),
                             arg.masked().value(), called);
    case ArgumentConstraint::TEST_NOT_SET:
      break;
  }
  return name;
}

std::string RuleText(const SyscallRule& rule) {
  std::string text = rule.syscall();
  if (rule.arg_size() == 0) return text + " with any arguments";
  text += " with ";
  for (int i = 0; i < rule.arg_size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", ArgumentText(rule.arg(i)));
  }
  return text;
}

// Whether some rule of `policy` covers all that `rule` does, with its action.
bool Has(const Policy& policy, FilterPhase phase, const SyscallRule& rule) {
  return std::any_of(policy.rule().begin(), policy.rule().end(),
                     [&](const SyscallRule& other) {
                       return InPhase(policy, other, phase) &&
                              other.action() == rule.action() &&
                              other.errno_value() == rule.errno_value() &&
                              Covers(other, rule);
                     });
}

// Rules of `a` that `b` lacks.
void Missing(const Policy& a, const Policy& b, bool appeared,
             std::vector<Change>* changes) {
  for (const Phase& phase : kPhases) {
    for (const SyscallRule& rule : a.rule()) {
      if (!InPhase(a, rule, phase.phase) || Has(b, phase.phase, rule)) continue;
      const bool allow = rule.action() == SyscallRule::ALLOW;
      const std::string what =
          allow ? "allowed"
                : absl::StrCat("refused with errno ", rule.errno_value());
      changes->push_back(
          // To refuse politely what was killed gives nothing away.
          {appeared && allow ? Change::kWidens : Change::kNarrows,
           absl::StrCat(phase.name, ": ", RuleText(rule),
                        appeared ? " is now " : " is no longer ", what)});
    }
  }
}

std::string FdText(FdRule fd) {
  fd.clear_why();
  return fd.ShortDebugString();
}

const FdRule* FindFd(const Policy& policy, const std::string& name) {
  for (const FdRule& fd : policy.fd()) {
    if (fd.name() == name) return &fd;
  }
  return nullptr;
}

// The same fd in all but its seals: with more of them, less can be done with
// it.
bool OnlySealsAdded(FdRule before, FdRule now) {
  const std::set<std::string> old_seals(before.seals().begin(),
                                        before.seals().end());
  const std::set<std::string> new_seals(now.seals().begin(), now.seals().end());
  before.clear_seals();
  now.clear_seals();
  return FdText(before) == FdText(now) &&
         std::includes(new_seals.begin(), new_seals.end(), old_seals.begin(),
                       old_seals.end());
}

void CompareFds(const Policy& before, const Policy& now,
                std::vector<Change>* changes) {
  for (const FdRule& fd : now.fd()) {
    const FdRule* old_fd = FindFd(before, fd.name());
    if (old_fd == nullptr) {
      changes->push_back({Change::kWidens, "fd now held: " + FdText(fd)});
    } else if (FdText(*old_fd) != FdText(fd)) {
      changes->push_back(
          {OnlySealsAdded(*old_fd, fd) ? Change::kNarrows : Change::kWidens,
           absl::StrCat("fd now held as ", FdText(fd), ", before as ",
                        FdText(*old_fd))});
    }
  }
  for (const FdRule& fd : before.fd()) {
    if (FindFd(now, fd.name()) == nullptr) {
      changes->push_back(
          {Change::kNarrows, "fd no longer held: " + FdText(fd)});
    }
  }
}

const ResourceLimit* Find(const Policy& policy, const std::string& name) {
  for (const ResourceLimit& limit : policy.rlimit()) {
    if (limit.name() == name) return &limit;
  }
  return nullptr;
}

void CompareLimits(const Policy& before, const Policy& now,
                   std::vector<Change>* changes) {
  for (const ResourceLimit& limit : now.rlimit()) {
    const ResourceLimit* old_limit = Find(before, limit.name());
    if (old_limit == nullptr) {
      changes->push_back(
          {Change::kNarrows,
           absl::StrCat(limit.name(), " is now limited to ", limit.value())});
    } else if (old_limit->value() != limit.value()) {
      changes->push_back(
          {limit.value() > old_limit->value() ? Change::kWidens
                                              : Change::kNarrows,
           absl::StrCat(limit.name(), " goes from ", old_limit->value(), " to ",
                        limit.value())});
    }
  }
  for (const ResourceLimit& limit : before.rlimit()) {
    if (Find(now, limit.name()) == nullptr) {
      changes->push_back(
          {Change::kWidens, limit.name() + " is no longer limited"});
    }
  }
}

void CompareJails(const Jail& before, const Jail& now,
                  std::vector<Change>* changes) {
  if (before.root() != now.root()) {
    changes->push_back(
        {now.root() == Jail::EMPTY ? Change::kNarrows : Change::kWidens,
         "the root is now " + Jail::Root_Name(now.root())});
  }
  if (before.memory_deny_write_execute() != now.memory_deny_write_execute()) {
    changes->push_back(
        {now.memory_deny_write_execute() ? Change::kNarrows : Change::kWidens,
         "memory_deny_write_execute changed"});
  }
  const std::set<std::string> old_nodes(before.device_node().begin(),
                                        before.device_node().end());
  const std::set<std::string> new_nodes(now.device_node().begin(),
                                        now.device_node().end());
  for (const std::string& node : new_nodes) {
    if (old_nodes.count(node) == 0) {
      changes->push_back(
          {Change::kWidens, "its root may now show the device node " + node});
    }
  }
  for (const std::string& node : old_nodes) {
    if (new_nodes.count(node) == 0) {
      changes->push_back({Change::kNarrows,
                          "its root no longer shows the device node " + node});
    }
  }
  const std::set<std::string> old_names(before.namespace_().begin(),
                                        before.namespace_().end());
  const std::set<std::string> new_names(now.namespace_().begin(),
                                        now.namespace_().end());
  for (const std::string& name : old_names) {
    if (new_names.count(name) == 0) {
      changes->push_back(
          {Change::kWidens, "shares the launcher's namespace: " + name});
    }
  }
  for (const std::string& name : new_names) {
    if (old_names.count(name) == 0) {
      changes->push_back({Change::kNarrows, "has a namespace more: " + name});
    }
  }
}

// Different calls that rules of one phase and action name.
std::set<std::string> Calls(const Policy& policy, FilterPhase phase,
                            SyscallRule::Action action, bool with_arguments) {
  std::set<std::string> calls;
  for (const SyscallRule& rule : policy.rule()) {
    if (InPhase(policy, rule, phase) && rule.action() == action &&
        (!with_arguments || rule.arg_size() > 0)) {
      calls.insert(rule.syscall());
    }
  }
  return calls;
}

}  // namespace

PolicyLock MakeLock(const Policy& policy, const Compiled& compiled) {
  PolicyLock lock;
  PolicyLock::Bytecode* bytecode = lock.add_bytecode();
  bytecode->set_backend(FilterBackend());
  bytecode->set_launch_instructions(compiled.launch.size());
  bytecode->set_steady_instructions(compiled.steady.size());
  bytecode->set_sha256(FilterHash(compiled.launch, compiled.steady));
  const auto count = [&](FilterPhase phase, SyscallRule::Action action,
                         bool with_arguments) {
    return static_cast<uint32_t>(
        Calls(policy, phase, action, with_arguments).size());
  };
  lock.set_launch_calls(count(FilterPhase::kLaunch, SyscallRule::ALLOW, false));
  lock.set_steady_calls(count(FilterPhase::kSteady, SyscallRule::ALLOW, false));
  lock.set_steady_argument_checked(
      count(FilterPhase::kSteady, SyscallRule::ALLOW, true));
  lock.set_steady_refused(
      count(FilterPhase::kSteady, SyscallRule::ERRNO, false));
  *lock.mutable_policy() = policy;
  return lock;
}

std::string LockText(const PolicyLock& lock) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseUtf8StringEscaping(true);
  printer.PrintToString(lock, &text);
  return absl::StrCat(
      "# proto-file: proto/policy.proto\n"
      "# proto-message: bulkhead.PolicyLock\n"
      "# Made by `bazel run //policy:update_locks`, after a look at\n"
      "# `bazel run //policy:diff`. Not edited by hand.\n\n",
      text);
}

absl::StatusOr<PolicyLock> ParseLock(const std::string& text,
                                     const std::string& name) {
  PolicyLock lock;
  if (!google::protobuf::TextFormat::ParseFromString(text, &lock)) {
    return absl::InvalidArgumentError(
        name + ": not a lock file; bazel run //policy:update_locks makes one");
  }
  return lock;
}

PolicyLock Renew(const PolicyLock& before, const PolicyLock& now) {
  PolicyLock renewed = now;
  if (before.policy().SerializeAsString() != now.policy().SerializeAsString()) {
    return renewed;
  }
  for (const PolicyLock::Bytecode& bytecode : before.bytecode()) {
    if (bytecode.backend() != now.bytecode(0).backend()) {
      *renewed.add_bytecode() = bytecode;
    }
  }
  return renewed;
}

std::vector<Change> Compare(const PolicyLock& before, const PolicyLock& now) {
  std::vector<Change> changes;
  Missing(now.policy(), before.policy(), /*appeared=*/true, &changes);
  Missing(before.policy(), now.policy(), /*appeared=*/false, &changes);
  CompareFds(before.policy(), now.policy(), &changes);
  CompareLimits(before.policy(), now.policy(), &changes);
  CompareJails(before.policy().jail(), now.policy().jail(), &changes);
  if (changes.empty() &&
      before.policy().SerializeAsString() != now.policy().SerializeAsString()) {
    changes.push_back({Change::kWords,
                       "words, order or phase of rules that "
                       "allow the same as before"});
  }
  for (const PolicyLock::Bytecode& old_code : before.bytecode()) {
    const PolicyLock::Bytecode& code = now.bytecode(0);
    if (changes.empty() && old_code.backend() == code.backend() &&
        old_code.sha256() != code.sha256()) {
      changes.push_back(
          {Change::kWords, "the same policy compiles to other bytecode"});
    }
  }
  return changes;
}

}  // namespace bulkhead::policy
