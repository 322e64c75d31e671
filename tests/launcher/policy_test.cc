// Policies in a running VM: what is said when one is broken or a process
// breaks, what an audit sees, what learning tells. Without QEMU: the VM is its
// services.

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/another_service.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class PolicyTest : public ::testing::Test {
 protected:
  PolicyTest() {
    std::ofstream(scratch_.path() + "/disk") << std::string(1 << 20, 'x');
  }

  std::vector<std::string> Arguments(const std::string& vm) {
    return {vm,
            "--no_qemu",
            "--name=policies",
            "--memory=64MiB",
            "--runtime_dir=" + scratch_.path() + "/run",
            "--device=lsi53c895a,id=lsi0",
            "--disk=lsi0:0,format=raw,file=" + scratch_.path() + "/disk"};
  }

  std::string WithService(const std::string& service) {
    return VmWithService(scratch_.path() + "/built", service);
  }

  // The lines that are JSON.
  static std::vector<nlohmann::json> Events(const std::string& output) {
    std::vector<nlohmann::json> events;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line[0] != '{') continue;
      events.push_back(nlohmann::json::parse(line, nullptr, false));
    }
    return events;
  }

  ScratchDirectory scratch_;
};

TEST_F(PolicyTest, AViolationIsReportedWithItsPlaceTheNearestRuleAndARemedy) {
  Process vm(Arguments(WithService("opens_a_file")));
  EXPECT_EQ(vm.Wait(Seconds(30)), 148) << vm.output();
  EXPECT_THAT(vm.output(),
              HasSubstr("VIOLATION lsi0: openat(AT_FDCWD, \"/etc/passwd\", "
                        "O_RDONLY, 0) at syscall+0x"));
  EXPECT_THAT(vm.output(), HasSubstr("killed by policy lsi53c895a "));
  EXPECT_THAT(vm.output(),
              HasSubstr("why not: no rule, in any phase, names openat"));
  EXPECT_THAT(vm.output(), HasSubstr("what to do: No policy may allow this"));
  const std::vector<nlohmann::json> events = Events(vm.output());
  ASSERT_EQ(events.size(), 1u) << vm.output();
  const nlohmann::json& event = events[0];
  EXPECT_EQ(event["event"], "policy_violation");
  EXPECT_EQ(event["vm"], "policies");
  EXPECT_EQ(event["device"], "lsi0");
  EXPECT_EQ(event["syscall"], "openat");
  EXPECT_EQ(event["phase"], "steady state");
  EXPECT_EQ(event["args"].size(), 6u);
  EXPECT_THAT(event["pc"].get<std::string>(), HasSubstr("(program+0x"));
}

// The first process of a pid namespace, traced: left alone, it would fault for
// ever.
TEST_F(PolicyTest, AServiceThatBreaksEndsAndIsReportedWithItsPlace) {
  Process vm(Arguments(WithService("breaks")));
  EXPECT_EQ(vm.Wait(Seconds(30)), 70) << vm.output();
  EXPECT_THAT(vm.output(),
              HasSubstr("crashed with signal 11 (Segmentation fault) at "
                        "bulkhead::misbehaving::FollowNowhere()+0x"));
  EXPECT_THAT(vm.output(), ::testing::Not(HasSubstr("VIOLATION")));
}

TEST_F(PolicyTest, LearningProposesTheRuleThatIsMissing) {
  std::vector<std::string> arguments = Arguments(WithService("opens_a_file"));
  arguments.push_back("--policy_mode=learn");
  Process vm(arguments);
  vm.Wait(Seconds(30));
  EXPECT_THAT(vm.output(), HasSubstr("learnt, with no filter in force:"));
  EXPECT_THAT(vm.output(),
              ContainsRegex("policy lsi53c895a: [0-9]+ calls seen\n"
                            "  missing rules: 1\n"
                            "    1 times rule . syscall: \"openat\" phase: "
                            "STEADY"));
}

TEST_F(PolicyTest, LearningFindsNothingMissingForTheRealProcesses) {
  std::vector<std::string> arguments = Arguments("launcher/vm");
  arguments.push_back("--policy_mode=learn");
  Process vm(arguments);
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", Seconds(60))) << vm.output();
  EXPECT_THAT(vm.output(), HasSubstr("NO FILTER IS ENFORCED"));
  vm.Signal(SIGINT);
  EXPECT_EQ(vm.Wait(Seconds(30)), 0) << vm.output();
  for (const char* policy : {"lsi53c895a", "shim", "console"}) {
    EXPECT_THAT(vm.output(),
                ContainsRegex(std::string("policy ") + policy +
                              ": [0-9]+ calls seen\n  missing rules: 0\n"));
  }
  EXPECT_THAT(vm.output(), HasSubstr("rules never exercised: "));
  EXPECT_THAT(vm.output(), HasSubstr("constraints that could be tighter:"));
}

// The launcher is the tracer of its processes, so it reads their filters back
// for the auditor.
TEST_F(PolicyTest, AnAuditOfARunningVmComparesEveryFilterInstruction) {
  Process vm(Arguments("launcher/vm"));
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", Seconds(60))) << vm.output();
  for (const char* format : {"--format=json", "--format=sarif"}) {
    Process audit({"policy/audit", "policies", format});
    EXPECT_EQ(audit.Wait(Seconds(30)), 0) << audit.output();
    const nlohmann::json report =
        nlohmann::json::parse(audit.output(), nullptr, false);
    ASSERT_FALSE(report.is_discarded()) << audit.output();
    if (!report.is_array()) continue;  // SARIF: its own test looks closer
    int compared = 0;
    int refused = 0;
    for (const nlohmann::json& finding : report) {
      EXPECT_NE(finding["result"], "DRIFT") << finding.dump();
      const std::string check = finding["check"];
      compared += (check == "launch filter" || check == "steady filter") &&
                  finding["result"] == "ok";
      refused += check == "filters, instruction by instruction";
    }
    // Console, service and shim, two filters each; or a reason for each.
    EXPECT_EQ(geteuid() == 0 ? compared : compared / 2 + refused,
              geteuid() == 0 ? 6 : 3)
        << audit.output();
  }
  // Being read did it no harm.
  EXPECT_TRUE(vm.running());
  vm.Signal(SIGINT);
  EXPECT_EQ(vm.Wait(Seconds(30)), 0) << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
