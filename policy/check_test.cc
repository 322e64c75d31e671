// A policy that says something else than it seems to say does not compile.

#include "policy/check.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "policy/generate.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

// A policy that is right; a test adds what is wrong.
std::string Base() {
  return R"(name: "x"
description: "For the test."
rule { syscall: "execveat" phase: LAUNCH arg { index: 0 equals: 120 }
       arg { index: 4 equals: 4096 name: "AT_EMPTY_PATH" } why: "It must start." }
rule { syscall: "exit_group" phase: STEADY why: "It must end somehow." }
jail { namespace: ["cgroup", "ipc", "mount", "net", "pid", "time", "user", "uts"]
       memory_deny_write_execute: true }
)";
}

std::string Complaint(const std::string& more) {
  const absl::StatusOr<Source> source =
      ParsePolicy(Base() + more, "policy/x.textproto");
  if (!source.ok()) return std::string(source.status().message());
  return std::string(Check(*source).message());
}

struct Mistake {
  const char* name;
  const char* text;
  const char* complaint;
};

class MistakeTest : public testing::TestWithParam<Mistake> {};

TEST_P(MistakeTest, IsRefusedWithFileLineFieldAndRemedy) {
  const std::string complaint = Complaint(GetParam().text);
  EXPECT_TRUE(absl::StrContains(complaint, GetParam().complaint)) << complaint;
  EXPECT_TRUE(absl::StartsWith(complaint, "policy/x.textproto:8: "))
      << complaint;
}

INSTANTIATE_TEST_SUITE_P(
    CheckTest, MistakeTest,
    testing::Values(
        Mistake{"UnknownField", "rul { }", "proto/policy.proto"},
        Mistake{
            "UnknownSyscall",
            "rule { syscall: 'preadv3' phase: STEADY why: 'Reads things.' }",
            "did you mean preadv"},
        Mistake{"NoWhy", "rule { syscall: 'read' phase: STEADY }", "why"},
        Mistake{"NoPhase", "rule { syscall: 'read' why: 'Reads things.' }",
                "phase: missing; LAUNCH, SET_UP or STEADY"},
        Mistake{"Duplicate",
                "rule { syscall: 'exit_group' phase: STEADY why: 'Ends it once "
                "more.' }",
                "says nothing that another rule does not say "
                "(policy/x.textproto:5)"},
        Mistake{"DuplicateInAnEarlierPhase",
                "rule { syscall: 'exit_group' phase: SET_UP why: 'Ends it once "
                "more.' }",
                "says nothing"},
        Mistake{"ForbiddenInSteadyState",
                "rule { syscall: 'socket' phase: STEADY why: 'Talks to all.' }",
                "not possible in the steady state"},
        Mistake{"ExecutableMemory",
                "rule { syscall: 'mmap' phase: SET_UP why: 'Maps things in.' }",
                "must exclude PROT_EXEC"},
        Mistake{
            "AnyProgram",
            "rule { syscall: 'execveat' phase: SET_UP why: 'Starts things.' "
            "arg { index: 0 equals: 7 } }",
            "must name the program's fd"},
        Mistake{"WrongName",
                "rule { syscall: 'fcntl' phase: SET_UP why: 'Asks for flags.' "
                "arg { index: 1 equals: 4 name: 'F_GETFL' } }",
                "F_GETFL is 3, not 4"},
        Mistake{"ArgumentTwice",
                "rule { syscall: 'fcntl' phase: SET_UP why: 'Asks for flags.' "
                "arg { index: 1 greater_or_equal: 1 } "
                "arg { index: 1 less_or_equal: 3 } }",
                "constrained twice"},
        Mistake{"ArgumentSeven",
                "rule { syscall: 'fcntl' phase: SET_UP why: 'Asks for flags.' "
                "arg { index: 6 equals: 1 } }",
                "arguments 0 to 5"},
        Mistake{"NeverTrue",
                "rule { syscall: 'fcntl' phase: SET_UP why: 'Asks for flags.' "
                "arg { index: 1 masked { mask: 1 value: 2 } } }",
                "never true"},
        Mistake{"ErrnoWithoutValue",
                "rule { syscall: 'clone3' phase: SET_UP action: ERRNO "
                "why: 'Says that it is not there.' }",
                "errno_value"},
        Mistake{"HotButNotSteady",
                "rule { syscall: 'read' phase: SET_UP hot: true "
                "why: 'Reads things.' }",
                "only a STEADY rule"},
        Mistake{"UnknownLimit",
                "rlimit { name: 'RLIMIT_HEAT' value: 1 why: 'It is hot.' }",
                "no such limit"},
        Mistake{"FdOutOfRange",
                "fd { name: 'a' first: 119 max_count: 2 kind: MEMFD "
                "access: READ why: 'Reads it.' }",
                "are taken"}),
    [](const testing::TestParamInfo<Mistake>& info) {
      return std::string(info.param.name);
    });

