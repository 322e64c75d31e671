#include "tests/support/fat_image.h"

#include <cstdint>
#include <cstring>
#include <fstream>

namespace bulkhead::testing {
namespace {

constexpr size_t kSector = 512;
constexpr size_t kSectors = 131072;  // 64 MiB
constexpr size_t kSectorsPerCluster = 8;
constexpr size_t kCluster = kSector * kSectorsPerCluster;
constexpr size_t kFatSectors = 64;  // 16384 entries of 16 bits
constexpr size_t kRootEntries = 512;
constexpr size_t kFatAt = kSector;
constexpr size_t kRootAt = kFatAt + 2 * kFatSectors * kSector;
constexpr size_t kDataAt = kRootAt + kRootEntries * 32;
constexpr size_t kMaxClusters = (kSectors * kSector - kDataAt) / kCluster;

class Image {
 public:
  Image() : bytes_(kSectors * kSector, '\0') {}

  void Put16(size_t at, size_t value) {
    bytes_[at] = static_cast<char>(value);
    bytes_[at + 1] = static_cast<char>(value >> 8);
  }
  void Put32(size_t at, size_t value) {
    Put16(at, value & 0xffff);
    Put16(at + 2, value >> 16);
  }
  void PutText(size_t at, const char* text) {
    std::memcpy(&bytes_[at], text, std::strlen(text));
  }

  void BootSector() {
    PutText(0,
            "\xeb\x3c\x90"
            "BULKHEAD");
    Put16(11, kSector);
    bytes_[13] = kSectorsPerCluster;
    Put16(14, 1);  // reserved sectors
    bytes_[16] = 2;
    Put16(17, kRootEntries);
    bytes_[21] = static_cast<char>(0xf8);
    Put16(22, kFatSectors);
    Put32(32, kSectors);
    bytes_[38] = 0x29;
    PutText(43, "BULKHEAD   FAT16   ");
    Put16(510, 0xaa55);
    Link(0, 0xfff8);
    Link(1, 0xffff);
  }

  void Link(size_t cluster, size_t next) {
    for (size_t fat = 0; fat < 2; ++fat) {
      Put16(kFatAt + fat * kFatSectors * kSector + 2 * cluster, next);
    }
  }
  static size_t AtCluster(size_t cluster) {
    return kDataAt + (cluster - 2) * kCluster;
  }
  // `name`: eleven characters.
  void Entry(size_t at, const char* name, bool folder, size_t cluster,
             size_t size) {
    PutText(at, name);
    bytes_[at + 11] = folder ? 0x10 : 0x20;
    Put16(at + 26, cluster);
    Put32(at + 28, size);
  }
  void Folder(size_t cluster, size_t parent) {
    Entry(AtCluster(cluster), ".          ", true, cluster, 0);
    Entry(AtCluster(cluster) + 32, "..         ", true, parent, 0);
    Link(cluster, 0xffff);
  }
  void Contents(size_t cluster, const std::string& contents) {
    std::memcpy(&bytes_[AtCluster(cluster)], contents.data(), contents.size());
    const size_t count = (contents.size() + kCluster - 1) / kCluster;
    for (size_t i = 0; i < count; ++i) {
      Link(cluster + i, i + 1 == count ? 0xffff : cluster + i + 1);
    }
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace

bool WriteFatImage(const std::string& path, const std::string& program) {
  if (program.empty() || program.size() > (kMaxClusters - 4) * kCluster) {
    return false;
  }
  Image image;
  image.BootSector();
  image.Entry(kRootAt, "EFI        ", true, 2, 0);
  image.Folder(2, 0);
  image.Entry(Image::AtCluster(2) + 64, "BOOT       ", true, 3, 0);
  image.Folder(3, 2);
  image.Entry(Image::AtCluster(3) + 64, "BOOTX64 EFI", false, 4,
              program.size());
  image.Contents(4, program);
  std::ofstream out(path, std::ios::binary);
  out << image.bytes();
  return out.good();
}

}  // namespace bulkhead::testing
