// A disk that becomes longer while it is in use.
// SPEC qcow2.txt "Header": size, l1_size, l1_table_offset.

#include <gtest/gtest.h>

#include <string>

#include "services/block/qcow2/model.h"
#include "services/block/qcow2/qemu_tools.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class GrowTest : public ::testing::Test {
 protected:
  std::string Create(const std::string& options, const std::string& size,
                     const std::string& name = "disk.qcow2") {
    const std::string path = images_.Path(name);
    QemuImg("create -q -f qcow2 -o " + options + " " + path + " " + size);
    return path;
  }

  ImageDirectory images_;
};

struct Kind {
  const char* name;
  const char* options;
  unsigned workers;
};

class GrowKindTest : public GrowTest,
                     public ::testing::WithParamInterface<Kind> {};

// With clusters of 512 bytes each entry of the L1 table maps 32 KiB, so the
// table moves; with those of 64 KiB it stays.
TEST_P(GrowKindTest, GrownDiskHoldsWhatItHeldAndWhatIsWrittenBehind) {
  const std::string path = Create(GetParam().options, "2M");
  Rig rig = OpenDisk({{path}}, {.workers = GetParam().workers});
  std::string content(2 * kMiB, 0);
  for (const uint64_t size : {3 * kMiB, 3 * kMiB + 512, 9 * kMiB}) {
    Model model(&rig, content, size);
    model.Run(150, 8);
    EXPECT_EQ(rig.Grow(size), absl::OkStatus());
    EXPECT_EQ(rig.backend().geometry().capacity_bytes, size);
    content = model.content();
    content.resize(size, 0);
  }
  Model model(&rig, content, 1);
  model.Run(300, 8);
  EXPECT_TRUE(Content(rig) == model.content());
  rig.Close();
  EXPECT_EQ(CheckComplaint(path), "");
  EXPECT_TRUE(ContentByQemu(path) == model.content());
}

TEST_P(GrowKindTest, RequestsThatComeMeanwhileWaitAndEndWell) {
  const std::string path = Create(GetParam().options, "2M");
  Rig rig = OpenDisk({{path}}, {.workers = GetParam().workers});
  std::vector<std::unique_ptr<RigRequest>> flying;
  for (uint64_t i = 0; i < 8; ++i) {
    flying.push_back(Rig::Make(Operation::kWrite, i * 65536, 65536,
                               Pattern(1, i * 65536, 65536)));
    rig.Submit(flying.back().get());
  }
  bool grown = false;
  Growth growth;
  growth.size_bytes = 64 * kMiB;
  growth.owner = &grown;
  growth.done = [](Growth* g) { *static_cast<bool*>(g->owner) = true; };
  rig.backend().Grow(&growth);
  for (uint64_t i = 8; i < 16; ++i) {
    flying.push_back(Rig::Make(Operation::kWrite, i * 65536, 65536,
                               Pattern(1, i * 65536, 65536)));
    rig.Submit(flying.back().get());
  }
  flying.push_back(Rig::Make(Operation::kFlush, 0, 0));
  rig.Submit(flying.back().get());
  for (auto& request : flying)
    EXPECT_EQ(rig.Finish(request.get()), IoStatus::kOk);
  while (!grown) rig.PollOnce();
  EXPECT_EQ(growth.status, absl::OkStatus());
  EXPECT_EQ(rig.Write(63 * kMiB, Pattern(2, 0, kMiB)), IoStatus::kOk);
  EXPECT_TRUE(rig.ReadOk(0, kMiB) == Pattern(1, 0, kMiB));
  rig.Close();
  EXPECT_EQ(CheckComplaint(path), "");
}

INSTANTIATE_TEST_SUITE_P(
    , GrowKindTest,
    ::testing::Values(Kind{"plain", "compat=1.1", 0},
                      Kind{"clusters_512", "cluster_size=512", 0},
                      Kind{"clusters_512_workers", "cluster_size=512", 2},
                      Kind{"refcount_bits_1",
                           "cluster_size=512,refcount_bits=1", 2},
                      Kind{"extended", "extended_l2=on,cluster_size=16k", 2},
                      Kind{"version_2", "compat=0.10,cluster_size=512", 0}),
    [](const auto& info) { return info.param.name; });

TEST_F(GrowTest, SnapshotOfTheShorterDiskStaysWhatItWas) {
  const std::string path = Create("cluster_size=512", "1M");
  QemuIo(path, {"write -P 7 0 1M"});
  QemuImg("snapshot -c before " + path);
  Rig rig = OpenDisk({{path}}, {});
  EXPECT_EQ(rig.Grow(4 * kMiB), absl::OkStatus());
  EXPECT_EQ(rig.Write(0, Pattern(1, 0, 4 * kMiB)), IoStatus::kOk);
  rig.Close();
  EXPECT_EQ(CheckComplaint(path), "");
  EXPECT_TRUE(ContentByQemu(path) == Pattern(1, 0, 4 * kMiB));
  QemuImg("snapshot -a before " + path);
  EXPECT_TRUE(ContentByQemu(path).substr(0, kMiB) == std::string(kMiB, 7));
}

// Behind a shorter parent there are zeroes, before and after.
TEST_F(GrowTest, OverlayGrowsPastItsShorterParent) {
  const std::string base = Create("compat=1.1", "1M", "base.qcow2");
  QemuIo(base, {"write -P 7 0 1M"});
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base + " " + path + " 2M");
  Rig rig = OpenDisk({{path}, {base}}, {});
  EXPECT_EQ(rig.Grow(3 * kMiB), absl::OkStatus());
  EXPECT_TRUE(Content(rig) == std::string(kMiB, 7) + std::string(2 * kMiB, 0));
}

TEST_F(GrowTest, OverlayShorterThanItsParentIsRefused) {
  const std::string base = Create("compat=1.1", "4M", "base.qcow2");
  const std::string path = images_.Path("disk.qcow2");
  QemuImg("create -q -f qcow2 -F qcow2 -b " + base + " " + path + " 2M");
  Rig rig = OpenDisk({{path}, {base}}, {});
  const absl::Status status = rig.Grow(3 * kMiB);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.message().find("backing file is longer"),
            absl::string_view::npos);
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 2 * kMiB);
}

TEST_F(GrowTest, Version2ImageWithSnapshotsIsRefused) {
  const std::string path = Create("compat=0.10", "1M");
  QemuImg("snapshot -c before " + path);
  Rig rig = OpenDisk({{path}}, {});
  EXPECT_TRUE(absl::IsFailedPrecondition(rig.Grow(2 * kMiB)));
}

TEST_F(GrowTest, SizeThatMakesNoSenseIsRefusedAndNothingChanges) {
  const std::string path = Create("compat=1.1", "2M");
  Rig rig = OpenDisk({{path}}, {});
  for (const uint64_t size :
       {uint64_t{0}, kMiB, 2 * kMiB, 3 * kMiB + 1, ~uint64_t{0} - 511}) {
    EXPECT_TRUE(absl::IsInvalidArgument(rig.Grow(size))) << size;
  }
  // More than its L1 table may hold while it runs.
  EXPECT_TRUE(absl::IsFailedPrecondition(rig.Grow(uint64_t{1} << 62)));
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 2 * kMiB);
  rig.Close();
  Rig reader = OpenDisk({{path}}, {.read_only = true});
  EXPECT_TRUE(absl::IsFailedPrecondition(reader.Grow(4 * kMiB)));
}

}  // namespace
}  // namespace bulkhead::block::qcow2
