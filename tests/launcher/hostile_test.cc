// Children of the launcher that a guest has taken over: what they try is told
// to the user in words, and neither holds the launcher up nor outlives the VM.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/launcher/another_service.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kStart(60);
constexpr Seconds kEnd(60);

class HostileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    disk_ = scratch_.path() + "/disk.qcow2";
    ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + disk_ + " 64M").c_str()),
              0);
  }

  std::vector<std::string> Command(const std::string& more) {
    return {"launcher/vm",
            "--accel=tcg",
            "--memory=64MiB",
            "--grace=0",
            "--device=lsi53c895a,id=lsi0",
            "--disk=lsi0:0,format=qcow2,file=" + disk_,
            more};
  }

  // A copy of the hostile program, under the name that says what it does.
  std::string Qemu(const std::string& name) {
    const std::string path = scratch_.path() + "/" + name;
    std::filesystem::copy_file("tests/launcher/testcases/hostile_qemu", path);
    // The jailed process has another id.
    std::filesystem::permissions(scratch_.path(),
                                 std::filesystem::perms::others_exec,
                                 std::filesystem::perm_options::add);
    std::filesystem::permissions(path, std::filesystem::perms(0755));
    return path;
  }

  ScratchDirectory scratch_;
  std::string disk_;
};

TEST_F(HostileTest, QemuThatFloodsEveryChannelHoldsNobodyUp) {
  Process vm(Command("--qemu=" + Qemu("flooding-qemu")));
  ASSERT_TRUE(vm.WaitFor("the machine is built", kStart)) << vm.output();
  const std::vector<pid_t> all = vm.Descendants();
  vm.Drain(Seconds(1));
  // The launcher still sees what else happens, and says it.
  ASSERT_TRUE(SignalByCommand(all, "lsi53c895a", SIGKILL));
  EXPECT_TRUE(vm.WaitFor("DEVICE LOST lsi0", Seconds(10)));
  // It does not obey "quit": it is killed.
  vm.Signal(SIGTERM);
  EXPECT_TRUE(vm.WaitFor("qemu does not end: killed", Seconds(20)));
  EXPECT_EQ(vm.Wait(kEnd), 70);
  EXPECT_TRUE(AllGone(all, Seconds(10)));
  // Lines are limited: what it wrote is many thousands.
  size_t noise = 0;
  for (size_t at = 0;
       (at = vm.output().find("qemu: noise", at)) != std::string::npos; ++at) {
    ++noise;
  }
  EXPECT_LE(noise, 300u);
}

// What it says costs the user nothing that others have to say.
TEST_F(HostileTest, ServiceThatFloodsTheLauncherHidesNothingThatOthersDo) {
  const std::string raw = scratch_.path() + "/raw";
  ASSERT_EQ(system(("truncate -s 1M " + raw).c_str()), 0);
  Process vm({VmWithService(scratch_.path() + "/built", "floods_the_launcher"),
              "--no_qemu", "--name=flooded", "--memory=64MiB",
              "--runtime_dir=" + scratch_.path() + "/run",
              "--device=lsi53c895a,id=lsi0",
              "--disk=lsi0:0,format=qcow2,file=" + disk_,
              "--device=nvme,id=nvme0", "--disk=nvme0,format=raw,file=" + raw});
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", kStart)) << vm.output();
  const std::vector<pid_t> all = vm.Descendants();
  vm.Drain(Seconds(1));
  ASSERT_TRUE(SignalByCommand(all, "nvme", SIGKILL));
  EXPECT_TRUE(vm.WaitFor("DEVICE LOST nvme0", Seconds(10))) << vm.output();
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(kEnd), 70) << vm.output();
  EXPECT_NE(vm.output().find("--- stopped after"), std::string::npos)
      << vm.output();
  EXPECT_TRUE(AllGone(all, Seconds(10)));
}

TEST_F(HostileTest, ForbiddenCallIsReportedWithItsNameArgumentsAndPlace) {
  Process vm(Command("--qemu=" + Qemu("forbidden-qemu")));
  ASSERT_TRUE(vm.WaitFor("the machine is built", kStart)) << vm.output();
  EXPECT_EQ(vm.Wait(kEnd), 148) << vm.output();
  EXPECT_NE(vm.output().find("VIOLATION qemu: mount(\"none\", \"/\""),
            std::string::npos)
      << vm.output();
  EXPECT_NE(vm.output().find("QEMU was killed by its policy"),
            std::string::npos)
      << vm.output();
}

// A host whose KVM lacks an instruction that the guest uses.
TEST_F(HostileTest, QemuThatKvmCannotGoOnWithIsNamedAndEnded) {
  Process vm(Command("--qemu=" + Qemu("stuck-qemu")));
  EXPECT_EQ(vm.Wait(kStart), 33) << vm.output();
  EXPECT_NE(vm.output().find("qemu: KVM internal error. Suberror: 1"),
            std::string::npos)
      << vm.output();
  EXPECT_NE(vm.output().find("error BH-Q309: QEMU has stopped the guest for "
                             "good (internal-error)"),
            std::string::npos)
      << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
