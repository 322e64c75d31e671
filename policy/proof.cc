#include "policy/proof.h"

#include <linux/audit.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

constexpr size_t kWords = sizeof(seccomp_data) / 4;
constexpr size_t kNumber = offsetof(seccomp_data, nr) / 4;
constexpr size_t kArch = offsetof(seccomp_data, arch) / 4;
constexpr size_t kArgs = offsetof(seccomp_data, args) / 4;
constexpr uint32_t kX32Bit = 0x40000000;

size_t LowWord(uint32_t arg) { return kArgs + 2 * arg; }
size_t HighWord(uint32_t arg) { return LowWord(arg) + 1; }

// (word & mask) compared with value. kBits asks whether any of value's bits is
// set instead.
struct Question {
  uint32_t mask;
  uint32_t value;
  bool bits;

  auto operator<=>(const Question&) const = default;
};

using Questions = std::array<std::set<Question>, kWords>;

// Every question that the bytecode can ask, found by walking each instruction
// with each (word, mask) that its accumulator can hold.
void AskedByFilter(Filter filter, Questions* questions) {
  struct State {
    size_t pc;
    size_t word;
    uint32_t mask;
    auto operator<=>(const State&) const = default;
  };
  std::set<State> seen;
  std::vector<State> work = {{0, 0, 0}};
  while (!work.empty()) {
    const State state = work.back();
    work.pop_back();
    if (!seen.insert(state).second) continue;
    const sock_filter& in = filter[state.pc];
    const size_t next = state.pc + 1;
    if (in.code == (BPF_LD | BPF_W | BPF_ABS)) {
      work.push_back({next, in.k / 4, ~0U});
    } else if (in.code == (BPF_ALU | BPF_AND | BPF_K)) {
      work.push_back({next, state.word, state.mask & in.k});
    } else if (in.code == (BPF_JMP | BPF_JA)) {
      work.push_back({next + in.k, state.word, state.mask});
    } else if (BPF_CLASS(in.code) == BPF_JMP) {
      const bool bits = BPF_OP(in.code) == BPF_JSET;
      (*questions)[state.word].insert({state.mask, in.k, bits});
      work.push_back({next + in.jt, state.word, state.mask});
      work.push_back({next + in.jf, state.word, state.mask});
    }
  }
}

// Every question that the rules ask.
void AskedByPolicy(const Policy& policy, Questions* questions) {
  (*questions)[kArch].insert({~0U, AUDIT_ARCH_X86_64, false});
  (*questions)[kNumber].insert({~0U, kX32Bit, false});
  for (const SyscallRule& rule : policy.rule()) {
    (*questions)[kNumber].insert(
        {~0U, static_cast<uint32_t>(sandbox::SyscallNumber(rule.syscall())),
         false});
    for (const ArgumentConstraint& arg : rule.arg()) {
      uint64_t mask = ~0ULL;
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
          mask = arg.masked().mask();
          value = arg.masked().value();
          break;
        case ArgumentConstraint::TEST_NOT_SET:
          continue;
      }
      (*questions)[LowWord(arg.index())].insert(
          {static_cast<uint32_t>(mask), static_cast<uint32_t>(value), false});
      (*questions)[HighWord(arg.index())].insert(
          {static_cast<uint32_t>(mask >> 32),
           static_cast<uint32_t>(value >> 32), false});
    }
  }
}

// One value for each combination of answers that some value gives. The word is
// built from its highest bit down; what each question has seen so far is one of
// three states, and of two prefixes with equal states one is enough.
std::vector<uint32_t> Representatives(const std::set<Question>& questions) {
  enum : char { kEqual, kGreater, kLess };
  std::map<std::string, uint32_t> prefixes = {
      {std::string(questions.size(), kEqual), 0}};
  for (int bit = 31; bit >= 0; --bit) {
    std::map<std::string, uint32_t> longer;
    for (const auto& [states, prefix] : prefixes) {
      for (const uint32_t digit : {0U, 1U}) {
        std::string now = states;
        size_t i = 0;
        for (const Question& question : questions) {
          char& state = now[i++];
          const uint32_t seen = digit & (question.mask >> bit);
          const uint32_t wanted = (question.value >> bit) & 1;
          if (question.bits) {
            if ((seen & wanted) != 0) state = kGreater;
          } else if (state == kEqual && seen != wanted) {
            state = seen > wanted ? kGreater : kLess;
          }
        }
        longer.emplace(now, prefix | digit << bit);
      }
    }
    prefixes = std::move(longer);
  }
  std::vector<uint32_t> values;
  for (const auto& [states, value] : prefixes) values.push_back(value);
  return values;
}

// A call of which only some words are known yet. Whoever needs another one
// notes which, and gives up.
class PartialCall {
 public:
  std::optional<uint32_t> Word(size_t index) {
    if (!words_[index]) needed_ = index;
    return words_[index];
  }
  void Set(size_t index, uint32_t value) { words_[index] = value; }
  void Forget(size_t index) { words_[index].reset(); }
  size_t needed() const { return needed_; }

  std::string ToString() const {
    const uint32_t number = words_[kNumber].value_or(0);
    std::string text = words_[kArch].value_or(0) == AUDIT_ARCH_X86_64
                           ? sandbox::SyscallName(static_cast<int>(number))
                           : absl::StrFormat("call %u of architecture 0x%x",
                                             number, words_[kArch].value_or(0));
    for (uint32_t arg = 0; arg < 6; ++arg) {
      const auto low = words_[LowWord(arg)];
      const auto high = words_[HighWord(arg)];
      if (!low && !high) continue;
      absl::StrAppendFormat(&text, " arg%u=0x%x", arg,
                            uint64_t{high.value_or(0)} << 32 | low.value_or(0));
    }
    return text;
  }

