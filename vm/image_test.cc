// How large a service may make its images' files.

#include "vm/image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A file with the head of a qcow2 image in it.
Fd Qcow2(uint32_t cluster_bits, uint64_t disk_bytes) {
  Fd fd(memfd_create("image", MFD_CLOEXEC));
  unsigned char head[32] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
  for (int i = 0; i < 4; ++i) {
    head[20 + i] = static_cast<unsigned char>(cluster_bits >> (24 - 8 * i));
  }
  for (int i = 0; i < 8; ++i) {
    head[24 + i] = static_cast<unsigned char>(disk_bytes >> (56 - 8 * i));
  }
  EXPECT_EQ(write(fd.get(), head, sizeof(head)), ssize_t{sizeof(head)});
  return fd;
}

TEST(MostImageBytesTest, ARawImageKeepsItsSizeToTheEndOfItsLastSector) {
  EXPECT_EQ(MostImageBytes(-1, RAW, 16 * kMiB), 16 * kMiB);
  EXPECT_EQ(MostImageBytes(-1, RAW, 16 * kMiB + 1), 16 * kMiB + 4096);
  EXPECT_EQ(MostImageBytes(-1, RAW, 0), 0u);
}

TEST(MostImageBytesTest, AQcow2ImageMayGrowByItsDiskAndTheTablesForThat) {
  const Fd image = Qcow2(16, 1024 * kMiB);
  const uint64_t most = MostImageBytes(image.get(), QCOW2, 2 * kMiB);
  // What `qemu-img measure` says of it, fully allocated.
  EXPECT_GE(most, 1'074'135'040u);
  EXPECT_LE(most, 2 * kMiB + 1024 * kMiB + 65 * kMiB);
}

// The smallest clusters have the largest tables: an entry of 16 bytes, and a
// count of 8, for each 512 bytes.
TEST(MostImageBytesTest, SmallClustersHaveRoomForTheirTables) {
  const Fd image = Qcow2(9, 1024 * kMiB);
  EXPECT_GE(MostImageBytes(image.get(), QCOW2, 0),
            1024 * kMiB + 1024 * kMiB / 512 * 24);
}

TEST(MostImageBytesTest, AnImageThatNoServiceTakesMayNotGrow) {
  for (const uint32_t bits : {0U, 8U, 22U, 0xffffffffU}) {
    EXPECT_EQ(MostImageBytes(Qcow2(bits, kMiB).get(), QCOW2, kMiB), kMiB);
  }
  EXPECT_EQ(MostImageBytes(Qcow2(16, ~uint64_t{0}).get(), QCOW2, kMiB), kMiB);
  // Shorter than its header.
  const Fd empty(memfd_create("image", MFD_CLOEXEC));
  EXPECT_EQ(MostImageBytes(empty.get(), QCOW2, 0), 0u);
}

}  // namespace
}  // namespace bulkhead::vm
