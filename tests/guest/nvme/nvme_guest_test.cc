// A Linux guest drives the jailed NVMe controller: nvme-cli asks it everything,
// file systems live on it, it is reset under load, and the guest reboots.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/guest/boot_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kScript(420);

class NvmeGuestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (RuntimePath("guest_kernel").empty()) {
      GTEST_SKIP() << "run ./bazelw once";
    }
    small_ = scratch_.path() + "/small.qcow2";
    large_ = scratch_.path() + "/large.img";  // enough for xfs
    ASSERT_EQ(
        system(("qemu-img create -q -f qcow2 " + small_ + " 64M").c_str()), 0);
    std::ofstream(large_).close();
    std::filesystem::resize_file(large_, 320 << 20);
  }

  // With one namespace or two; the kernel names two in no order.
  std::vector<std::string> Command(const std::string& script, int namespaces) {
    const std::string description = scratch_.path() + "/vm.textproto";
    std::ofstream(description)
        << "name: \"nvme\"  access_deadline_ms: 5000\n"
        << "machine { type: Q35  accel: TCG  memory: \"512MiB\" vcpus: 2 }\n"
        << "boot { kernel: \"" << RuntimePath("guest_kernel") << "\" initrd: \""
        << std::filesystem::absolute("tools/guest/judges_initrd.cpio").string()
        // nvme-cli reads the registers through sysfs, beside the driver.
        << "\"\n cmdline: \"console=ttyS0 quiet panic=-1 iomem=relaxed "
        << "bulkhead.disk=nvme0n1 bulkhead.script=" << script << "\" }\n"
        << "devices { id: \"nvme0\" nvme { serial: \"BH-GUEST\"\n"
        << "  namespace { image: \"" << small_ << "\" format: QCOW2 }\n"
        << (namespaces == 1 ? ""
                            : "  namespace { image: \"" + large_ +
                                  "\" format: RAW block_size: 4096 }\n")
        << "} }\n";
    return {"launcher/vm", "--config=" + description};
  }

  ScratchDirectory scratch_;
  std::string small_;
  std::string large_;
};

TEST_F(NvmeGuestTest, AnswersNvmeCliAndKeepsFilesThroughResetsUnderLoad) {
  Process vm(Command("nvme", 2));
  EXPECT_TRUE(vm.WaitFor("BULKHEAD-SCRIPT name=nvme result=ok", kScript))
      << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(vm.output().find("result=fail"), std::string::npos) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + small_).c_str()), 0);
}

// Data, discards, ext4 with fsck and trim, the driver unbound under load, the
// guest rebooted under load: tests/guest/scripts/block_device.sh.
TEST_F(NvmeGuestTest, LinuxDrivesItThroughUnbindsAndRebootsUnderLoad) {
  Process vm(Command("block_device bulkhead.driver=nvme", 1));
  for (const char* phase :
       {"verify", "discard", "trim", "unbind", "rebooted"}) {
    ASSERT_TRUE(vm.WaitFor(
        std::string("BULKHEAD-BLOCK phase=") + phase + " result=ok", kScript))
        << vm.output();
  }
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_EQ(system(("qemu-img check -q " + small_).c_str()), 0);
}

// SeaBIOS boots from the second of two controllers: one of ours does not stand
// in another's way.
class NvmeSeaBiosTest : public NvmeGuestTest,
                        public ::testing::WithParamInterface<const char*> {};

TEST_P(NvmeSeaBiosTest, BootsFromOneOfTwoControllers) {
  if (GetParam() == std::string("KVM") &&
      access("/dev/kvm", R_OK | W_OK) != 0) {
    GTEST_SKIP() << "/dev/kvm: not usable on this machine";
  }
  BootImage image(scratch_.path() + "/boot.img",
                  BootImage::Ending::kRebootOnce);
  const std::string description = scratch_.path() + "/vm.textproto";
  std::ofstream(description)
      << "machine { accel: " << GetParam() << " memory: \"64MiB\" }\n"
      << "devices { id: \"a\" slot: \"00:06.0\" boot_index: 1 nvme { namespace "
         "{ image: \""
      << image.path() << "\" format: RAW } } }\n"
      << "devices { id: \"b\" slot: \"00:05.0\" nvme { namespace { image: \""
      << large_ << "\" format: RAW } } }\n";
  Process vm({"launcher/vm", "--config=" + description});
  EXPECT_TRUE(vm.WaitFor("BOOT write=ok", Seconds(90))) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BOOT count=02", Seconds(90))) << vm.output();
  EXPECT_EQ(vm.Wait(Seconds(60)), 0) << vm.output();
  EXPECT_TRUE(image.InverseWasWritten());
  EXPECT_EQ(image.boots(), 2);
}

INSTANTIATE_TEST_SUITE_P(, NvmeSeaBiosTest, ::testing::Values("TCG", "KVM"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace bulkhead::testing
