// UEFI firmware meets the jailed devices. OVMF as Debian builds it has no
// driver for the LSI53C895A (edk2's LSI_SCSI_ENABLE is off), so what can be
// shown is that it enumerates the adapter, gives it its three BARs and reads
// its registers; it boots from devices that it has drivers for.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(120);
constexpr Seconds kAnswer(30);

TEST(OvmfTest, FirmwareFindsTheAdapterAndGivesItItsRegions) {
  if (RuntimePath("ovmf_code").empty()) GTEST_SKIP() << "run ./bazelw once";
  ScratchDirectory scratch;
  const std::string disk = scratch.path() + "/disk.qcow2";
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + disk + " 64M").c_str()),
            0);
  Process vm({"launcher/vm", "--accel=tcg", "--memory=256MiB",
              "--firmware=ovmf", "--device=lsi53c895a,id=lsi0,slot=00:04.0",
              "--disk=lsi0:0,format=qcow2,file=" + disk},
             Process::Console::kTerminal);
  // The shell is what is left when nothing could be booted.
  ASSERT_TRUE(vm.WaitFor("Shell>", kBoot)) << vm.output();

  vm.Type("pci 0 4 0\r");
  EXPECT_TRUE(vm.WaitFor("1000", kAnswer)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("0012", kAnswer)) << vm.output();
  ASSERT_TRUE(vm.WaitFor("Shell>", kAnswer)) << vm.output();
  // Bus Master, Memory and I/O are what the firmware switches on or leaves off;
  // the BARs it has to assign: none of the three may be zero. Read through
  // configuration space, 4 bytes each.
  for (const char* command :
       {"mm 00040010 -w 4 -pci -n\r", "mm 00040014 -w 4 -pci -n\r",
        "mm 00040018 -w 4 -pci -n\r"}) {
    vm.Type(command);
    EXPECT_TRUE(vm.WaitFor("0x", kAnswer)) << vm.output();
    ASSERT_TRUE(vm.WaitFor("Shell>", kAnswer)) << vm.output();
    EXPECT_EQ(vm.last_match().find("0x00000000"), std::string::npos)
        << vm.last_match();
  }
  vm.Type("reset -s\r");
  EXPECT_EQ(vm.Wait(kAnswer), 0) << vm.output();
}

TEST(OvmfTest, FirmwareThatIsNotThereIsSaid) {
  Process vm({"launcher/vm", "--accel=tcg", "--firmware=/no/such/OVMF.fd",
              "--device=lsi53c895a,id=lsi0"});
  EXPECT_EQ(vm.Wait(kAnswer), 64) << vm.output();
  EXPECT_NE(vm.output().find("/no/such/OVMF.fd: no such file"),
            std::string::npos)
      << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
