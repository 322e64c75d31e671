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
TEST_F(FeaturesTest, SubclustersAreReadAndWrittenAsQemuReadsThem) {
  const std::string base = Create("compat=1.1", "4M", "base.qcow2");
  QemuIo(base, {"write -P 1 0 4M"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base +
          " -o extended_l2=on,cluster_size=128k " + path + " 4M");
  QemuIo(path, {"write -P 2 4k 4k", "write -P 3 60k 12k", "write -z 100k 8k",
                "write -P 4 1M 1M", "write -z 1100k 100k", "discard 3M 256k"});
  const std::string expected = ContentByQemu(path);
  {
    Rig rig = OpenDisk({{path}, {base}}, {.read_only = true});
    EXPECT_TRUE(Content(rig) == expected);
  }
  std::string changed = expected;
  {
    Rig rig = OpenDisk({{path}, {base}}, {});
    EXPECT_EQ(rig.backend().geometry().discard_granularity_bytes, 4096u);
    // Inside one subcluster, over the edges of some, over those of clusters.
    for (const auto& [at, bytes] : {std::pair{2500 << 10, 512},
                                    {(2600 << 10) + 1024, 9 << 10},
                                    {(130 << 10) - 512, 300 << 10},
                                    {2 << 20, 128 << 10},
                                    {(128 << 10) * 27 + 4096, 8192}}) {
      EXPECT_EQ(rig.Write(at, Pattern(7, at, bytes)), IoStatus::kOk);
      changed.replace(at, bytes, Pattern(7, at, bytes));
    }
    EXPECT_EQ(rig.Zero(2700 << 10, 12 << 10, true), IoStatus::kOk);
    changed.replace(2700 << 10, 12 << 10, Zeroes(12 << 10));
    EXPECT_EQ(rig.Zero((1 << 20) + 512, 40 << 10, false), IoStatus::kOk);
    changed.replace((1 << 20) + 512, 40 << 10, Zeroes(40 << 10));
    EXPECT_TRUE(Content(rig) == changed);
  }
  EXPECT_EQ(CheckComplaint(path), "");
  EXPECT_TRUE(ContentByQemu(path) == changed);
}

// Copy on write by subclusters: a small write takes its own from the parent.
TEST_F(FeaturesTest, SmallWriteToAnOverlayWithSubclustersLeavesTheRestBehind) {
  const std::string base = Create("compat=1.1", "4M", "base.qcow2");
  QemuIo(base, {"write -P 1 0 4M"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base +
          " -o extended_l2=on,cluster_size=128k " + path + " 4M");
  {
    Rig rig = OpenDisk({{path}, {base}}, {});
    EXPECT_EQ(rig.Write((1 << 20) + 512, Pattern(7, 0, 512)), IoStatus::kOk);
  }
  const ToolResult map = RunTool({"qemu-img", "map", "--output=json", path});
  // One subcluster of 4 KiB is the overlay's.
  EXPECT_NE(map.output.find("\"start\": 1048576, \"length\": 4096, "
                            "\"depth\": 0"),
            std::string::npos)
      << map.output;
}

// ---- What libqcow decodes, beside what QEMU makes of it

constexpr char kPassword[] = "0123456789abcde";

// Encrypted images, which qemu-img still makes.
class LegacyTest : public FeaturesTest {
 protected:
  LegacyTest() {
    std::ofstream(images_.Path("key")) << kPassword << "\n";
    std::ofstream(images_.Path("other_key")) << "wrong";
  }
  static std::string Secret() {
    return std::string("secret,id=s,data=") + kPassword;
  }
  static std::string Encrypted(const std::string& driver,
                               const std::string& path) {
    return "driver=" + driver + ",encrypt.key-secret=s,file.filename=" + path;
  }
  std::string CreateEncrypted(const std::string& driver,
                              const std::string& options) {
    const std::string path = images_.Path("secret." + driver);
    QemuImg("create -q -f " + driver + " --object " + Secret() +
            " -o encrypt.format=aes,encrypt.key-secret=s" + options + " " +
            path + " 5000k");
    const ToolResult result =
        RunTool({"qemu-io", "--object", Secret(), "--image-opts",
                 Encrypted(driver, path), "-c", "write -P 7 100k 300k", "-c",
                 "write -P 8 400k 3k", "-c", "write -P 9 4998k 2k"});
    EXPECT_EQ(result.exit_status, 0) << result.output;
    return path;
  }
  std::string ContentByKey(const std::string& driver, const std::string& path) {
    const std::string plain = path + ".plain";
    QemuImg("convert -q --object " + Secret() + " --image-opts " +
            Encrypted(driver, path) + " -O qcow2 " + plain);
    return ContentByQemu(plain);
  }
};

TEST_F(LegacyTest, EncryptedImagesOfAllVersionsAreReadWithTheirKey) {
  const struct {
    const char* driver;
    const char* options;
  } kCases[] = {{"qcow2", ""},
                {"qcow2", ",cluster_size=512"},
                {"qcow2", ",cluster_size=2M,compat=0.10"},
                {"qcow2", ",cluster_size=4k,preallocation=metadata"},
                {"qcow", ""}};
  for (const auto& one : kCases) {
    const std::string path = CreateEncrypted(one.driver, one.options);
    const std::string expected = ContentByKey(one.driver, path);
    for (const unsigned workers : {0u, 2u}) {
      Rig rig = OpenDisk({{path, true, images_.Path("key")}},
                         {.read_only = true, .workers = workers});
      EXPECT_TRUE(Content(rig) == expected) << one.driver << one.options;
      EXPECT_TRUE(Content(rig) == expected) << "again, from the cache";
    }
  }
}

// Nothing in the image tells a wrong password: the contents are garbage, as
// they are for QEMU.
TEST_F(LegacyTest, WrongKeyGivesOtherContentsAndNoKeyIsRefused) {
  const std::string path = CreateEncrypted("qcow2", "");
  Rig rig =
      OpenDisk({{path, true, images_.Path("other_key")}}, {.read_only = true});
  EXPECT_NE(rig.ReadOk(100 << 10, 4096), std::string(4096, 7));
  EXPECT_EQ(rig.ReadOk(0, 4096), Zeroes(4096));
  EXPECT_NE(
      std::string(TryOpenDisk({{path}}, {.read_only = true}).status().message())
          .find("gives no key file"),
      std::string::npos);
  EXPECT_NE(std::string(TryOpenDisk({{path, true, images_.Path("key")}}, {})
                            .status()
                            .message())
                .find("are read-only"),
            std::string::npos);
}

TEST_F(LegacyTest, EncryptedParentIsReadThroughAnOverlayThatIsWritten) {
  const std::string base = CreateEncrypted("qcow2", "");
  const std::string expected = ContentByKey("qcow2", base);
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -u -f qcow2 -F qcow2 -b " + base + " " + path + " 5000k");
  Rig rig = OpenDisk({{path}, {base, true, images_.Path("key")}}, {});
  ASSERT_TRUE(Content(rig) == expected);
  EXPECT_EQ(rig.Write(101 << 10, Pattern(5, 0, 512)), IoStatus::kOk);
  std::string changed = expected;
  changed.replace(101 << 10, 512, Pattern(5, 0, 512));
  EXPECT_TRUE(Content(rig) == changed);
  rig.Close();
  EXPECT_EQ(CorruptionComplaint(path), "");
}

TEST_F(LegacyTest, Version1ImagesAreReadPlainCompressedAndAsParents) {
  const std::string source = Create("compat=1.1", "5M", "source.qcow2");
  QemuIo(source, {"write -P 1 0 1M", "write -P 2 3000k 77k"});
  const std::string expected = ContentByQemu(source);
  for (const std::string how : {"", "-c "}) {
    const std::string base = images_.Path("base" + how.substr(0, 2) + ".qcow");
    if (how.empty()) {
      QemuImg("convert -q -f qcow2 -O qcow " + source + " " + base);
    } else {
      // All of it is written, yet the tool always says that it failed.
      RunTool({"qemu-img", "convert", "-q", "-c", "-f", "qcow2", "-O", "qcow",
               source, base});
    }
    {
      Rig rig = OpenDisk({{base}}, {.read_only = true});
      EXPECT_TRUE(Content(rig) == expected) << how;
    }
    EXPECT_NE(std::string(TryOpenDisk({{base}}, {}).status().message())
                  .find("version 1 images are read-only"),
              std::string::npos);
    const std::string path = images_.Path("disk.qcow2");
    QemuImg("create -q -f qcow2 -F qcow -b " + base + " " + path + " 8M");
    std::string changed = ContentByQemu(path);
    Rig rig = OpenDisk({{path}, {base}}, {.workers = 1});
    EXPECT_TRUE(Content(rig) == changed);
    EXPECT_EQ(rig.Write(3 << 20, Pattern(6, 0, 65536 + 512)), IoStatus::kOk);
    rig.Close();
    changed.replace(3 << 20, 65536 + 512, Pattern(6, 0, 65536 + 512));
    EXPECT_TRUE(ContentByQemu(path) == changed);
    EXPECT_EQ(CheckComplaint(path), "");
  }
}

// A version 1 image with a parent has clusters of 512 bytes and tables larger
// than they are.
TEST_F(LegacyTest, Version1ChainIsReadAsQemuReadsIt) {
  const std::string base = Create("compat=1.1", "3M", "base.qcow2");
  QemuIo(base, {"write -P 1 0 3M"});
  const std::string path = images_.Path("disk.qcow");
  QemuImg("create -q -f qcow -F qcow2 -b " + base + " " + path + " 4M");
  EXPECT_EQ(RunTool({"qemu-io", "-f", "qcow", "-c", "write -P 2 5k 3k", "-c",
                     "write -P 3 2M 100k", path})
                .exit_status,
            0);
  const std::string plain = images_.Path("plain.qcow2");
  QemuImg("convert -q -f qcow -O qcow2 " + path + " " + plain);
  Rig rig = OpenDisk({{path}, {base}}, {.read_only = true});
  EXPECT_TRUE(Content(rig) == ContentByQemu(plain));
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
