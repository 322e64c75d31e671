// BootImage is a raw disk image with the boot sector of tests/guest/boot_sector
// on it, and what a test needs to know about its blocks.

#ifndef BULKHEAD_TESTS_GUEST_BOOT_IMAGE_H_
#define BULKHEAD_TESTS_GUEST_BOOT_IMAGE_H_

#include <cstdint>
#include <string>

namespace bulkhead::testing {

// The sectors of tests/guest/lsi_sector.
inline constexpr char kIntxSector[] = "tests/guest/lsi_sector/intx_sector.bin";
inline constexpr char kBenchSector[] =
    "tests/guest/lsi_sector/bench_sector.bin";

class BootImage {
 public:
  // What the boot sector does when it has proven the disk.
  enum class Ending : uint8_t {
    kPowerOff = 0,
    kRebootOnce = 1,
    kReadForEver = 2
  };

  // Writes the image at `path`.
  BootImage(std::string path, Ending ending);
  // With another sector in the first block, a runfile.
  BootImage(std::string path, const std::string& sector, Ending ending);

  const std::string& path() const { return path_; }
  // What the boot sector prints of block 1.
  std::string expected_sum() const;
  // Block 2 is block 1 inverted, as the boot sector writes it.
  bool InverseWasWritten() const;
  // The count of boots on the disk.
  int boots() const;

 private:
  std::string ReadBlock(int number) const;

  std::string path_;
};

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_GUEST_BOOT_IMAGE_H_
