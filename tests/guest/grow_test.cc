// A running Linux learns that its disk has become longer, by virtio's
// configuration interrupt (VIRTIO 1.2, 5.2.6), NVMe's namespace attribute
// notice (NVMe 1.4, 5.2) and SCSI's unit attention (SPC-4, 5.15): the script in
// the guest waits for each, on the kernel's own word.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(240);
constexpr Seconds kPatience(40);
constexpr char kInitrd[] = "tools/guest/initrd.cpio";

TEST(GrowTest, LinuxSeesDisksGrowBehindEachDevice) {
  if (RuntimePath("guest_kernel").empty()) {
    GTEST_SKIP() << "run ./bazelw once";
  }
  ScratchDirectory scratch;
  const auto disk = [&scratch](const char* format, const char* name) {
    const std::string path = scratch.path() + "/" + name;
    const std::string make =
        std::string("qemu-img create -q -f ") + format + " " + path + " 32M";
    EXPECT_EQ(system(make.c_str()), 0);
    return std::string(",format=") + format + ",file=" + path;
  };
  const std::string vm_name = "grow-guest-" + std::to_string(getpid());
  Process vm({"launcher/vm", "--accel=tcg", "--memory=256MiB",
              "--name=" + vm_name, "--kernel=" + RuntimePath("guest_kernel"),
              "--initrd=" + std::filesystem::absolute(kInitrd).string(),
              "--append=console=ttyS0 quiet panic=-1 bulkhead.script=grow "
              "bulkhead.grown=262144",
              "--device=virtio_blk,id=virtio", "--device=nvme,id=nvme",
              "--device=lsi53c895a,id=lsi",
              "--disk=virtio" + disk("raw", "virtio.img"),
              "--disk=nvme" + disk("qcow2", "nvme.qcow2"),
              "--disk=lsi:0" + disk("qcow2", "lsi.qcow2")});
  struct Disk {
    const char* in_the_guest;
    const char* of_the_host;
  };
  for (const Disk& grown :
       {Disk{"vda", "virtio"}, Disk{"nvme0n1", "nvme"}, Disk{"sda", "lsi:0"}}) {
    const std::string name = std::string("disk=") + grown.in_the_guest;
    ASSERT_TRUE(vm.WaitFor(name + " result=ready", kBoot)) << vm.output();
    Process grow(
        {"tools/grow_disk/grow_disk", vm_name, grown.of_the_host, "128MiB"});
    ASSERT_EQ(grow.Wait(kPatience), 0) << grow.output();
    ASSERT_TRUE(vm.WaitFor(name + " result=ok sectors=262144", kPatience))
        << vm.output();
  }
  EXPECT_EQ(vm.Wait(kPatience), 0) << vm.output();
  for (const char* image : {"nvme.qcow2", "lsi.qcow2"}) {
    const std::string check =
        "qemu-img check -q " + scratch.path() + "/" + image;
    EXPECT_EQ(system(check.c_str()), 0) << image;
  }
}

}  // namespace
}  // namespace bulkhead::testing
