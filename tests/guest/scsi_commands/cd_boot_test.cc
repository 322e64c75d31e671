// SeaBIOS boots from a CD-ROM drive behind the jailed lsi53c895a: it finds the
// boot catalogue (El Torito), loads the boot image, and reads on for it.

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/iso_image.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr Seconds kBoot(120);

// Of one block, as the boot image counts it.
std::string ExpectedSum(const std::string& block) {
  uint16_t sum = 0;
  for (size_t i = 0; i + 1 < block.size(); i += 2) {
    sum = static_cast<uint16_t>(sum + static_cast<uint8_t>(block[i]) +
                                (static_cast<uint8_t>(block[i + 1]) << 8));
  }
  char text[16];
  snprintf(text, sizeof(text), "CD sum=%04x", sum);
  return text;
}

TEST(CdBootTest, FirmwareBootsTheDiscAndReadsOnThroughTheBios) {
  if (RuntimePath("qemu").empty()) GTEST_SKIP() << "run ./bazelw once";
  ScratchDirectory scratch;
  std::ifstream in("tests/guest/cd_boot/cd_boot.bin", std::ios::binary);
  const std::string boot_image((std::istreambuf_iterator<char>(in)), {});
  ASSERT_EQ(boot_image.size(), IsoImage::kBlockBytes);
  std::string contents;
  for (size_t i = 0; i < IsoImage::kBlockBytes; ++i) {
    contents += static_cast<char>(i * 41 + i / 256);
  }
  IsoImage iso;
  iso.AddFile("DATA.BIN", contents);
  iso.SetBootImage(boot_image);
  const std::string disc = scratch.path() + "/disc.iso";
  ASSERT_TRUE(iso.Write(disc));

  Process vm({"launcher/vm", "--accel=tcg", "--memory=64MiB",
              "--device=lsi53c895a,id=lsi0", "--set=access_deadline_ms=5000",
              "--cdrom=lsi0:0,file=" + disc});
  EXPECT_TRUE(vm.WaitFor("CD start", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor("CD volume=CD001", kBoot)) << vm.output();
  EXPECT_TRUE(vm.WaitFor(ExpectedSum(contents), kBoot)) << vm.output();
  EXPECT_EQ(vm.Wait(kBoot), 0) << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
