// However a program breaks or ends, its policy allows it to, and the launcher
// can say what it was: last words in the log, a signal that fits, and no
// violation where there is none.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "policy/registry.h"
#include "sandbox/jail.h"
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

// The stack protector exists in every build but a sanitizer's, a check of
// _FORTIFY_SOURCE in optimised ones only.
const Way kWays[] = {
    {"abort", "fatal: abort() was called\n", SIGILL, 0},
    {"assert", "fatal: assertion failed: crasher.cc: 2 < 1\n", SIGILL, 0},
    {"stack", "fatal: the stack was smashed\n", SIGILL, 0},
#ifdef __OPTIMIZE__
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

class CrashTest : public testing::TestWithParam<std::tuple<const char*, Way>> {
};

TEST_P(CrashTest, StaysWithinThePolicyAndIsReportedAsWhatItIs) {
  const auto& [policy, way] = GetParam();
  const int program = open("tests/containment/crasher", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(program, 0);
  int log[2];
  int channel[2];
  ASSERT_EQ(pipe2(log, O_CLOEXEC), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
  sandbox::JailSpec spec;
  spec.policy = policy::FindPolicy(policy);
  spec.program_fd = program;
  spec.arguments = {"crasher", policy, way.name};
  spec.outside_id = 200778;
  for (int fd = 0; fd < 3; ++fd) spec.fds.push_back({log[1], fd});
  spec.fds.push_back({channel[1], 3});
  const absl::StatusOr<sandbox::Process> process = sandbox::Spawn(spec);
  ASSERT_TRUE(process.ok()) << process.status();
  close(log[1]);
  pollfd gone = {.fd = process->pidfd, .events = POLLIN, .revents = 0};
  while (poll(&gone, 1, 2) == 0) {
    for (const sandbox::Violation& violation : sandbox::HandleStops()) {
      ADD_FAILURE() << sandbox::DescribeViolation(violation);
    }
  }
  int status = 0;
  waitpid(process->pid, &status, 0);
  // The first of a pid namespace, traced: the kernel would let it fault for
  // ever, so the launcher ends it, and knows of what.
  const std::optional<sandbox::Crash> crash = sandbox::TakeCrash(process->pid);
  EXPECT_EQ(crash.has_value() ? crash->signal : 0, way.signal);
  EXPECT_EQ(WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            way.signal == 0 ? 0 : SIGKILL);
  if (crash.has_value()) {
    EXPECT_NE(crash->file_offset, 0u);
  }
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : 0, way.status);
  char words[512];
  const ssize_t size = read(log[0], words, sizeof(words));
  const std::string said(words, size > 0 ? size : 0);
  EXPECT_TRUE(way.last_words[0] == '\0'
                  ? said.empty()
                  : absl::StartsWith(said, way.last_words))
      << said;
  for (const int fd :
       {program, log[0], channel[0], channel[1], process->pidfd}) {
    close(fd);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ways, CrashTest,
    testing::Combine(testing::Values("lsi53c895a", "shim"),
                     testing::ValuesIn(kWays)),
    [](const testing::TestParamInfo<CrashTest::ParamType>& info) {
      return std::string(std::get<0>(info.param)) + "_" +
             std::get<1>(info.param).name;
    });

}  // namespace
}  // namespace bulkhead::containment
