// What a person is told about a call that a policy does not allow.

#include "policy/explain.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace bulkhead::policy {
namespace {

const Policy& Shim() {
  static const Policy& policy = *new Policy(CompiledInPolicy("shim"));
  return policy;
}

TEST(ExplainTest, AnAllowedCallNamesItsRule) {
  const Explanation explanation = Explain(Shim(), FilterPhase::kSteady,
                                          {.syscall = "fcntl", .args = {9, 3}});
  EXPECT_TRUE(explanation.allowed);
  EXPECT_TRUE(absl::StrContains(explanation.rule, "fcntl(arg1 = F_GETFL)"))
      << explanation.rule;
}

TEST(ExplainTest, AWrongArgumentIsShownBesideTheNearestRulesValue) {
  const Explanation explanation =
      Explain(Shim(), FilterPhase::kSteady,
              {.syscall = "accept4", .args = {7, 0, 0, 526336}});
  EXPECT_FALSE(explanation.allowed);
  EXPECT_EQ(explanation.difference, "arg0 is 7, not 5");
  EXPECT_TRUE(absl::StrContains(explanation.rule, "accept4(arg0 = 5"))
      << explanation.rule;
}

TEST(ExplainTest, ARuleOfSetUpIsSaidToHaveEndedWithTheLockDown) {
  const Call call = {.syscall = "getsockopt", .args = {3, 1}};
  EXPECT_TRUE(Explain(Shim(), FilterPhase::kLaunch, call).allowed);
  const Explanation late = Explain(Shim(), FilterPhase::kSteady, call);
  EXPECT_FALSE(late.allowed);
  EXPECT_EQ(late.difference, "that rule ended with the lock-down (SET_UP)");
}

TEST(ExplainTest, ACallWithoutARuleNamesOneThatDoesMuchTheSame) {
  const Explanation explanation =
      Explain(Shim(), FilterPhase::kSteady, {.syscall = "epoll_wait"});
  EXPECT_EQ(explanation.difference,
            "no rule, in any phase, names epoll_wait; ppoll does much the "
            "same");
  EXPECT_TRUE(absl::StartsWith(explanation.rule, "ppoll, STEADY: "));
  EXPECT_TRUE(absl::StrContains(explanation.advice, "--policy_mode=learn"));
}

TEST(ExplainTest, WhatNoServiceMayDoIsCalledATakeOver) {
  const Explanation explanation =
      Explain(Shim(), FilterPhase::kSteady, {.syscall = "openat"});
  EXPECT_EQ(explanation.rule, "");
  EXPECT_TRUE(absl::StrContains(explanation.advice, "taken over"));
}

TEST(ExplainTest, AnotherInterfaceIsClosedWhateverIsCalled) {
  const Explanation explanation = Explain(
      Shim(), FilterPhase::kSteady, {.syscall = "recvmsg", .abi = "i386"});
  EXPECT_FALSE(explanation.allowed);
  EXPECT_TRUE(absl::StrContains(explanation.difference, "i386 interface"));
}

TEST(ExplainTest, APolicyThatDoesNotExistIsEmpty) {
  EXPECT_EQ(CompiledInPolicy("nothing").name(), "");
  EXPECT_EQ(CompiledInPolicy("lsi53c895a").name(), "lsi53c895a");
}

}  // namespace
}  // namespace bulkhead::policy
