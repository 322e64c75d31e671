// What code that took a service over can do from inside the real jail, in the
// steady phase, and what the same code can do without one.
//
// When root runs the test, everything is run a second time with jails that an
// ordinary user made.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proxy/shim_process.h"
#include "sandbox/violation_text.h"
#include "tests/containment/world.h"

namespace bulkhead::containment {
namespace {

int program_fd = -1;
std::map<std::string, int> counts;

// "NAME returned R errno E"
bool Returned(const End& end, long* result, int* error) {
  const size_t at = end.output.find(" returned ");
  return at != std::string::npos &&
         sscanf(end.output.c_str() + at, " returned %ld errno %d", result,
                error) == 2;
}

std::string Describe(const End& end) {
  std::string text = absl::StrCat("\"", end.output.substr(0, 200), "\" signal ",
                                  end.signal, " status ", end.status);
  if (end.violation) {
    absl::StrAppend(&text, ", killed for ",
                    sandbox::DescribeViolation(*end.violation));
  }
  return text;
}

class AttemptTest : public testing::TestWithParam<Attempt> {};

class InJailTest : public AttemptTest {
 protected:
  static void SetUpTestSuite() {
    world_ = std::make_unique<World>(program_fd, /*jailed_sibling=*/true);
  }
  static void TearDownTestSuite() { world_.reset(); }
  static std::unique_ptr<World> world_;
};
std::unique_ptr<World> InJailTest::world_;

void ExpectKilled(const Attempt& attempt, const End& end) {
  EXPECT_EQ(end.signal, SIGSYS) << Describe(end);
  ASSERT_TRUE(end.violation) << Describe(end);
  EXPECT_EQ(sandbox::SyscallOf(*end.violation), attempt.syscall);
  EXPECT_EQ(end.violation->filters, 2);
  ++counts["killed"];
}

// What each attempt that comes back may have reached at most.
void ExpectBounded(const Attempt& attempt, long result) {
  const std::map<std::string, long> kMost = {
      {"all_memory", 64},  // MiB; it asked for 512
      {"all_fds", 96},     // RLIMIT_NOFILE; 120 were handed to it
      {"flood_the_log", 64 * 1024 / 20 + 1},
      {"flood_the_shim", 1000},
      {"fill_the_disk", 4 << 20},  // of 16 MiB that it asked for
  };
  const auto most = kMost.find(attempt.name);
  if (most != kMost.end()) {
    EXPECT_LE(result, most->second);
  }
  ++counts["bounded"];
}

TEST_P(InJailTest, IsContained) {
  const Attempt& attempt = GetParam();
  const End end = world_->RunJailed(attempt);
  ASSERT_TRUE(end.started) << end.output;
  long result = 0;
  int error = 0;
  if (attempt.jailed == Jailed::kKilled) {
    ExpectKilled(attempt, end);
  } else {
    EXPECT_EQ(end.signal, 0) << Describe(end);
    EXPECT_FALSE(end.violation) << Describe(end);
    if (absl::StrContains(end.output, "forged line")) {
      result = static_cast<long>(end.output.size() / 20);  // the log is full
    } else {
      ASSERT_TRUE(Returned(end, &result, &error)) << Describe(end);
    }
    if (attempt.jailed == Jailed::kRefused) {
      EXPECT_EQ(result, -1);
      EXPECT_TRUE(error == EPERM || error == ENOMEM || error == EACCES ||
                  error == EFBIG)
          << error;
      ++counts["refused"];
    } else {
      ExpectBounded(attempt, result);
    }
  }
  EXPECT_EQ(world_->Changes(), std::vector<std::string>());
}

class FreeTest : public AttemptTest {};

TEST_P(FreeTest, IsARealAttempt) {
  const Attempt& attempt = GetParam();
  World world(program_fd, /*jailed_sibling=*/false);
  const End end = world.RunFree(attempt);
  ASSERT_TRUE(end.started);
  EXPECT_NE(end.signal, SIGSYS) << Describe(end);
  long result = 0;
  int error = 0;
  const bool returned = Returned(end, &result, &error);
  if (attempt.free == Free::kReached) {
    // The kernel gave an answer of its own, or the program became another.
    EXPECT_TRUE(returned || end.status == 0 || end.signal != 0)
        << Describe(end);
    ++counts["reached"];
    return;
  }
  // It is what it says: the call succeeds, or another program runs.
  EXPECT_TRUE(returned ? result >= 0 : end.status == 0 && end.signal == 0)
      << Describe(end);
  const std::set<std::string> kVisible = {"creat",
                                          "mkdir",
                                          "mknod",
                                          "symlink",
                                          "rename",
                                          "unlink",
                                          "truncate",
                                          "tcp",
                                          "unix_path",
                                          "unix_abstract",
                                          "kill_sibling",
                                          "tgkill_sibling",
                                          "queue_signal",
                                          "slow_sibling_down",
                                          "shrink_ram",
                                          "grow_ram",
                                          "grow_ram_by_allocation",
                                          "write_behind_ram",
                                          "grow_state",
                                          "write_behind_state",
                                          "fill_the_disk",
                                          "write_far_behind_the_disk",
                                          "grow_the_disk",
                                          "allocate_the_disk",
                                          "unlink_in_a_folder_handed_over"};
  if (kVisible.count(attempt.name) != 0) {
    EXPECT_FALSE(world.Changes().empty()) << "it left no trace";
    ++counts["seen from outside"];
  }
  ++counts["done"];
}

std::string Name(const testing::TestParamInfo<Attempt>& info) {
  return absl::StrCat(info.param.group, "_", info.param.name);
}

INSTANTIATE_TEST_SUITE_P(Battery, InJailTest, testing::ValuesIn(AllAttempts()),
                         Name);
INSTANTIATE_TEST_SUITE_P(Battery, FreeTest, testing::ValuesIn(AllAttempts()),
                         Name);

int CountFds(pid_t pid) {
  int count = 0;
  for (int fd = 0; fd < 4096; ++fd) {
    char target[64];
    count += readlink(absl::StrCat("/proc/", pid, "/fd/", fd).c_str(), target,
                      sizeof(target)) > 0;
  }
  return count;
}

// The real shim takes none of what it did not ask for, and lives.
TEST(ShimContainmentTest, KeepsNothingThatATakenOverServiceHandsToIt) {
  const int ram = memfd_create("ram", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(ram, 1 << 20), 0);
  for (const Attempt& attempt : AllAttempts()) {
    if (std::string(attempt.group) != "neighbours" ||
        !absl::EndsWith(attempt.name, "_the_shim")) {
      continue;
    }
    World world(program_fd, /*jailed_sibling=*/true);
    char folder[] = "/tmp/shimXXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    proxy::ShimProcess shim("proxy/shim", absl::StrCat(folder, "/s"),
                            ShimConfig(), ram);
    const int channel = shim.TakeServiceEnd();
    const int fds_before = CountFds(shim.pid());
    const End end = world.RunJailed(attempt, channel);
    EXPECT_EQ(end.signal, 0) << Describe(end);
    close(channel);
    for (int i = 0; i < 200 && CountFds(shim.pid()) > fds_before; ++i) {
      usleep(5000);
    }
    EXPECT_TRUE(shim.running()) << attempt.name;
    // It has let go of the channel, and holds nothing new. (Root sees that.)
    EXPECT_LE(CountFds(shim.pid()), fds_before) << attempt.name;
    EXPECT_EQ(shim.End(), 0) << attempt.name;
    rmdir(folder);
    ++counts["refused by the shim"];
  }
  close(ram);
}

TEST(BatteryTest, HasAtLeastEightyDifferentAttempts) {
  std::set<std::string> names;
  for (const Attempt& attempt : AllAttempts()) names.insert(attempt.name);
  EXPECT_EQ(names.size(), AllAttempts().size());
  EXPECT_GE(names.size(), 80u);
}

void PrintCounts(const char* who) {
  const int contained =
      counts["killed"] + counts["refused"] + counts["bounded"];
  printf(
      "%s: %d of %zu attempts contained: %d killed and reported by name, %d "
      "refused, %d bounded; without a jail %d done (%d seen from outside), "
      "%d answered by the kernel; %d of 4 refused by the real shim\n",
      who, contained, AllAttempts().size(), counts["killed"], counts["refused"],
      counts["bounded"], counts["done"], counts["seen from outside"],
      counts["reached"], counts["refused by the shim"]);
}

int RunAsUser() {
  const pid_t child = fork();
  if (child != 0) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  constexpr uid_t kUser = 54321;
  if (setgroups(0, nullptr) != 0 || setresgid(kUser, kUser, kUser) != 0 ||
      setresuid(kUser, kUser, kUser) != 0) {
    _exit(9);
  }
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  testing::TestEventListeners& listeners =
      testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_xml_generator());
  unsetenv("TEST_PREMATURE_EXIT_FILE");
  // The shim's program lies where this user cannot look.
  testing::GTEST_FLAG(filter) = "-ShimContainmentTest.*";
  const int result = RUN_ALL_TESTS();
  PrintCounts("jails of an ordinary user");
  fflush(stdout);
  _exit(result);
}

}  // namespace

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  alarm(280);
  program_fd = open("tests/containment/taken_over", O_RDONLY | O_CLOEXEC);
  if (program_fd < 0) {
    perror("taken_over");
    return 1;
  }
  const int as_user = geteuid() == 0 ? RunAsUser() : 0;
  const int result = RUN_ALL_TESTS();
  PrintCounts(geteuid() == 0 ? "jails of root" : "jails of this user");
  return as_user != 0 ? 1 : result;
}

}  // namespace bulkhead::containment

int main(int argc, char** argv) {
  return bulkhead::containment::Main(argc, argv);
}
