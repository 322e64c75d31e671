// SeaBIOS drives the jailed lsi53c895a by itself, byte-wide and polling through
// the I/O BAR, to load a boot sector that reads and writes the disk.

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/guest/boot_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

using Ending = BootImage::Ending;
constexpr Seconds kBoot(60);

std::vector<std::string> VmCommand(const BootImage& image,
                                   const std::string& accel) {
  return {"launcher/vm", "--accel=" + accel, "--memory=64MiB",
          "--device=lsi53c895a,id=lsi0",
          "--disk=lsi0:0,format=raw,file=" + image.path()};
}

class FirmwareBootTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
    if (GetParam() == std::string("kvm") &&
        access("/dev/kvm", R_OK | W_OK) != 0) {
      GTEST_SKIP() << "/dev/kvm: not usable on this machine";
    }
  }

  ScratchDirectory scratch_;
};

TEST_P(FirmwareBootTest, BootSectorReadsAndWritesTheDiskThroughTheBios) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kPowerOff);
  Process vm(VmCommand(image, GetParam()));

  EXPECT_TRUE(vm.WaitFor(image.expected_sum(), kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT write=ok", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT count=01", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
  EXPECT_TRUE(image.InverseWasWritten());
  EXPECT_EQ(image.boots(), 1);
}

TEST_P(FirmwareBootTest, GuestThatRebootsFindsItsDiskAgain) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kRebootOnce);
  Process vm(VmCommand(image, GetParam()));

  EXPECT_TRUE(vm.WaitFor("BOOT count=01", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT start", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT count=02", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
  EXPECT_EQ(image.boots(), 2);
}

TEST_P(FirmwareBootTest, KilledServiceGivesTheGuestErrorsAndTheVmLivesOn) {
  BootImage image(scratch_.path() + "/boot.img", Ending::kReadForEver);
  Process vm(VmCommand(image, GetParam()));
  ASSERT_TRUE(vm.WaitFor("BOOT round", kBoot)) << vm.output();

  const std::vector<pid_t> all = vm.Descendants();
  const pid_t service = FindByCommand(all, "lsi53c895a");
  ASSERT_GT(service, 0);
  ASSERT_EQ(kill(service, SIGKILL), 0);

  // The BIOS call comes back with an error, rather than never.
  EXPECT_TRUE(vm.WaitFor("BOOT fail=", kBoot)) << vm.output();
  EXPECT_TRUE(vm.running());
  EXPECT_GT(FindByCommand(vm.Descendants(), "qemu-system-x86_64"), 0);

  vm.EndAtOnce();
  EXPECT_EQ(vm.Wait(kBoot), 70) << "a device was lost: " << vm.output();
  EXPECT_TRUE(AllGone(all, Seconds(5)));
}

// SeaBIOS takes SCSI adapters in the order of their slots: a boot order of QEMU
// names devices of its own making, never a target behind one of ours.
TEST_P(FirmwareBootTest, TwoAdaptersHaveServicesAndDisksOfTheirOwn) {
  BootImage first(scratch_.path() + "/first.img", Ending::kPowerOff);
  BootImage second(scratch_.path() + "/second.img", Ending::kPowerOff);
  std::vector<std::string> command = {
      "launcher/vm",
      std::string("--accel=") + GetParam(),
      "--memory=64MiB",
      "--device=lsi53c895a,id=lsi0,slot=00:06.0",
      "--disk=lsi0:0,format=raw,file=" + first.path(),
      "--device=lsi53c895a,id=lsi1,slot=00:05.0",
      "--disk=lsi1:3,format=raw,file=" + second.path()};
  Process vm(command);

  EXPECT_TRUE(vm.WaitFor("BOOT count=01", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
  EXPECT_EQ(first.boots(), 0);
  EXPECT_EQ(second.boots(), 1);
}

INSTANTIATE_TEST_SUITE_P(, FirmwareBootTest, ::testing::Values("tcg", "kvm"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace bulkhead::testing
