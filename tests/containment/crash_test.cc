// However a program breaks or ends, its policy allows it to, and the launcher
// can say what it was: last words in the log, a signal that fits, and no
// violation where there is none.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "policy/registry.h"
#include "sandbox/spawn.h"
#include "sandbox/violation.h"
#include "sandbox/violation_text.h"

namespace bulkhead::containment {
namespace {

struct Way {
  const char* name;
  const char* last_words;
  int signal;
  int status;
};

// The checks of _FORTIFY_SOURCE exist in optimised builds that are no
// sanitizer's.
const Way kWays[] = {
    {"abort", "fatal: abort() was called\n", SIGILL, 0},
    {"assert", "fatal: assertion failed: crasher.cc: 2 < 1\n", SIGILL, 0},
    {"stack", "fatal: the stack was smashed\n", SIGILL, 0},
#if defined(__OPTIMIZE__) && defined(_FORTIFY_SOURCE)
    {"buffer", "fatal: a buffer's end was overrun\n", SIGILL, 0},
#endif
    {"free_twice", "fatal: the C library", SIGILL, 0},
    {"no_memory", "fatal: out of memory\n", SIGILL, 0},
    {"terminate", "fatal: std::terminate\n", SIGILL, 0},
    {"null", "", SIGSEGV, 0},
    {"trap", "", SIGILL, 0},
    {"exit", "", 0, 3},
    {"quick_exit", "", 0, 4},
    {"return", "", 0, 5},
};

// How it ended, as the launcher sees it.
struct End {
  int crash_signal = 0;  // of which the launcher ended it
  uint64_t file_offset = 0;
  int wait_status = 0;
  std::string said;
};

End RunToItsEnd(sandbox::JailSpec spec) {
  End end;
  int log[2];
  int channel[2];
  EXPECT_EQ(pipe2(log, O_CLOEXEC), 0);
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
  spec.outside_id = 200778;
  for (int fd = 0; fd < 3; ++fd) spec.fds.push_back({log[1], fd});
  spec.fds.push_back({channel[1], 3});
  const absl::StatusOr<sandbox::Process> process = sandbox::Spawn(spec);
  close(log[1]);
  EXPECT_TRUE(process.ok()) << process.status();
  if (process.ok()) {
    pollfd gone = {.fd = process->pidfd, .events = POLLIN, .revents = 0};
    while (poll(&gone, 1, 2) == 0) sandbox::HandleStops();
    const sandbox::Death death = sandbox::TakeDeath(process->pid);
    EXPECT_FALSE(death.violation)
        << sandbox::DescribeViolation(*death.violation);
    waitpid(process->pid, &end.wait_status, 0);
    // The first of a pid namespace, traced: the kernel would let it fault for
    // ever, so the launcher ends it, and knows of what.
    if (death.crash.has_value()) {
      end.crash_signal = death.crash->signal;
      end.file_offset = death.crash->file_offset;
    }
    close(process->pidfd);
  }
  char words[512];
  const ssize_t size = read(log[0], words, sizeof(words));
  end.said.assign(words, size > 0 ? size : 0);
  for (const int fd : {log[0], channel[0], channel[1]}) close(fd);
  return end;
}

void ExpectEnd(const End& end, int signal, int status) {
  EXPECT_EQ(end.crash_signal, signal);
  EXPECT_EQ(WIFSIGNALED(end.wait_status) ? WTERMSIG(end.wait_status) : 0,
            signal == 0 ? 0 : SIGKILL);
  EXPECT_EQ(WIFEXITED(end.wait_status) ? WEXITSTATUS(end.wait_status) : 0,
            status);
  if (signal != 0) {
    EXPECT_NE(end.file_offset, 0u);
  }
}

std::vector<std::string> Policies(bool empty_root) {
  std::vector<std::string> names;
  for (const sandbox::CompiledPolicy* policy : policy::AllPolicies()) {
    if (policy->empty_root == empty_root) names.push_back(policy->name);
  }
  return names;
}

// The programs of ours: each with one filter that it was started under, and one
// that it has installed.
class CrashTest : public testing::TestWithParam<std::tuple<std::string, Way>> {
};

TEST_P(CrashTest, StaysWithinThePolicyAndIsReportedAsWhatItIs) {
  const auto& [policy, way] = GetParam();
  // Whose main sets another writer.
  const std::set<std::string> kByWrite = {"connector", "console", "shim",
                                          "x_remote_adapter"};
  const int program = open("tests/containment/crasher", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(program, 0);
  sandbox::JailSpec spec;
  spec.policy = policy::FindPolicy(policy);
  spec.program_fd = program;
  spec.arguments = {"crasher", policy,
                    kByWrite.count(policy) != 0 ? "write" : "pwritev2",
                    way.name};
  const End end = RunToItsEnd(spec);
  ExpectEnd(end, way.signal, way.status);
  EXPECT_TRUE(way.last_words[0] == '\0'
                  ? end.said.empty()
                  : absl::StartsWith(end.said, way.last_words))
      << end.said;
  close(program);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, CrashTest,
    testing::Combine(testing::ValuesIn(Policies(/*empty_root=*/true)),
                     testing::ValuesIn(kWays)),
    [](const testing::TestParamInfo<CrashTest::ParamType>& info) {
      return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
    });

// What libc says on its own, and how a program of others ends then.
const Way kStockWays[] = {
    {"abort", "", SIGABRT, 0},
    {"abort_in_a_thread", "", SIGABRT, 0},
    {"assert", "stock_crasher: crasher.cc:", SIGABRT, 0},
    {"stack", "*** stack smashing detected ***: terminated\n", SIGABRT, 0},
    {"free_twice", "double free", SIGABRT, 0},
    {"no_memory", "", SIGABRT, 0},
    {"null", "", SIGSEGV, 0},
    {"trap", "", SIGILL, 0},
    {"exit", "", 0, 3},
    {"quick_exit", "", 0, 4},
    {"return", "", 0, 5},
};

// QEMU's and the image tools' policies, under which programs run that are not
// ours, with the C library's own ways of breaking.
class StockCrashTest
    : public testing::TestWithParam<std::tuple<std::string, Way>> {};

TEST_P(StockCrashTest, StaysWithinThePolicyAndIsReportedAsWhatItIs) {
  const auto& [policy, way] = GetParam();
  char* const path = realpath("tests/containment/stock_crasher", nullptr);
  ASSERT_NE(path, nullptr);
  const int program = open(path, O_RDONLY | O_CLOEXEC);
  ASSERT_GE(program, 0);
  sandbox::JailSpec spec;
  spec.policy = policy::FindPolicy(policy);
  spec.program_fd = program;
  spec.program_path = "/stock_crasher";
  spec.arguments = {"stock_crasher", way.name};
  spec.binds = {{.source = "/usr", .target = "/usr"},
                {.source = path, .target = "/stock_crasher"}};
  const End end = RunToItsEnd(spec);
  ExpectEnd(end, way.signal, way.status);
  EXPECT_TRUE(absl::StartsWith(end.said, way.last_words)) << end.said;
  close(program);
  free(path);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, StockCrashTest,
    testing::Combine(testing::ValuesIn(Policies(/*empty_root=*/false)),
                     testing::ValuesIn(kStockWays)),
    [](const testing::TestParamInfo<StockCrashTest::ParamType>& info) {
      return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
    });

}  // namespace
}  // namespace bulkhead::containment
