// The proof accepts what the compiler makes of our policies, and notices when
// any single instruction says something else.

#include "policy/proof.h"

#include <linux/audit.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "policy/filter.h"
#include "policy/names.h"
#include "policy/source.h"
#include "sandbox/syscalls.h"

namespace bulkhead::policy {
namespace {

constexpr FilterPhase kPhases[] = {FilterPhase::kLaunch, FilterPhase::kSteady};

Policy Load(const std::string& name) {
  absl::StatusOr<Source> source =
      LoadPolicy(absl::StrCat("policy/", name, ".textproto"));
  EXPECT_TRUE(source.ok()) << source.status();
  return source->policy;
}

std::vector<sock_filter> Build(const Policy& policy, FilterPhase phase) {
  absl::StatusOr<std::vector<sock_filter>> filter = BuildFilter(policy, phase);
  EXPECT_TRUE(filter.ok()) << filter.status();
  return *filter;
}

class ProofTest : public testing::TestWithParam<const char*> {};

TEST_P(ProofTest, FilterSaysWhatThePolicySaysAboutEveryCall) {
  const Policy policy = Load(GetParam());
  for (const FilterPhase phase : kPhases) {
    const ProofResult proof = Prove(policy, phase, Build(policy, phase));
    EXPECT_TRUE(proof.differences.empty()) << proof.differences.front();
    EXPECT_GT(proof.classes, 10u);
    RecordProperty("classes", std::to_string(proof.classes));
  }
}

// Each instruction, replaced by an answer that it does not give.
TEST_P(ProofTest, NoticesEachInstructionThatAnswersInsteadOfAsking) {
  const Policy policy = Load(GetParam());
  for (const FilterPhase phase : kPhases) {
    const std::vector<sock_filter> filter = Build(policy, phase);
    for (size_t i = 0; i < filter.size(); ++i) {
      std::vector<sock_filter> changed = filter;
      const bool allows = filter[i].code == (BPF_RET | BPF_K) &&
                          filter[i].k == SECCOMP_RET_ALLOW;
      changed[i] = BPF_STMT(BPF_RET | BPF_K, allows ? SECCOMP_RET_KILL_PROCESS
                                                    : SECCOMP_RET_ALLOW);
      EXPECT_FALSE(Prove(policy, phase, changed, 1).differences.empty())
          << "instruction " << i;
    }
  }
}

// Each bit that decides something, flipped: what the proof lets pass must be
// what running both filters cannot tell apart either.
TEST_P(ProofTest, WhatItLetsPassAfterAFlipIsTheSameFilter) {
  const Policy policy = Load(GetParam());
  const FilterPhase phase = FilterPhase::kSteady;
  const std::vector<sock_filter> filter = Build(policy, phase);
  int noticed = 0;
  int same = 0;
  for (size_t i = 0; i < filter.size(); ++i) {
    std::vector<sock_filter> swapped = filter;
    std::swap(swapped[i].jt, swapped[i].jf);
    std::vector<sock_filter> off_by_one = filter;
    off_by_one[i].k += BPF_CLASS(filter[i].code) == BPF_LD ? 4 : 1;
    for (const std::vector<sock_filter>& changed : {swapped, off_by_one}) {
      if (!Prove(policy, phase, changed, 1).differences.empty()) {
        ++noticed;
        continue;
      }
      ++same;
      for (uint32_t number = 0; number < 600; ++number) {
        seccomp_data call = {};
        call.nr = static_cast<int>(number);
        call.arch = AUDIT_ARCH_X86_64;
        for (const uint64_t value : {0ULL, 1ULL, 4ULL, 120ULL, ~0ULL}) {
          for (auto& arg : call.args) arg = value;
          EXPECT_EQ(Evaluate(changed, call), Evaluate(filter, call));
        }
      }
    }
  }
  EXPECT_GT(noticed, same);
}

INSTANTIATE_TEST_SUITE_P(Policies, ProofTest, testing::ValuesIn(kPolicyNames),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

TEST(VerdictTest, OtherInterfacesOfTheKernelAreKilledWhateverTheNumber) {
  const Policy policy = Load("lsi53c895a");
  const std::vector<sock_filter> filter = Build(policy, FilterPhase::kSteady);
  const int write = sandbox::SyscallNumber("pwritev2");
  seccomp_data call = {.nr = write, .arch = AUDIT_ARCH_X86_64};
  EXPECT_EQ(Evaluate(filter, call), SECCOMP_RET_ALLOW);
  call.arch = AUDIT_ARCH_I386;
  EXPECT_EQ(Evaluate(filter, call), SECCOMP_RET_KILL_PROCESS);
  call = {.nr = write | 0x40000000, .arch = AUDIT_ARCH_X86_64};
  EXPECT_EQ(Evaluate(filter, call), SECCOMP_RET_KILL_PROCESS);
  call = {.nr = -1, .arch = AUDIT_ARCH_X86_64};
  EXPECT_EQ(Evaluate(filter, call), SECCOMP_RET_KILL_PROCESS);
}

// 64-bit comparisons are made of two 32-bit words; the edges are where a
// compiler goes wrong.
TEST(VerdictTest, ComparisonsHoldAcrossTheEdgeOfAWord) {
  const absl::StatusOr<Source> source = ParsePolicy(
      "rule { syscall: 'read' phase: STEADY "
      "arg { index: 2 less_or_equal: 0x1ffffffff } }"
      "rule { syscall: 'write' phase: STEADY "
      "arg { index: 2 greater_or_equal: 0x100000001 } }",
      "edges");
  ASSERT_TRUE(source.ok()) << source.status();
  const std::vector<sock_filter> filter =
      Build(source->policy, FilterPhase::kSteady);
  const ProofResult proof = Prove(source->policy, FilterPhase::kSteady, filter);
  EXPECT_TRUE(proof.differences.empty()) << proof.differences.front();
  const auto allows = [&](int number, uint64_t value) {
    seccomp_data call = {.nr = number, .arch = AUDIT_ARCH_X86_64};
    call.args[2] = value;
    return Evaluate(filter, call) == SECCOMP_RET_ALLOW;
  };
  EXPECT_TRUE(allows(0, 0x1ffffffff));
  EXPECT_FALSE(allows(0, 0x200000000));
  EXPECT_FALSE(allows(1, 0x100000000));
  EXPECT_TRUE(allows(1, 0x100000001));
  EXPECT_TRUE(allows(1, 0x200000000));
}

}  // namespace
}  // namespace bulkhead::policy
