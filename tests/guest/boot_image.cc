#include "tests/guest/boot_image.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace bulkhead::testing {
namespace {

constexpr size_t kBlockBytes = 512;
constexpr size_t kImageBlocks = 8192;
constexpr char kBootSector[] = "tests/guest/boot_sector/boot_sector.bin";

uint8_t Pattern(size_t i) { return static_cast<uint8_t>(i * 37 + i / 256); }

}  // namespace

BootImage::BootImage(std::string path, Ending ending)
    : BootImage(std::move(path), kBootSector, ending) {}

BootImage::BootImage(std::string path, const std::string& sector, Ending ending)
    : path_(std::move(path)) {
  std::ifstream in(sector, std::ios::binary);
  std::string image((std::istreambuf_iterator<char>(in)), {});
  if (image.size() != kBlockBytes) abort();
  image.resize(kImageBlocks * kBlockBytes);
  for (size_t i = 0; i < kBlockBytes; ++i) {
    image[kBlockBytes + i] = static_cast<char>(Pattern(i));
  }
  image[3 * kBlockBytes + 8] = static_cast<char>(ending);
  std::ofstream out(path_, std::ios::binary);
  out.write(image.data(), image.size());
}

std::string BootImage::expected_sum() const {
  uint16_t sum = 0;
  for (size_t i = 0; i < kBlockBytes; i += 2) {
    sum += Pattern(i) | Pattern(i + 1) << 8;
  }
  char text[16];
  snprintf(text, sizeof(text), "BOOT sum=%04x", sum);
  return text;
}

std::string BootImage::ReadBlock(int number) const {
  std::ifstream in(path_, std::ios::binary);
  in.seekg(number * kBlockBytes);
  std::string block(kBlockBytes, '\0');
  in.read(block.data(), kBlockBytes);
  return block;
}

bool BootImage::InverseWasWritten() const {
  const std::string block = ReadBlock(2);
  for (size_t i = 0; i < kBlockBytes; ++i) {
    if (static_cast<uint8_t>(block[i]) != static_cast<uint8_t>(~Pattern(i))) {
      return false;
    }
  }
  return true;
}

int BootImage::boots() const { return static_cast<uint8_t>(ReadBlock(3)[0]); }

}  // namespace bulkhead::testing
