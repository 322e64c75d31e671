#include "policy/explain.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "policy/never_steady.h"
#include "policy/texts.h"

namespace bulkhead::policy {
namespace {

// Calls that do much the same: who lacks one may have another.
const std::vector<std::vector<std::string>>& Families() {
  static const auto& families = *new std::vector<std::vector<std::string>>{
      {"read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"},
      {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto",
       "sendmsg"},
      {"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait"},
      {"stat", "lstat", "fstat", "newfstatat", "statx"},
      {"fsync", "fdatasync", "sync_file_range", "syncfs"},
      {"accept", "accept4"},
      {"open", "openat", "openat2", "creat"},
      {"clone", "clone3", "fork", "vfork"},
      {"mmap", "mremap", "munmap", "mprotect", "madvise", "brk"},
      {"exit", "exit_group"},
      {"nanosleep", "clock_nanosleep"},
      {"gettimeofday", "time", "clock_gettime"},
  };
  return families;
}

std::string Value(uint64_t value) {
  return value < 1024 ? absl::StrCat(value) : absl::StrFormat("0x%x", value);
}

std::string Wanted(const ArgumentConstraint& test) {
  const std::string name =
      test.name().empty() ? "" : absl::StrCat(" (", test.name(), ")");
  switch (test.test_case()) {
    case ArgumentConstraint::kEquals:
      return Value(test.equals()) + name;
    case ArgumentConstraint::kLessOrEqual:
      return absl::StrCat("at most ", Value(test.less_or_equal()), name);
    case ArgumentConstraint::kGreaterOrEqual:
      return absl::StrCat("at least ", Value(test.greater_or_equal()), name);
    case ArgumentConstraint::kMasked:
      return absl::StrCat("one with bits ", Value(test.masked().mask()),
                          " equal to ", Value(test.masked().value()), name);
    case ArgumentConstraint::TEST_NOT_SET:
      break;
  }
  return "anything";
}

// What of a rule does not hold, in words.
std::vector<std::string> Differences(const Policy& policy, FilterPhase phase,
                                     const SyscallRule& rule,
                                     const Call& call) {
  std::vector<std::string> differences;
  if (rule.action() == SyscallRule::ERRNO) {
    differences.push_back(
        absl::StrCat("that rule refuses with errno ", rule.errno_value()));
  }
  if (!InPhase(policy, rule, phase)) {
    differences.push_back(
        phase == FilterPhase::kSteady
            ? absl::StrCat("that rule ended with the lock-down (",
                           Phase_Name(rule.phase()), ")")
            : "that rule holds after the lock-down only");
  }
  for (const ArgumentConstraint& arg : rule.arg()) {
    if (Admits(arg, call.args[arg.index()])) continue;
    differences.push_back(absl::StrCat("arg", arg.index(), " is ",
                                       Value(call.args[arg.index()]), ", not ",
                                       Wanted(arg)));
  }
  return differences;
}

bool Related(const std::string& a, const std::string& b) {
  const auto holds = [](const std::vector<std::string>& names,
                        const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const std::vector<std::string>& family : Families()) {
    if (holds(family, a) && holds(family, b)) return true;
  }
  return false;
}

std::string Advice(const Policy& policy, const Call& call) {
  if (call.abi != "x86_64") {
    return "No program of ours uses this interface: treat the process as taken "
           "over. Keep its image and log, and replace the VM.";
  }
  if (policy.jail().root() == Jail::EMPTY && NeverSteady(call.syscall)) {
    return "No policy may allow this call to a running service: unless the "
           "program was changed, treat it as taken over. Keep its image and "
           "log, and replace the VM.";
  }
  return "If program, libraries or kernel are new, run the same VM with "
         "--policy_mode=learn and look at what it prints; if not, treat the "
         "process as taken over, and keep its image and log.";
}

}  // namespace

std::string ConstraintsText(const SyscallRule& rule) {
  std::vector<std::string> args;
  for (const ArgumentConstraint& arg : rule.arg()) {
    std::string text = absl::StrCat("arg", arg.index());
    switch (arg.test_case()) {
      case ArgumentConstraint::kEquals:
        absl::StrAppend(&text, " = ",
                        arg.name().empty() ? Value(arg.equals()) : arg.name());
        break;
      case ArgumentConstraint::kLessOrEqual:
        absl::StrAppend(&text, " <= ", Value(arg.less_or_equal()));
        break;
      case ArgumentConstraint::kGreaterOrEqual:
        absl::StrAppend(&text, " >= ", Value(arg.greater_or_equal()));
        break;
      default:
        if (arg.masked().value() == 0 && !arg.name().empty()) {
          absl::StrAppend(&text, " without ", arg.name());
        } else {
          absl::StrAppend(&text, " & ", Value(arg.masked().mask()), " = ",
                          Value(arg.masked().value()));
        }
    }
    args.push_back(text);
  }
  return args.empty() ? "" : absl::StrCat("(", absl::StrJoin(args, ", "), ")");
}

std::string RuleText(const SyscallRule& rule) {
  return absl::StrCat(rule.syscall(), ConstraintsText(rule), ", ",
                      Phase_Name(rule.phase()),
                      rule.action() == SyscallRule::ERRNO
                          ? absl::StrCat(", errno ", rule.errno_value())
                          : "",
                      ": ", rule.why());
}

Explanation Explain(const Policy& policy, FilterPhase phase, const Call& call) {
  Explanation explanation;
  explanation.advice = Advice(policy, call);
  if (call.abi != "x86_64") {
    explanation.difference =
        absl::StrCat("the ", call.abi,
                     " interface of the kernel is closed, whatever is "
                     "called");
    return explanation;
  }
  const SyscallRule* nearest = nullptr;
  std::vector<std::string> differences;
  for (const SyscallRule& rule : policy.rule()) {
    if (rule.syscall() != call.syscall) continue;
    const std::vector<std::string> now = Differences(policy, phase, rule, call);
    if (nearest == nullptr || now.size() < differences.size()) {
      nearest = &rule;
      differences = now;
    }
  }
  if (nearest != nullptr) {
    explanation.allowed = differences.empty();
    explanation.rule = RuleText(*nearest);
    explanation.difference = absl::StrJoin(differences, "; ");
    if (explanation.allowed) explanation.advice = "Nothing: it is allowed.";
    return explanation;
  }
  explanation.difference =
      absl::StrCat("no rule, in any phase, names ", call.syscall);
  for (const SyscallRule& rule : policy.rule()) {
    if (!InPhase(policy, rule, phase) || rule.action() != SyscallRule::ALLOW ||
        !Related(rule.syscall(), call.syscall)) {
      continue;
    }
    explanation.rule = RuleText(rule);
    absl::StrAppend(&explanation.difference, "; ", rule.syscall(),
                    " does much the same");
    break;
  }
  return explanation;
}

Policy CompiledInPolicy(const std::string& name) {
  Policy policy;
  const char* text = PolicyText(name);
  if (text == nullptr ||
      !google::protobuf::TextFormat::ParseFromString(text, &policy)) {
    policy.Clear();
  }
  return policy;
}

}  // namespace bulkhead::policy
