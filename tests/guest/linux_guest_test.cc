// A Linux guest on the jailed lsi53c895a: sym53c8xx drives it with SCRIPTS,
// interrupts and reselection.

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(180);

class LinuxGuestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RuntimePath("guest_kernel").empty())
      GTEST_SKIP() << "run ./bazelw once";
    disk_ = scratch_.path() + "/disk.qcow2";
    const std::string make = "qemu-img create -q -f qcow2 " + disk_ + " 64M";
    ASSERT_EQ(system(make.c_str()), 0);
  }

  // The test guest running tests/guest/scripts/SCRIPT.sh.
  std::vector<std::string> Command(const std::string& script) {
    return {"launcher/vm",
            "--accel=tcg",
            "--memory=256MiB",
            "--kernel=" + RuntimePath("guest_kernel"),
            "--initrd=" + std::filesystem::absolute(kInitrd).string(),
            "--append=console=ttyS0 quiet panic=-1 bulkhead.script=" + script,
            "--device=lsi53c895a,id=lsi0",
            "--disk=lsi0:0,format=qcow2,file=" + disk_};
  }

  static constexpr char kInitrd[] = "tools/guest/initrd.cpio";
  ScratchDirectory scratch_;
  std::string disk_;
};

TEST_F(LinuxGuestTest, RebootedGuestFindsWhatItWroteBefore) {
  Process vm(Command("reboot"));
  EXPECT_TRUE(vm.WaitFor("BULKHEAD-REBOOT phase=going", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BULKHEAD-REBOOT result=ok", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + disk_).c_str()), 0);
}

TEST_F(LinuxGuestTest, KilledServiceGivesReadErrorsAndTheGuestRunsOn) {
  Process vm(Command("read_for_ever"));
  ASSERT_TRUE(vm.WaitFor("BULKHEAD-READ round=1", kBoot)) << vm.output();
  const std::vector<pid_t> all = vm.Descendants();
  const pid_t service = FindByCommand(all, "lsi53c895a");
  ASSERT_GT(service, 0);
  kill(service, SIGKILL);

  // sd gives up after its own time-outs and retries; the guest never hangs, and
  // powers itself off at the end of the script.
  EXPECT_TRUE(vm.WaitFor("BULKHEAD-READ failed", Seconds(240))) << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(240)), 70) << vm.output();
  EXPECT_TRUE(AllGone(all, Seconds(5)));
}

// Without KVM x-pci-proxy-dev delivers no interrupts. Linux can do without: it
// polls at each tick of a timer that has an interrupt line (irqpoll; the local
// APIC's has none). The guest's self-check makes a file system, writes, reads
// back and checks, as `vm --check` does behind vfio-user-pci.
class PollingGuestTest : public LinuxGuestTest,
                         public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    LinuxGuestTest::SetUp();
    const std::string version = RuntimePath("system_qemu_version");
    if (version.empty() || version[0] < '5' || version[0] > '7') {
      GTEST_SKIP()
          << "QEMU from 8.2 on has no x-pci-proxy-dev without KVM, and "
             "the distribution's is not older";
    }
  }
};

TEST_P(PollingGuestTest, LinuxProvesItsDiskBehindXPciProxyDev) {
  const std::string config = scratch_.path() + "/vm.textproto";
  std::string device = GetParam();
  device.replace(device.find("DISK"), 4, disk_);
  std::ofstream(config) << "machine { memory: \"256MiB\" }\n"
                        << "access_deadline_ms: 2000\n"
                        << "devices { id: \"lsi0\" " << device << " }\n";
  Process vm({"launcher/vm", "--config=" + config, "--accel=tcg",
              "--frontend=x_pci_proxy", "--qemu=" + RuntimePath("system_qemu"),
              "--kernel=" + RuntimePath("guest_kernel"),
              "--initrd=" + std::filesystem::absolute(kInitrd).string(),
              "--append=console=ttyS0 quiet panic=-1 sym53c8xx.settle=0 "
              "irqpoll noapictimer bulkhead.check"});
  EXPECT_TRUE(vm.WaitFor("BULKHEAD-CHECK phase=done result=ok", kBoot))
      << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + disk_).c_str()), 0);
}

INSTANTIATE_TEST_SUITE_P(
    , PollingGuestTest,
    ::testing::Values("lsi53c895a { target { disk { image: \"DISK\" } } }",
                      "qemu_remote {\n"
                      "  args: \"-device\" args: \"lsi53c895a,id=lsi0\"\n"
                      "  args: \"-drive\"\n"
                      "  args: \"id=drive0,if=none,format=qcow2,file={disk}\"\n"
                      "  args: \"-device\"\n"
                      "  args: \"scsi-hd,drive=drive0,bus=lsi0.0,scsi-id=0\"\n"
                      "  image { name: \"disk\" image: \"DISK\" } }"),
    [](const auto& info) {
      return info.index == 0 ? "OursProxy" : "RemoteProxy";
    });

}  // namespace
}  // namespace bulkhead::testing