 private:
  std::array<std::optional<uint32_t>, kWords> words_;
  size_t needed_ = 0;
};

std::optional<uint32_t> RunFilter(Filter filter, PartialCall* call) {
  uint32_t a = 0;
  for (size_t pc = 0; pc < filter.size(); ++pc) {
    const sock_filter& in = filter[pc];
    if (in.code == (BPF_LD | BPF_W | BPF_ABS)) {
      const std::optional<uint32_t> word = call->Word(in.k / 4);
      if (!word) return std::nullopt;
      a = *word;
    } else if (in.code == (BPF_ALU | BPF_AND | BPF_K)) {
      a &= in.k;
    } else if (in.code == (BPF_RET | BPF_K)) {
      return in.k;
    } else if (in.code == (BPF_JMP | BPF_JA)) {
      pc += in.k;
    } else {
      const int op = BPF_OP(in.code);
      const bool taken = op == BPF_JEQ   ? a == in.k
                         : op == BPF_JGT ? a > in.k
                         : op == BPF_JGE ? a >= in.k
                                         : (a & in.k) != 0;
      pc += taken ? in.jt : in.jf;
    }
  }
  return SECCOMP_RET_KILL_PROCESS;
}

bool Holds(const ArgumentConstraint& arg, uint64_t value) {
  switch (arg.test_case()) {
    case ArgumentConstraint::kEquals:
      return value == arg.equals();
    case ArgumentConstraint::kLessOrEqual:
      return value <= arg.less_or_equal();
    case ArgumentConstraint::kGreaterOrEqual:
      return value >= arg.greater_or_equal();
    case ArgumentConstraint::kMasked:
      return (value & arg.masked().mask()) == arg.masked().value();
    case ArgumentConstraint::TEST_NOT_SET:
      return false;
  }
  return false;
}

std::optional<uint32_t> RunPolicy(const Policy& policy, FilterPhase phase,
                                  PartialCall* call) {
  const std::optional<uint32_t> arch = call->Word(kArch);
  if (!arch) return std::nullopt;
  if (*arch != AUDIT_ARCH_X86_64) return SECCOMP_RET_KILL_PROCESS;
  const std::optional<uint32_t> number = call->Word(kNumber);
  if (!number) return std::nullopt;
  for (const SyscallRule& rule : policy.rule()) {
    if (!InPhase(policy, rule, phase) ||
        *number !=
            static_cast<uint32_t>(sandbox::SyscallNumber(rule.syscall()))) {
      continue;
    }
    bool holds = true;
    for (const ArgumentConstraint& arg : rule.arg()) {
      const std::optional<uint32_t> low = call->Word(LowWord(arg.index()));
      if (!low) return std::nullopt;
      const std::optional<uint32_t> high = call->Word(HighWord(arg.index()));
      if (!high) return std::nullopt;
      holds = holds && Holds(arg, uint64_t{*high} << 32 | *low);
    }
    if (!holds) continue;
    return rule.action() == SyscallRule::ALLOW
               ? SECCOMP_RET_ALLOW
               : SECCOMP_RET_ERRNO | static_cast<uint32_t>(rule.errno_value());
  }
  return SECCOMP_RET_KILL_PROCESS;
}

std::string ActionText(uint32_t action) {
  switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return "ALLOW";
    case SECCOMP_RET_KILL_PROCESS:
      return "KILL_PROCESS";
    case SECCOMP_RET_ERRNO:
      return absl::StrCat("ERRNO ", action & SECCOMP_RET_DATA);
    default:
      return absl::StrFormat("0x%x", action);
  }
}

class Prover {
 public:
  Prover(const Policy& policy, FilterPhase phase, Filter filter, size_t most)
      : policy_(policy), phase_(phase), filter_(filter), most_(most) {
    Questions questions;
    AskedByFilter(filter, &questions);
    AskedByPolicy(policy, &questions);
    for (size_t i = 0; i < kWords; ++i) {
      values_[i] = Representatives(questions[i]);
    }
  }

  ProofResult Run() {
    Explore();
    return std::move(result_);
  }

 private:
  // Both verdicts about the call as far as it is known, or about every way to
  // know one word more.
  void Explore() {
    if (result_.differences.size() >= most_) return;
    const std::optional<uint32_t> filter = RunFilter(filter_, &call_);
    const std::optional<uint32_t> policy =
        filter ? RunPolicy(policy_, phase_, &call_) : std::nullopt;
    if (!policy) {
      const size_t word = call_.needed();
      for (const uint32_t value : values_[word]) {
        call_.Set(word, value);
        Explore();
      }
      call_.Forget(word);
      return;
    }
    ++result_.classes;
    if (*filter == *policy) return;
    result_.differences.push_back(absl::StrCat(
        call_.ToString(), ": the policy says ", ActionText(*policy),
        ", the filter ", ActionText(*filter)));
  }

  const Policy& policy_;
  const FilterPhase phase_;
  const Filter filter_;
  const size_t most_;
  std::array<std::vector<uint32_t>, kWords> values_;
  PartialCall call_;
  ProofResult result_;
};

}  // namespace

uint32_t Verdict(const Policy& policy, FilterPhase phase,
                 const seccomp_data& call) {
  PartialCall whole;
  uint32_t words[kWords];
  std::memcpy(words, &call, sizeof(words));
  for (size_t i = 0; i < kWords; ++i) whole.Set(i, words[i]);
  return *RunPolicy(policy, phase, &whole);
}

ProofResult Prove(const Policy& policy, FilterPhase phase, Filter filter,
                  size_t most) {
  if (absl::Status valid = Validate(filter); !valid.ok()) {
    return {.differences = {std::string(valid.message())}};
  }
  return Prover(policy, phase, filter, most).Run();
}

}  // namespace bulkhead::policy
