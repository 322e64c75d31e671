// The engine against images that QEMU made, and QEMU against what the engine
// made of them.

#include <gtest/gtest.h>

#include "services/block/qcow2/model.h"
#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {
namespace {

// One row of the matrix: `qemu-img create` options.
struct Variant {
  const char* name;
  const char* options;
  unsigned workers = 0;
};

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

constexpr uint64_t kSize = 8 << 20;

class VariantTest : public ::testing::TestWithParam<Variant> {
 protected:
  std::string Create(const std::string& name, uint64_t size = kSize) {
    const std::string path = images_.Path(name);
    QemuImg("create -q -f qcow2 -o " + std::string(GetParam().options) + " " +
            path + " " + std::to_string(size));
    return path;
  }
  Rig OpenRig(const std::vector<ChainMember>& chain) {
    return OpenDisk(chain, {.workers = GetParam().workers});
  }

  ImageDirectory images_;
};

TEST_P(VariantTest, WhatIsWrittenIsReadByUsAndByQemu) {
  const std::string path = Create("disk.qcow2");
  const std::string data = Pattern(1, 0, 300 << 10);
  {
    Rig rig = OpenRig({{path}});
    EXPECT_EQ(rig.backend().geometry().capacity_bytes, kSize);
    EXPECT_EQ(rig.ReadOk(0, 1 << 20), std::string(1 << 20, 0));
    EXPECT_EQ(rig.Write(12345 * 512, data.substr(0, 512)), IoStatus::kOk);
    EXPECT_EQ(rig.Write(512, data), IoStatus::kOk);
    EXPECT_EQ(rig.ReadOk(512, data.size()), data);
    EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  }
  EXPECT_EQ(CheckComplaint(path), "");
  std::string expected(kSize, 0);
  expected.replace(12345 * 512, 512, data.substr(0, 512));
  expected.replace(512, data.size(), data);
  EXPECT_TRUE(ContentByQemu(path) == expected);
}

TEST_P(VariantTest, RandomRequestsLeaveWhatTheyShould) {
  const std::string path = Create("disk.qcow2");
  std::string content(kSize, 0);
  for (uint64_t round = 0; round < 2; ++round) {
    Rig rig = OpenRig({{path}});
    ASSERT_TRUE(Content(rig) == content) << "round " << round;
    Model model(&rig, content, 100 + round);
    model.Run(500, 8);
    content = model.content();
    EXPECT_TRUE(Content(rig) == content) << "round " << round;
    rig.Close();
    ASSERT_EQ(CheckComplaint(path), "") << "round " << round;
    ASSERT_TRUE(ContentByQemu(path) == content) << "round " << round;
  }
}

TEST_P(VariantTest, OverlayOnAShorterParentKeepsWhatTheParentHad) {
  const std::string base = Create("base.qcow2", (3 << 20) + 512 * 7);
  QemuIo(base,
         {"write -P 11 0 1M", "write -P 12 2M 1M", "write -P 13 3M 3584"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base + " -o " +
          GetParam().options + " " + path + " " + std::to_string(kSize));
  std::string content = ContentByQemu(path);
  ASSERT_EQ(content.size(), kSize);
  for (uint64_t round = 0; round < 2; ++round) {
    Rig rig = OpenRig({{path}, {base}});
    ASSERT_TRUE(Content(rig) == content) << "round " << round;
    Model model(&rig, content, 200 + round);
    model.Run(300, 8);
    content = model.content();
    rig.Close();
    ASSERT_EQ(CheckComplaint(path), "");
    ASSERT_TRUE(ContentByQemu(path) == content) << "round " << round;
  }
}

TEST_P(VariantTest, InternalSnapshotIsLeftIntact) {
  const std::string path = Create("disk.qcow2");
  QemuIo(path, {"write -P 21 0 2M", "write -P 22 5M 1M", "write -z 6M 1M"});
  QemuImg("snapshot -c before " + path);
  std::string content = ContentByQemu(path);
  const std::string before = content;
  {
    Rig rig = OpenRig({{path}});
    Model model(&rig, content, 300);
    model.Run(300, 8);
    content = model.content();
  }
  ASSERT_EQ(CheckComplaint(path), "");
  ASSERT_TRUE(ContentByQemu(path) == content);
  QemuImg("snapshot -a before " + path);
  EXPECT_TRUE(ContentByQemu(path) == before);
}

TEST_P(VariantTest, CompressedClustersAreReadAndOverwritten) {
  const std::string source = Create("source.qcow2");
  QemuIo(source,
         {"write -P 31 0 2M", "write -P 32 3M 64k", "write -P 33 7M 1M"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("convert -q -c -f qcow2 -O qcow2 -o " +
          std::string(GetParam().options) + " " + source + " " + path);
  std::string content = ContentByQemu(path);
  Rig rig = OpenRig({{path}});
  ASSERT_TRUE(Content(rig) == content);
  Model model(&rig, content, 400);
  model.Run(300, 8);
  content = model.content();
  rig.Close();
  ASSERT_EQ(CheckComplaint(path), "");
  ASSERT_TRUE(ContentByQemu(path) == content);
}

constexpr Variant kVariants[] = {
    {"default", "compat=1.1"},
    {"default_workers", "compat=1.1", 2},
    {"v2", "compat=0.10"},
    {"cluster_512", "cluster_size=512"},
    {"cluster_512_refcount_64", "cluster_size=512,refcount_bits=64", 1},
    {"cluster_4k_refcount_2", "cluster_size=4k,refcount_bits=2"},
    {"cluster_2M", "cluster_size=2M", 1},
    {"refcount_8", "refcount_bits=8"},
    {"lazy", "lazy_refcounts=on"},
    {"zstd", "compression_type=zstd"},
    {"extended_64k", "extended_l2=on"},
    {"extended_16k_workers", "extended_l2=on,cluster_size=16k", 2},
    {"extended_512k", "extended_l2=on,cluster_size=512k,refcount_bits=32"},
};

INSTANTIATE_TEST_SUITE_P(Images, VariantTest, ::testing::ValuesIn(kVariants),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bulkhead::block::qcow2
