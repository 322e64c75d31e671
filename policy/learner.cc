#include "policy/learner.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "policy/argument_count.h"

namespace bulkhead::policy {
namespace {

// Addresses and lengths of all kinds; a constant is smaller.
constexpr uint64_t kLargestConstant = 0xffffffff;
// Fewer calls than that say little about what an argument can be.
constexpr uint64_t kEnough = 3;

std::string Value(uint64_t value) {
  return value < 1024 ? absl::StrCat(value) : absl::StrFormat("0x%x", value);
}

std::string List(const std::set<uint64_t>& values) {
  return absl::StrJoin(values, " or ", [](std::string* out, uint64_t value) {
    out->append(Value(value));
  });
}

}  // namespace

void Learner::Values::Add(uint64_t value) {
  if (seen.size() < kMost || seen.count(value) != 0) {
    seen.insert(value);
  } else {
    more = true;
  }
}

Learner::Learner(Policy policy)
    : policy_(std::move(policy)), uses_(policy_.rule_size()) {}

void Learner::Add(FilterPhase phase, const Call& call) {
  ++calls_;
  bool expected = false;
  for (int i = 0; i < policy_.rule_size(); ++i) {
    const SyscallRule& rule = policy_.rule(i);
    if (call.abi != "x86_64" || rule.syscall() != call.syscall ||
        !InPhase(policy_, rule, phase)) {
      continue;
    }
    bool matches = true;
    for (const ArgumentConstraint& arg : rule.arg()) {
      matches = matches && Admits(arg, call.args[arg.index()]);
    }
    if (!matches) continue;
    // A polite refusal is expected, too: the program asks and can do without.
    expected = true;
    ++uses_[i].count;
    for (int a = 0; a < 6; ++a) uses_[i].args[a].Add(call.args[a]);
  }
  if (expected) return;
  Missing& missing = missing_[{phase, {call.syscall, call.abi}}];
  if (missing.use.count++ == 0) {
    missing.nearest = Explain(policy_, phase, call);
  }
  for (int a = 0; a < 6; ++a) missing.use.args[a].Add(call.args[a]);
}

std::string Learner::ProposedRule(FilterPhase phase, const std::string& syscall,
                                  const Use& use) {
  std::string rule = absl::StrCat(
      "rule { syscall: \"", syscall,
      "\" phase: ", phase == FilterPhase::kSteady ? "STEADY" : "SET_UP");
  for (int a = 0; a < ArgumentCount(syscall); ++a) {
    const Values& values = use.args[a];
    if (values.more || values.seen.size() != 1 ||
        *values.seen.begin() > kLargestConstant) {
      continue;
    }
    absl::StrAppend(&rule, " arg { index: ", a,
                    " equals: ", Value(*values.seen.begin()), " }");
  }
  return absl::StrCat(rule, " why: \"...\" }");
}

std::string Learner::Tighter(const SyscallRule& rule, const Use& use) const {
  std::vector<std::string> hints;
  if (use.count < kEnough) return "";
  for (int a = 0; a < ArgumentCount(rule.syscall()); ++a) {
    bool constrained = false;
    for (const ArgumentConstraint& arg : rule.arg()) {
      constrained |= arg.index() == static_cast<uint32_t>(a) &&
                     arg.test_case() == ArgumentConstraint::kEquals;
    }
    const Values& values = use.args[a];
    if (constrained || values.more ||
        *values.seen.rbegin() > kLargestConstant) {
      continue;
    }
    hints.push_back(absl::StrCat("arg", a, " was always ", List(values.seen)));
  }
  return absl::StrJoin(hints, ", ");
}

std::string Learner::Report() const {
  std::string text =
      absl::StrCat("policy ", policy_.name(), ": ", calls_, " calls seen\n");
  absl::StrAppend(&text, "  missing rules: ", missing_.size(), "\n");
  for (const auto& [key, missing] : missing_) {
    const auto& [phase, call] = key;
    absl::StrAppend(&text, "    ", missing.use.count, " times ",
                    call.second == "x86_64" ? "" : call.second + " ",
                    ProposedRule(phase, call.first, missing.use), "\n      ",
                    missing.nearest.difference, "\n");
  }
  std::string never;
  std::string tighter;
  int unused = 0;
  for (int i = 0; i < policy_.rule_size(); ++i) {
    const SyscallRule& rule = policy_.rule(i);
    const std::string head = absl::StrCat(rule.syscall(), ConstraintsText(rule),
                                          ", ", Phase_Name(rule.phase()));
    if (uses_[i].count == 0) {
      ++unused;
      absl::StrAppend(&never, "    ", head, ": ", rule.why(), "\n");
      continue;
    }
    const std::string hint =
        rule.action() == SyscallRule::ALLOW ? Tighter(rule, uses_[i]) : "";
    if (hint.empty()) continue;
    absl::StrAppend(&tighter, "    ", head, " (", uses_[i].count, " calls",
                    rule.hot() ? ", hot: not checked, for speed" : "",
                    "): ", hint, "\n");
  }
  absl::StrAppend(&text, "  rules never exercised: ", unused, "\n", never);
  absl::StrAppend(&text, "  constraints that could be tighter:",
                  tighter.empty() ? " none" : "", "\n", tighter);
  return text;
}

}  // namespace bulkhead::policy
