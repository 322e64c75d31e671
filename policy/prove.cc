#include "policy/prove.h"

#include <linux/audit.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "policy/proof.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

// i386 has about as many calls; x32 has its own from 512 to 547.
constexpr uint32_t kNumbers = 600;
constexpr uint32_t kX32Bit = 0x40000000;

// Called by the kernel's own trampolines; no filter is asked.
bool IsKernelException(const Probe& probe) {
  return probe.interface == Interface::kX86_64 &&
         (probe.number == 335 || probe.number == 336);
}

// Values on both sides of every edge of a constraint.
std::vector<uint64_t> Edges(const ArgumentConstraint& arg) {
  constexpr uint64_t kHigh = 1ULL << 32;
  switch (arg.test_case()) {
    case ArgumentConstraint::kEquals:
      return {arg.equals(), arg.equals() + 1, arg.equals() - 1,
              arg.equals() ^ kHigh, arg.equals() ^ (1ULL << 63)};
    case ArgumentConstraint::kLessOrEqual:
      return {arg.less_or_equal(), arg.less_or_equal() + 1,
              arg.less_or_equal() - 1, 0, arg.less_or_equal() ^ kHigh};
    case ArgumentConstraint::kGreaterOrEqual:
      return {arg.greater_or_equal(), arg.greater_or_equal() + 1,
              arg.greater_or_equal() - 1, ~0ULL};
    case ArgumentConstraint::kMasked: {
      std::vector<uint64_t> values = {
          arg.masked().value(), arg.masked().value() | ~arg.masked().mask()};
      for (int bit = 0; bit < 64; ++bit) {
        values.push_back(arg.masked().value() ^ (1ULL << bit));
      }
      return values;
    }
    case ArgumentConstraint::TEST_NOT_SET:
      break;
  }
  return {0};
}

// A value that a constraint admits.
uint64_t Inside(const ArgumentConstraint& arg) { return Edges(arg).front(); }

std::string ProbeText(const Probe& probe) {
  const bool i386 = probe.interface == Interface::kI386;
  std::string text =
      absl::StrCat(i386                                 ? "i386 "
                   : probe.interface == Interface::kX32 ? "x32 "
                                                        : "",
                   sandbox::SyscallName(static_cast<int>(probe.number), i386));
  for (int i = 0; i < 6; ++i) {
    if (probe.args[i] != 0) {
      absl::StrAppendFormat(&text, " arg%d=0x%x", i, probe.args[i]);
    }
  }
  return text;
}

std::string AnswerText(const Answer& answer) {
  switch (answer.kind) {
    case Answer::kAllowed:
      return "allows it";
    case Answer::kRefused:
      return absl::StrCat("refuses it with errno ", answer.detail);
    case Answer::kKilled:
      return "kills";
    case Answer::kOther:
      break;
  }
  return absl::StrCat("ends it otherwise (signal ", answer.detail, ")");
}

Answer Expected(const Policy& policy, FilterPhase phase, const Probe& probe) {
  seccomp_data call = {};
  call.arch =
      probe.interface == Interface::kI386 ? AUDIT_ARCH_I386 : AUDIT_ARCH_X86_64;
  call.nr = static_cast<int>(probe.interface == Interface::kX32
                                 ? probe.number | kX32Bit
                                 : probe.number);
  std::copy(std::begin(probe.args), std::end(probe.args), call.args);
  const uint32_t verdict = Verdict(policy, phase, call);
  if (verdict == SECCOMP_RET_ALLOW) return {.kind = Answer::kAllowed};
  if (verdict == SECCOMP_RET_KILL_PROCESS) return {.kind = Answer::kKilled};
  return {.kind = Answer::kRefused,
          .detail = static_cast<int>(verdict & SECCOMP_RET_DATA)};
}

void Judge(const Policy& policy, FilterPhase phase, const Probe& probe,
           const Answer& answer, Verdicts* verdicts) {
  verdicts->allowed += answer.kind == Answer::kAllowed;
  verdicts->refused += answer.kind == Answer::kRefused;
  verdicts->killed += answer.kind == Answer::kKilled;
  const Answer expected = Expected(policy, phase, probe);
  if (answer.kind == expected.kind && answer.detail == expected.detail) return;
  const std::string text =
      absl::StrCat(ProbeText(probe), ": the policy ", AnswerText(expected),
                   ", the kernel ", AnswerText(answer));
  if (IsKernelException(probe)) {
    verdicts->exceptions.push_back(text);
  } else {
    verdicts->differences.push_back(text);
  }
}

}  // namespace

std::vector<Probe> MakeProbes(const Policy& policy) {
  std::vector<Probe> probes;
  for (const Interface interface :
       {Interface::kX86_64, Interface::kX32, Interface::kI386}) {
    for (uint32_t number = 0; number < kNumbers; ++number) {
      probes.push_back({.interface = interface, .number = number});
    }
  }
  for (const uint32_t number :
       {0x3fffffffU, 0x40000000U, 0x7fffffffU, 0x80000000U, 0xffffffffU}) {
    probes.push_back({.number = number});
  }
  for (const SyscallRule& rule : policy.rule()) {
    Probe inside = {.number = static_cast<uint32_t>(
                        sandbox::SyscallNumber(rule.syscall()))};
    for (const ArgumentConstraint& arg : rule.arg()) {
      inside.args[arg.index()] = Inside(arg);
    }
    for (const ArgumentConstraint& arg : rule.arg()) {
      for (const uint64_t value : Edges(arg)) {
        Probe probe = inside;
        probe.args[arg.index()] = value;
        probes.push_back(probe);
      }
    }
  }
  return probes;
}

absl::StatusOr<Verdicts> ProveBoth(const Policy& policy, FilterPhase phase,
                                   Filter filter) {
  const ProofResult proof = Prove(policy, phase, filter);
  Verdicts verdicts = {.classes = proof.classes};
  for (const std::string& difference : proof.differences) {
    verdicts.differences.push_back("bytecode: " + difference);
  }
  const std::vector<Probe> probes = MakeProbes(policy);
  absl::StatusOr<std::vector<Answer>> answers = AskKernel(filter, probes);
  if (!answers.ok()) return answers.status();
  verdicts.probes = probes.size();
  for (size_t i = 0; i < probes.size(); ++i) {
    Judge(policy, phase, probes[i], (*answers)[i], &verdicts);
  }
  return verdicts;
}

}  // namespace bulkhead::policy
