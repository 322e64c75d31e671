// What is learnt from a process's calls.

#include "policy/learner.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace bulkhead::policy {
namespace {

Call Make(const std::string& syscall, uint64_t a = 0, uint64_t b = 0,
          uint64_t c = 0) {
  return {.syscall = syscall, .args = {a, b, c}};
}

TEST(LearnerTest, ACallWithoutARuleIsProposedAsOneWithItsConstantArguments) {
  Learner learner(CompiledInPolicy("shim"));
  learner.Add(FilterPhase::kSteady, Make("lseek", 5, 0x7ffff0001000, 2));
  learner.Add(FilterPhase::kSteady, Make("lseek", 6, 0x7ffff0002000, 2));
  EXPECT_EQ(learner.missing(), 1u);
  EXPECT_TRUE(absl::StrContains(
      learner.Report(),
      "2 times rule { syscall: \"lseek\" phase: STEADY arg { index: 2 equals: "
      "2 } why: \"...\" }"))
      << learner.Report();
}

TEST(LearnerTest, ARuleOfAnotherPhaseDoesNotCount) {
  Learner learner(CompiledInPolicy("shim"));
  learner.Add(FilterPhase::kLaunch, Make("getsockopt", 3, 1));
  EXPECT_EQ(learner.missing(), 0u);
  learner.Add(FilterPhase::kSteady, Make("getsockopt", 3, 1));
  EXPECT_EQ(learner.missing(), 1u);
  EXPECT_TRUE(absl::StrContains(learner.Report(), "ended with the lock-down"));
}

TEST(LearnerTest, ARefusalOfThePolicysOwnIsNothingMissing) {
  Learner learner(CompiledInPolicy("lsi53c895a"));
  learner.Add(FilterPhase::kSteady, Make("brk", 0x5555));
  EXPECT_EQ(learner.missing(), 0u);
}

TEST(LearnerTest, OtherInterfacesAreMissingWhateverTheNumber) {
  Learner learner(CompiledInPolicy("shim"));
  Call call = Make("recvmsg");
  call.abi = "i386";
  learner.Add(FilterPhase::kSteady, call);
  EXPECT_EQ(learner.missing(), 1u);
}

TEST(LearnerTest, RulesThatWereNotUsedAreListedWithTheirReasons) {
  Learner learner(CompiledInPolicy("shim"));
  learner.Add(FilterPhase::kSteady, Make("recvmsg", 3));
  const std::string report = learner.Report();
  EXPECT_TRUE(absl::StrContains(report, "sendmsg, STEADY: Answers QEMU"))
      << report;
  EXPECT_FALSE(absl::StrContains(report, "recvmsg, STEADY: Takes")) << report;
}

TEST(LearnerTest, AnArgumentThatNeverVariedCouldBeConstrained) {
  Learner learner(CompiledInPolicy("lsi53c895a"));
  for (int i = 0; i < 10; ++i) {
    learner.Add(FilterPhase::kSteady,
                Make("fallocate", 7, 3, 0x1000 * static_cast<uint64_t>(i)));
  }
  EXPECT_TRUE(absl::StrContains(
      learner.Report(),
      "fallocate(arg1 = FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE), STEADY (10 "
      "calls): arg0 was always 7"))
      << learner.Report();
}

}  // namespace
}  // namespace bulkhead::policy
