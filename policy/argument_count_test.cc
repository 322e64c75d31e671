// Learning proposes rules for the arguments that a call has, and for no others.

#include "policy/argument_count.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "policy/names.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

TEST(ArgumentCountTest, IsKnownOfEveryCallThatAPolicyNames) {
  for (const char* name : kPolicyNames) {
    const absl::StatusOr<Source> source =
        LoadPolicy(absl::StrCat("policy/", name, ".textproto"));
    ASSERT_TRUE(source.ok()) << source.status();
    for (const SyscallRule& rule : source->policy.rule()) {
      EXPECT_TRUE(KnowsArgumentCount(rule.syscall())) << rule.syscall();
      for (const ArgumentConstraint& arg : rule.arg()) {
        EXPECT_LT(static_cast<int>(arg.index()), ArgumentCount(rule.syscall()))
            << name << ": " << rule.syscall();
      }
    }
  }
}

TEST(ArgumentCountTest, SomeOfEachCount) {
  EXPECT_EQ(ArgumentCount("sched_yield"), 0);
  EXPECT_EQ(ArgumentCount("close"), 1);
  EXPECT_EQ(ArgumentCount("munmap"), 2);
  EXPECT_EQ(ArgumentCount("getsockname"), 3);
  EXPECT_EQ(ArgumentCount("clock_nanosleep"), 4);
  EXPECT_EQ(ArgumentCount("prctl"), 5);
  EXPECT_EQ(ArgumentCount("mmap"), 6);
  EXPECT_EQ(ArgumentCount("of_no_policy"), 6);
}

}  // namespace
}  // namespace bulkhead::policy
