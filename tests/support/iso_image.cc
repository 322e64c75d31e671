#include "tests/support/iso_image.h"

#include <fstream>

namespace bulkhead::testing {
namespace {

constexpr size_t kBlock = IsoImage::kBlockBytes;

// What lies where, before the files.
enum Block : uint32_t {
  kPrimaryDescriptor = 16,
  kBootDescriptor = 17,
  kTerminator = 18,
  kBootCatalogue = 19,
  kBootImage = 20,
};

uint32_t BlocksOf(size_t bytes) {
  return static_cast<uint32_t>((bytes + kBlock - 1) / kBlock);
}

// Numbers, little-endian and "both-endian" (ECMA-119 §7.2.3, §7.3.3).
std::string Little16(uint32_t value) {
  return {static_cast<char>(value), static_cast<char>(value >> 8)};
}
std::string Little32(uint32_t value) {
  return Little16(value & 0xffff) + Little16(value >> 16);
}
std::string Reversed(std::string bytes) {
  return std::string(bytes.rbegin(), bytes.rend());
}
std::string Both16(uint32_t value) {
  return Little16(value) + Reversed(Little16(value));
}
std::string Both32(uint32_t value) {
  return Little32(value) + Reversed(Little32(value));
}

std::string Padded(std::string text, size_t size) {
  text.resize(size, ' ');
  return text;
}

// ECMA-119 §9.1.
std::string DirectoryRecord(const std::string& identifier, uint32_t block,
                            uint32_t bytes, bool directory) {
  std::string record = Both32(block) + Both32(bytes);
  record += std::string("\x7e\x01\x01\x00\x00\x00\x00", 7);  // 2026-01-01
  record += static_cast<char>(directory ? 0x02 : 0x00);
  record += std::string(2, '\0') + Both16(1);
  record += static_cast<char>(identifier.size());
  record += identifier;
  if (identifier.size() % 2 == 0) record += '\0';
  record.insert(0, 2, '\0');
  record[0] = static_cast<char>(record.size());
  return record;
}

void Put(std::string* image, size_t at, const std::string& bytes) {
  image->replace(at, bytes.size(), bytes);
}

// El Torito §2: the validation entry, then the default entry.
std::string BootCatalogue() {
  std::string entry(32, '\0');
  entry[0] = 0x01;
  Put(&entry, 4, "BULKHEAD");
  entry[30] = 0x55;
  entry[31] = static_cast<char>(0xaa);
  uint32_t sum = 0;
  for (size_t i = 0; i < 32; i += 2) {
    sum += static_cast<uint8_t>(entry[i]) | static_cast<uint8_t>(entry[i + 1])
                                                << 8;
  }
  Put(&entry, 28, Little16(0x10000 - (sum & 0xffff)));
  std::string boot(32, '\0');
  boot[0] = static_cast<char>(0x88);      // bootable, no emulation
  Put(&boot, 6, Little16(kBlock / 512));  // sectors to load
  Put(&boot, 8, Little32(kBootImage));
  return entry + boot;
}

}  // namespace

void IsoImage::AddFile(const std::string& name, std::string contents) {
  files_.push_back({name, std::move(contents)});
}

void IsoImage::SetBootImage(std::string boot_image) {
  boot_image_ = std::move(boot_image);
}

bool IsoImage::Write(const std::string& path) const {
  // The directory and the path tables come after the files, so that the files
  // begin at a fixed block.
  uint32_t next = kFirstFileBlock;
  std::vector<uint32_t> blocks;
  for (const File& file : files_) {
    blocks.push_back(next);
    next += BlocksOf(file.contents.size());
  }
  const uint32_t little_table = next;
  const uint32_t big_table = next + 1;
  const uint32_t root = next + 2;
  const uint32_t total = next + 3;

  std::string directory =
      DirectoryRecord(std::string(1, '\0'), root, kBlock, true) +
      DirectoryRecord(std::string(1, '\1'), root, kBlock, true);
  for (size_t i = 0; i < files_.size(); ++i) {
    directory += DirectoryRecord(
        files_[i].name + ";1", blocks[i],
        static_cast<uint32_t>(files_[i].contents.size()), false);
  }
  if (directory.size() > kBlock) return false;

  std::string image(size_t{total} * kBlock, '\0');
  // ECMA-119 §8.4.
  const size_t primary = kPrimaryDescriptor * kBlock;
  Put(&image, primary, std::string("\1CD001\1", 7));
  Put(&image, primary + 8, Padded("", 32));
  Put(&image, primary + 40, Padded("BULKHEAD", 32));
  Put(&image, primary + 80, Both32(total));
  Put(&image, primary + 120, Both16(1));
  Put(&image, primary + 124, Both16(1));
  Put(&image, primary + 128, Both16(kBlock));
  Put(&image, primary + 132, Both32(10));  // bytes of a path table
  Put(&image, primary + 140, Little32(little_table));
  Put(&image, primary + 148, Reversed(Little32(big_table)));
  Put(&image, primary + 156,
      DirectoryRecord(std::string(1, '\0'), root, kBlock, true));
  Put(&image, primary + 190, Padded("", 623));
  image[primary + 881] = 1;

  Put(&image, kTerminator * kBlock, std::string("\377CD001\1", 7));
  Put(&image, little_table * kBlock,
      std::string("\1\0", 2) + Little32(root) + Little16(1));
  Put(&image, big_table * kBlock,
      std::string("\1\0", 2) + Reversed(Little32(root)) +
          std::string("\0\1", 2));
  Put(&image, root * kBlock, directory);
  for (size_t i = 0; i < files_.size(); ++i) {
    Put(&image, size_t{blocks[i]} * kBlock, files_[i].contents);
  }
  if (boot_image_.empty()) {
    // No boot record: this place is a terminator too.
    Put(&image, kBootDescriptor * kBlock, std::string("\377CD001\1", 7));
  } else {
    Put(&image, kBootDescriptor * kBlock,
        std::string("\0CD001\1EL TORITO SPECIFICATION", 30));
    Put(&image, kBootDescriptor * kBlock + 71, Little32(kBootCatalogue));
    Put(&image, kBootCatalogue * kBlock, BootCatalogue());
    Put(&image, kBootImage * kBlock, boot_image_);
  }
  std::ofstream out(path, std::ios::binary);
  out.write(image.data(), static_cast<std::streamsize>(image.size()));
  return out.good();
}

}  // namespace bulkhead::testing
