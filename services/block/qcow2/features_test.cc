// Images with the format's less common features, made by QEMU.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {
namespace {

std::string Zeroes(size_t bytes) { return std::string(bytes, 0); }

class FeaturesTest : public ::testing::Test {
 protected:
  std::string Create(const std::string& options, const std::string& size,
                     const std::string& name = "disk.qcow2") {
    const std::string path = images_.Path(name);
    QemuImg("create -q -f qcow2 -o " + options + " " + path + " " + size);
    return path;
  }
  // One bit field of the header.
  static uint8_t HeaderByte(const std::string& path, off_t offset) {
    const int fd = open(path.c_str(), O_RDONLY);
    uint8_t byte = 0xee;
    EXPECT_EQ(pread(fd, &byte, 1, offset), 1);
    close(fd);
    return byte;
  }

  ImageDirectory images_;
};

// "Autoclear feature bits": whoever writes without keeping bitmaps up to date
// clears the bit; whoever only reads leaves it.
TEST_F(FeaturesTest, BitmapsAreCalledOutdatedOnceTheDiskIsWritable) {
  const std::string path = Create("compat=1.1", "4M");
  QemuImg("bitmap --add " + path + " changes");
  ASSERT_EQ(HeaderByte(path, 95), 1);
  {
    Rig rig = OpenDisk({{path}}, {.read_only = true});
    EXPECT_EQ(rig.ReadOk(0, 4096), Zeroes(4096));
  }
  EXPECT_EQ(HeaderByte(path, 95), 1);
  {
    Rig rig = OpenDisk({{path}}, {});
    EXPECT_EQ(rig.Write(0, Pattern(1, 0, 4096)), IoStatus::kOk);
  }
  EXPECT_EQ(HeaderByte(path, 95), 0);
  EXPECT_EQ(CorruptionComplaint(path), "");
}

// "Dirty bit": refcounts may be too low, and are rebuilt before the first
// write.
TEST_F(FeaturesTest, ImageWithLazyRefcountsThatWasNotClosedIsRepaired) {
  const std::string path = Create("lazy_refcounts=on", "8M");
  // The tool dies with its refcounts unwritten.
  RunTool(
      {"sh", "-c",
       "ulimit -c 0; qemu-io -f qcow2 -c 'write -P 9 0 3M' -c 'sigraise 9' " +
           path});
  ASSERT_EQ(HeaderByte(path, 79) & 1, 1) << "qemu-io left it clean";
  ASSERT_NE(CorruptionComplaint(path), "");
  {
    Rig rig = OpenDisk({{path}}, {});
    EXPECT_EQ(rig.ReadOk(0, 1 << 20), std::string(1 << 20, 9));
    EXPECT_EQ(rig.Write(4 << 20, Pattern(1, 0, 1 << 20)), IoStatus::kOk);
  }
  EXPECT_EQ(HeaderByte(path, 79) & 1, 0);
  EXPECT_EQ(CheckComplaint(path), "");
  const std::string content = ContentByQemu(path);
  EXPECT_TRUE(content.substr(0, 3 << 20) == std::string(3 << 20, 9));
  EXPECT_TRUE(content.substr(4 << 20, 1 << 20) == Pattern(1, 0, 1 << 20));
}

TEST_F(FeaturesTest, PreallocatedImagesAreWrittenInPlace) {
  for (const std::string mode : {"metadata", "falloc", "full"}) {
    const std::string path =
        Create("preallocation=" + mode, "4M", mode + ".qcow2");
    {
      Rig rig = OpenDisk({{path}}, {});
      EXPECT_EQ(rig.ReadOk(0, 4 << 20), Zeroes(4 << 20));
      EXPECT_EQ(rig.Write(1 << 20, Pattern(2, 0, 1 << 20)), IoStatus::kOk);
    }
    EXPECT_EQ(CheckComplaint(path), "") << mode;
    EXPECT_TRUE(ContentByQemu(path).substr(1 << 20, 1 << 20) ==
                Pattern(2, 0, 1 << 20));
  }
}

TEST_F(FeaturesTest, DiskThatEndsInsideAClusterIsWrittenToItsLastSector) {
  const std::string path = Create("compat=1.1", "1050112");  // 2051 sectors
  const uint64_t size = 1050112;
  {
    Rig rig = OpenDisk({{path}}, {});
    EXPECT_EQ(rig.backend().geometry().capacity_bytes, size);
    EXPECT_EQ(rig.Write(size - 1024, Pattern(3, 0, 1024)), IoStatus::kOk);
    EXPECT_EQ(rig.Write(size, std::string(512, 'x')), IoStatus::kInvalid);
    EXPECT_EQ(rig.Zero(size - 512, 512, true), IoStatus::kOk);
    EXPECT_EQ(rig.ReadOk(size - 1024, 1024),
              Pattern(3, 0, 1024).substr(0, 512) + Zeroes(512));
    EXPECT_EQ(rig.Discard(size - 65536, 65536), IoStatus::kOk);
  }
  EXPECT_EQ(CheckComplaint(path), "");
  EXPECT_EQ(ContentByQemu(path).size(), size);
}

TEST_F(FeaturesTest, RawParentThatIsShorterAndNotAlignedIsPadded) {
  const std::string base = images_.Path("base.raw");
  std::ofstream(base, std::ios::binary) << std::string(100000, 'b');
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F raw -b " + base + " " + path + " 1M");
  const std::string expected =
      std::string(100000, 'b') + Zeroes((1 << 20) - 100000);
  {
    Rig rig = OpenDisk({{path}, {base, /*is_qcow2=*/false}}, {});
    EXPECT_TRUE(Content(rig) == expected);
    // Both sides of the parent's end, in one cluster.
    EXPECT_EQ(rig.Write(98304, Pattern(4, 0, 512)), IoStatus::kOk);
    EXPECT_EQ(rig.Write(102400, Pattern(5, 0, 512)), IoStatus::kOk);
  }
  EXPECT_EQ(CheckComplaint(path), "");
  std::string changed = expected;
  changed.replace(98304, 512, Pattern(4, 0, 512));
  changed.replace(102400, 512, Pattern(5, 0, 512));
  EXPECT_TRUE(ContentByQemu(path) == changed);
}

TEST_F(FeaturesTest, ChainOfFourImagesOfDifferentClusterSizes) {
  std::vector<ChainMember> chain;
  std::string below;
  const char* clusters[] = {"64k", "512", "2M", "4k"};
  for (int i = 0; i < 4; ++i) {
    const std::string path = images_.Path("layer" + std::to_string(i));
    QemuImg("create -q -f qcow2 -o cluster_size=" + std::string(clusters[i]) +
            (below.empty() ? "" : " -F qcow2 -b " + below) + " " + path +
            " 8M");
    QemuIo(path, {"write -P " + std::to_string(i + 1) + " " +
                      std::to_string(i * 1500) + "k 2M",
                  "write -z " + std::to_string(i * 700) + "k 64k"});
    chain.insert(chain.begin(), {path});
    below = path;
  }
  const std::string expected = ContentByQemu(below);
  Rig rig = OpenDisk(chain, {.workers = 1});
  EXPECT_TRUE(Content(rig) == expected);
  EXPECT_EQ(rig.Write(3 << 20, Pattern(6, 0, 5000 * 512)), IoStatus::kOk);
  rig.Close();
  EXPECT_EQ(CheckComplaint(below), "");
  std::string changed = expected;
  changed.replace(3 << 20, 5000 * 512, Pattern(6, 0, 5000 * 512));
  EXPECT_TRUE(ContentByQemu(below) == changed);
}

// "Extended L2 Entries": subclusters.
TEST_F(FeaturesTest, SubclustersAreReadAsQemuReadsThem) {
  const std::string base = Create("compat=1.1", "4M", "base.qcow2");
  QemuIo(base, {"write -P 1 0 4M"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base +
          " -o extended_l2=on,cluster_size=128k " + path + " 4M");
  QemuIo(path, {"write -P 2 4k 4k", "write -P 3 60k 12k", "write -z 100k 8k",
                "write -P 4 1M 1M", "write -z 1100k 100k", "discard 3M 256k"});
  const std::string expected = ContentByQemu(path);
  Rig rig = OpenDisk({{path}, {base}}, {.read_only = true});
  EXPECT_TRUE(Content(rig) == expected);
}

TEST_F(FeaturesTest, ResizedImageHasItsNewSize) {
  const std::string path = Create("cluster_size=512", "1M");
  QemuIo(path, {"write -P 7 0 1M"});
  QemuImg("resize -q -f qcow2 " + path + " 3M");
  Rig rig = OpenDisk({{path}}, {});
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 3u << 20);
  EXPECT_EQ(rig.Write((3 << 20) - 4096, Pattern(8, 0, 4096)), IoStatus::kOk);
  EXPECT_TRUE(Content(rig) == std::string(1 << 20, 7) +
                                  Zeroes((2 << 20) - 4096) +
                                  Pattern(8, 0, 4096));
  rig.Close();
  EXPECT_EQ(CheckComplaint(path), "");
}

// The file gives space back to the host.
TEST_F(FeaturesTest, DiscardedClustersAreUsedAgain) {
  const std::string path = Create("compat=1.1", "64M");
  Rig rig = OpenDisk({{path}}, {});
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(rig.Write(0, Pattern(round, 0, 8 << 20)), IoStatus::kOk);
    EXPECT_EQ(rig.Flush(), IoStatus::kOk);
    EXPECT_EQ(rig.Discard(0, 8 << 20), IoStatus::kOk);
    EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  }
  rig.Close();
  EXPECT_EQ(CheckComplaint(path), "");
  std::ifstream file(path, std::ios::ate | std::ios::binary);
  EXPECT_LT(file.tellg(), 80 << 20) << "160 MiB were written in all";
}

// With the write cache off every write is there when it is done: nothing is
// lost by a process that never flushes nor closes.
TEST_F(FeaturesTest, KilledProcessLosesNothingThatWasFlushed) {
  const std::string path = Create("cluster_size=4k", "4M");
  const pid_t pid = fork();
  if (pid == 0) {
    Rig rig = OpenDisk({{path}}, {});
    rig.backend().SetWriteCache(false);
    rig.Write(0, Pattern(9, 0, 1 << 20));
    rig.Discard(0, 4096 * 3);
    raise(SIGKILL);
  }
  int status;
  waitpid(pid, &status, 0);
  EXPECT_EQ(CorruptionComplaint(path), "");
  std::string content = ContentByQemu(path).substr(4096 * 3);
  EXPECT_TRUE(content.substr(0, (1 << 20) - 4096 * 3) ==
              Pattern(9, 0, 1 << 20).substr(4096 * 3));
}

}  // namespace
}  // namespace bulkhead::block::qcow2
