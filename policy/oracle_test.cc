// The kernel is really asked: a filter that is changed behind the policy's back
// is found by what the kernel does, not by what the bytecode looks like.

#include "policy/oracle.h"

#include <sys/syscall.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "policy/filter.h"
#include "policy/prove.h"
#include "policy/source.h"

namespace bulkhead::policy {
namespace {

std::vector<Answer> Ask(const std::vector<sock_filter>& filter,
                        const std::vector<Probe>& probes) {
  absl::StatusOr<std::vector<Answer>> answers = AskKernel(filter, probes);
  EXPECT_TRUE(answers.ok()) << answers.status();
  return answers.ok() ? *answers : std::vector<Answer>(probes.size());
}

TEST(OracleTest, TellsAllowedFromRefusedFromKilled) {
  // getpid is allowed, getuid refused with 7, the rest killed.
  const std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 7),
      // Nothing here looks at the architecture.
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const std::vector<Answer> answers =
      Ask(filter, {{.number = SYS_getpid},
                   {.number = SYS_write},
                   {.number = SYS_getuid},
                   {.interface = Interface::kX32, .number = SYS_getpid},
                   {.interface = Interface::kI386, .number = SYS_getpid}});
  EXPECT_EQ(answers[0].kind, Answer::kAllowed);
  EXPECT_EQ(answers[1].kind, Answer::kKilled);
  EXPECT_EQ(answers[2].kind, Answer::kRefused);
  EXPECT_EQ(answers[2].detail, 7);
  EXPECT_EQ(answers[3].kind, Answer::kKilled);
  // The hole that a filter without an architecture check has.
  EXPECT_EQ(answers[4].kind, Answer::kAllowed);
}

TEST(OracleTest, AFilterThatAllowsOneCallMoreIsFoundByTheKernelAlone) {
  absl::StatusOr<Source> source = LoadPolicy("policy/shim.textproto");
  ASSERT_TRUE(source.ok());
  // The policy that the filter is made of allows getcwd; the one that is proven
  // does not.
  Policy wider = source->policy;
  SyscallRule* rule = wider.add_rule();
  rule->set_syscall("getcwd");
  rule->set_phase(STEADY);
  const absl::StatusOr<std::vector<sock_filter>> filter =
      BuildFilter(wider, FilterPhase::kSteady);
  ASSERT_TRUE(filter.ok());
  const absl::StatusOr<Verdicts> verdicts =
      ProveBoth(source->policy, FilterPhase::kSteady, *filter);
  ASSERT_TRUE(verdicts.ok()) << verdicts.status();
  int by_kernel = 0;
  for (const std::string& text : verdicts->differences) {
    by_kernel += text == "getcwd: the policy kills, the kernel allows it";
  }
  EXPECT_EQ(by_kernel, 1);
}

}  // namespace
}  // namespace bulkhead::policy
