// SeaBIOS and Linux on the jailed virtio_blk.

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "tests/guest/boot_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(240);
constexpr char kInitrd[] = "tools/guest/initrd.cpio";

class VirtioBlkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RuntimePath("guest_kernel").empty()) {
      GTEST_SKIP() << "run ./bazelw once";
    }
  }
  ScratchDirectory scratch_;
};

class VirtioBlkSeaBiosTest : public VirtioBlkTest,
                             public ::testing::WithParamInterface<const char*> {
};

TEST_P(VirtioBlkSeaBiosTest, BootsFromTheSecondOfTwoDisks) {
  if (GetParam() == std::string("kvm") &&
      access("/dev/kvm", R_OK | W_OK) != 0) {
    GTEST_SKIP() << "/dev/kvm: not usable on this machine";
  }
  BootImage first(scratch_.path() + "/a.img", BootImage::Ending::kPowerOff);
  BootImage second(scratch_.path() + "/b.img", BootImage::Ending::kRebootOnce);
  Process vm({"launcher/vm", std::string("--accel=") + GetParam(),
              "--memory=64MiB", "--device=virtio_blk,id=a,slot=00:06.0",
              "--disk=a,format=raw,file=" + first.path(),
              "--device=virtio_blk,id=b,slot=00:05.0",
              "--disk=b,format=raw,file=" + second.path()});
  EXPECT_TRUE(vm.WaitFor(second.expected_sum(), kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT write=ok", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT count=02", kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
  EXPECT_TRUE(second.InverseWasWritten());
  EXPECT_EQ(second.boots(), 2);
  EXPECT_EQ(first.boots(), 0);
}

INSTANTIATE_TEST_SUITE_P(, VirtioBlkSeaBiosTest,
                         ::testing::Values("tcg", "kvm"), [](const auto& info) {
                           return std::string(info.param);
                         });

// Data, discards, ext4 with fsck and trim, the driver unbound under load, the
// guest rebooted under load: tests/guest/scripts/block_device.sh.
TEST_F(VirtioBlkTest, LinuxDrivesItThroughUnbindsAndReboots) {
  const std::string disk = scratch_.path() + "/disk.qcow2";
  const std::string make = "qemu-img create -q -f qcow2 " + disk + " 64M";
  ASSERT_EQ(system(make.c_str()), 0);
  Process vm({"launcher/vm", "--accel=tcg", "--memory=256MiB",
              "--kernel=" + RuntimePath("guest_kernel"),
              "--initrd=" + std::filesystem::absolute(kInitrd).string(),
              "--append=console=ttyS0 quiet panic=-1 "
              "bulkhead.script=block_device bulkhead.disk=vda "
              "bulkhead.driver=virtio-pci",
              "--device=virtio_blk,id=disk0,queues=2",
              "--disk=disk0,format=qcow2,serial=BH0001,file=" + disk});
  for (const char* phase :
       {"verify", "discard", "trim", "unbind", "rebooted"}) {
    ASSERT_TRUE(vm.WaitFor(
        std::string("BULKHEAD-BLOCK phase=") + phase + " result=ok", kBoot))
        << vm.output();
  }
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + disk).c_str()), 0);
}

}  // namespace
}  // namespace bulkhead::testing
