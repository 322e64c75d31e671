// OVMF drives the jailed NVMe controller by itself: it finds the namespace,
// reads a file system on it, and starts the program that it loads from there (a
// Linux kernel, which is one).

#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <iterator>

#include "tests/support/fat_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(150);

TEST(NvmeOvmfTest, FirmwareStartsAProgramFromTheNamespace) {
  if (RuntimePath("guest_kernel").empty()) {
    GTEST_SKIP() << "run ./bazelw once";
  }
  ScratchDirectory scratch;
  const std::string disk = scratch.path() + "/esp.img";
  std::ifstream kernel(RuntimePath("guest_kernel"), std::ios::binary);
  const std::string program((std::istreambuf_iterator<char>(kernel)),
                            std::istreambuf_iterator<char>());
  ASSERT_TRUE(WriteFatImage(disk, program));
  const std::string description = scratch.path() + "/vm.textproto";
  std::ofstream(description)
      << "machine { type: Q35 accel: TCG memory: \"512MiB\" }\n"
      << "access_deadline_ms: 5000  boot { firmware: OVMF }\n"
      << "devices { id: \"nvme0\" boot_index: 1 nvme { serial: \"BH-OVMF\"\n"
      << "  namespace { image: \"" << disk << "\" format: RAW } } }\n";
  Process vm({"launcher/vm", "--config=" + description});

  EXPECT_TRUE(vm.WaitFor("Bulkhead NVMe", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("BH-OVMF", kBoot)) << vm.output();
  // "loading" comes before the program is read, "starting" after it.
  EXPECT_TRUE(vm.WaitFor("BdsDxe: starting Boot", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("NVMe(0x1", kBoot)) << vm.output();
  vm.Signal(SIGTERM);
  vm.Wait(Seconds(30));
}

}  // namespace
}  // namespace bulkhead::testing
