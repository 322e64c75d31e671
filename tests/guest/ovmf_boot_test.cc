// OVMF drives the jailed disks by itself: it finds the disk, reads a file
// system on it, and starts the program that it loads from there (a Linux
// kernel, which is one).

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/fat_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(150);

struct Disk {
  const char* name;
  const char* device;        // $IMAGE is its disk
  const char* name_in_menu;  // edk2 gives virtio disks none of their own
  const char* path;          // of the disk on its controller, as UEFI writes it
};

class OvmfBootTest : public ::testing::TestWithParam<Disk> {};

TEST_P(OvmfBootTest, FirmwareStartsAProgramFromTheDisk) {
  if (RuntimePath("guest_kernel").empty() || RuntimePath("ovmf_code").empty()) {
    GTEST_SKIP() << "run ./bazelw once";
  }
  ScratchDirectory scratch;
  const std::string image = scratch.path() + "/esp.img";
  std::ifstream kernel(RuntimePath("guest_kernel"), std::ios::binary);
  const std::string program((std::istreambuf_iterator<char>(kernel)),
                            std::istreambuf_iterator<char>());
  ASSERT_TRUE(WriteFatImage(image, program));
  std::string device = GetParam().device;
  device.replace(device.find("$IMAGE"), 6, image);
  const std::string description = scratch.path() + "/vm.textproto";
  std::ofstream(description)
      << "machine { type: Q35 accel: TCG memory: \"512MiB\" }\n"
      << "access_deadline_ms: 5000  boot { firmware: OVMF }\n"
      << "devices { id: \"disk0\" slot: \"00:05.0\" boot_index: 1 " << device
      << " }\n";
  Process vm({"launcher/vm", "--config=" + description});

  EXPECT_TRUE(vm.WaitFor(GetParam().name_in_menu, kBoot)) << vm.output();
  // "loading" comes before the program is read, "starting" after it.
  EXPECT_TRUE(vm.WaitFor("BdsDxe: starting Boot", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor(GetParam().path, kBoot)) << vm.output();
  vm.EndAtOnce();
  vm.Wait(Seconds(30));
}

INSTANTIATE_TEST_SUITE_P(
    , OvmfBootTest,
    ::testing::Values(Disk{"Nvme",
                           "nvme { serial: 'BH-OVMF' namespace { "
                           "image: '$IMAGE' format: RAW } }",
                           "UEFI Bulkhead NVMe BH-OVMF", "NVMe(0x1"},
                      Disk{"VirtioBlk",
                           "virtio_blk { disk { image: '$IMAGE' format: RAW } "
                           "}",
                           "BdsDxe: loading Boot", "Pci(0x5,0x0)"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bulkhead::testing
