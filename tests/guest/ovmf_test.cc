// UEFI firmware meets the jailed lsi53c895a. OVMF as Debian builds it has no
// driver for it (edk2's LSI_SCSI_ENABLE is off; none of the drivers in the
// image is LsiScsiDxe), so what can be shown is that it enumerates the adapter
// and gets by with it. A boot by OVMF is in tests/guest/nvme.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(120);
constexpr Seconds kAnswer(30);

TEST(OvmfTest, FirmwareEnumeratesTheAdapterAndComesToItsShell) {
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

  vm.Type("pci\r");
  EXPECT_TRUE(vm.WaitFor("Vendor 1000 Device 0012", kAnswer)) << vm.output();
  vm.Type("reset -s\r");
  EXPECT_EQ(vm.Wait(kAnswer), 0) << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