TEST(CheckTest, TheBaseOfTheseTestsIsRight) { EXPECT_EQ(Complaint(""), ""); }

TEST(CheckTest, ARuleThatAnotherMakesMeaninglessIsNamedWithTheOther) {
  const std::string complaint = Complaint(
      "rule { syscall: 'fcntl' phase: SET_UP why: 'Asks for flags.' "
      "arg { index: 1 equals: 3 } }\n"
      "rule { syscall: 'fcntl' phase: SET_UP why: 'Does all it can.' }");
  EXPECT_TRUE(
      absl::StrContains(complaint, "policy/x.textproto:9: rule (fcntl)"))
      << complaint;
  EXPECT_TRUE(absl::StrContains(complaint, "(policy/x.textproto:8)"))
      << complaint;
}

TEST(CheckTest, AWiderRuleInAnEarlierPhaseIsNoDuplicate) {
  EXPECT_EQ(Complaint("rule { syscall: 'fcntl' phase: STEADY "
                      "why: 'Asks for flags.' arg { index: 1 equals: 3 } }\n"
                      "rule { syscall: 'fcntl' phase: SET_UP "
                      "why: 'Sets up the fds.' }"),
            "");
}

TEST(CheckTest, TwoActionsForOneCallMustBeDisjoint) {
  const std::string complaint = Complaint(
      "rule { syscall: 'prctl' phase: SET_UP why: 'Names threads.' "
      "arg { index: 0 equals: 15 } }\n"
      "rule { syscall: 'prctl' phase: SET_UP why: 'Not the rest.' "
      "action: ERRNO errno_value: 1 }");
  EXPECT_TRUE(absl::StrContains(complaint, "make their arguments disjoint"))
      << complaint;
}

TEST(CheckTest, AProcessThatCouldNotStartOrEndIsRefused) {
  const absl::StatusOr<Source> source =
      ParsePolicy("name: 'x' description: 'Nothing.'", "policy/x.textproto");
  const std::string complaint(Check(*source).message());
  EXPECT_TRUE(absl::StrContains(complaint, "a jail has all eight"));
}

TEST(GenerateTest, TheSamePolicyGivesTheSameBytes) {
  const absl::StatusOr<Source> source =
      LoadPolicy("policy/lsi53c895a.textproto");
  ASSERT_TRUE(source.ok());
  const absl::StatusOr<Compiled> first = Compile(*source);
  const absl::StatusOr<Compiled> second = Compile(*source);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(SourceText(source->policy, *first, "x.h"),
            SourceText(source->policy, *second, "x.h"));
}

TEST(GenerateTest, NamesFunctionsInCamelCase) {
  EXPECT_EQ(FunctionName("lsi53c895a"), "Lsi53c895a");
  EXPECT_EQ(FunctionName("virtio_blk"), "VirtioBlk");
}

TEST(CheckTest, AnEmptyRootShowsNoDeviceNode) {
  std::string text = Base();
  text.insert(text.find("memory_deny"), "device_node: \"/dev/null\" ");
  const absl::StatusOr<Source> source = ParsePolicy(text, "policy/x.textproto");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE(absl::StrContains(Check(*source).message(),
                                "/dev/null: an empty root shows no device"));
}

}  // namespace
}  // namespace bulkhead::policy
