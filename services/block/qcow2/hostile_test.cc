// Images that lie. Each test spoils one thing; the engine refuses the image
// with the reason, or answers for that part only, and never reads or writes
// where the image tells it to.

#include <errno.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "services/block/memory_file.h"
#include "services/block/qcow2/chain.h"
#include "services/block/qcow2/check.h"
#include "services/block/qcow2/format.h"
#include "services/block/qcow2/tiny_image.h"
#include "services/block/rig.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kCluster = TinyImage::kCluster;

class HostileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Engine>> TryOpen(bool read_only = false) {
    disk_ = std::make_shared<MemoryDisk>();
    disk_->bytes = image_.bytes();
    std::vector<ChainFile> chain;
    chain.push_back({std::make_unique<MemoryFile>(disk_), true, "t.qcow2"});
    for (auto& parent : parents_) chain.push_back(std::move(parent));
    auto pool = WorkerPool::Create(0, AtEnd::kJoin);
    return OpenChain(std::move(chain), *std::move(pool),
                     {.engine = {.read_only = read_only}});
  }
  Rig OpenRig() {
    auto engine = TryOpen();
    EXPECT_TRUE(engine.ok()) << engine.status();
    return Rig(*std::move(engine));
  }
  // "" when it opens.
  std::string Refusal(bool read_only = false) {
    return std::string(TryOpen(read_only).status().message());
  }
  void AddParent(std::string name, bool is_qcow2 = true) {
    auto disk = std::make_shared<MemoryDisk>();
    disk->bytes = TinyImage().bytes();
    parents_.push_back(
        {std::make_unique<MemoryFile>(disk), is_qcow2, std::move(name)});
  }
  void NameParent(const std::string& name, uint64_t at = 300) {
    image_.Set64(8, at);
    image_.Set32(16, static_cast<uint32_t>(name.size()));
    image_.bytes().replace(at, name.size(), name);
  }

  // A dirty image, so that its snapshots are walked when it is opened to be
  // written; their table is the last thing in the file.
  struct Snapshot {
    uint32_t l1_size = 2;
    uint64_t l1_offset = TinyImage::kL1;
    uint32_t extra_bytes = 0;
    uint32_t count = 1;
  };
  void PutSnapshot(const Snapshot& snapshot) {
    if (image_.bytes().size() == TinyImage::kClusters * kCluster) {
      image_.Set64(72, kDirty);
    }
    const uint64_t at = (image_.bytes().size() + 511) / 512 * 512;
    image_.bytes().resize(at + 40, 0);
    image_.Set32(60, snapshot.count);
    image_.Set64(64, at);
    image_.Set64(at, snapshot.l1_offset);
    image_.Set32(at + 8, snapshot.l1_size);
    image_.Set32(at + 36, snapshot.extra_bytes);
  }

  TinyImage image_;
  std::vector<ChainFile> parents_;
  std::shared_ptr<MemoryDisk> disk_;
};

TEST_F(HostileTest, TinyImageItselfIsSound) {
  Rig rig = OpenRig();
  EXPECT_EQ(rig.ReadOk(0, TinyImage::kDiskBytes), TinyImage::Content());
  MemoryFile file(disk_);
  const auto report = Check(file, kSetUpBudget);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->corruptions, 0u) << report->first_problem;
  EXPECT_EQ(report->leaks, 0u);
}

// ---- "Header"

TEST_F(HostileTest, OtherFilesAreNoQcow2Images) {
  image_.Set32(0, 0x7f454c46);
  EXPECT_EQ(Refusal(), "t.qcow2: not a qcow2 image");
  image_.bytes() = "short";
  EXPECT_EQ(Refusal(), "t.qcow2: not a qcow2 image: the file is too short");
}

TEST_F(HostileTest, UnknownFeatureIsRefusedByTheNameThatTheImageGivesIt) {
  image_.Set64(72, uint64_t{1} << 9);
  EXPECT_EQ(Refusal(), "t.qcow2: unsupported qcow2 feature: bit 9");
  // A feature name table.
  image_.Set32(104, kExtensionFeatureNames);
  image_.Set32(108, sizeof(RawFeatureName));
  image_.bytes()[112] = 0;
  image_.bytes()[113] = 9;
  image_.bytes().replace(114, 8, "time\ntra");
  EXPECT_EQ(Refusal(),
            "t.qcow2: unsupported qcow2 feature: \"time\\ntra\" (bit 9)");
}

TEST_F(HostileTest, EncryptionIsRefusedByName) {
  image_.Set32(32, kCryptLuks);
  EXPECT_EQ(Refusal(), "t.qcow2: unsupported qcow2 feature: LUKS encryption");
  image_.Set32(32, kCryptAes);
  EXPECT_EQ(Refusal(),
            "t.qcow2: images with legacy AES encryption are read-only; "
            "qemu-img convert makes one without");
  EXPECT_EQ(Refusal(/*read_only=*/true),
            "t.qcow2: the image has legacy AES encryption, and the VM "
            "description gives no key file");
  image_.Set32(32, 3);
  EXPECT_EQ(Refusal(),
            "t.qcow2: unsupported qcow2 feature: encryption method 3");
}

TEST_F(HostileTest, ExternalDataFileIsRefusedByName) {
  image_.Set64(72, kExternalData);
  EXPECT_EQ(Refusal(),
            "t.qcow2: unsupported qcow2 feature: external data file");
}

TEST_F(HostileTest, AbsurdSizesAreRefused) {
  for (const uint32_t bits : {0u, 8u, 22u, 63u, ~0u}) {
    TinyImage fresh;
    fresh.Set32(20, bits);
    image_ = fresh;
    EXPECT_NE(Refusal(), "") << "cluster_bits " << bits;
  }
  for (const uint64_t size : {uint64_t{0}, uint64_t{1} << 40, ~uint64_t{0}}) {
    TinyImage fresh;
    fresh.Set64(24, size);
    image_ = fresh;
    EXPECT_NE(Refusal(), "") << "size " << size;
  }
  for (const uint32_t l1 : {0u, 1u, 1000000u, ~0u}) {
    TinyImage fresh;
    fresh.Set32(36, l1);
    image_ = fresh;
    EXPECT_NE(Refusal(), "") << "l1_size " << l1;
  }
  for (const uint32_t clusters : {0u, 8u, ~0u}) {
    TinyImage fresh;
    fresh.Set32(56, clusters);
    image_ = fresh;
    EXPECT_NE(Refusal(), "") << "refcount_table_clusters " << clusters;
  }
}

TEST_F(HostileTest, TablesOutsideTheFileOrMisalignedAreRefused) {
  for (const uint64_t field : {40, 48}) {
    for (const uint64_t offset :
         {uint64_t{0}, uint64_t{100}, TinyImage::kClusters * kCluster,
          uint64_t{1} << 62, ~uint64_t{511}}) {
      image_ = TinyImage();
      image_.Set64(field, offset);
      EXPECT_NE(Refusal(), "") << "field " << field << " = " << offset;
    }
  }
}

TEST_F(HostileTest, TruncatedFileIsRefusedWhereverItIsCut) {
  for (uint64_t size = 0; size < TinyImage::kData; size += 64) {
    image_ = TinyImage();
    image_.bytes().resize(size);
    EXPECT_NE(Refusal(/*read_only=*/true), "") << "cut at " << size;
  }
}

TEST_F(HostileTest, CorruptImageIsReadButNotWritten) {
  image_.Set64(72, kCorrupt);
  EXPECT_EQ(Refusal(),
            "t.qcow2: the image is marked corrupt: it can be read, and "
            "written after qemu-img check -r all");
  EXPECT_EQ(Refusal(/*read_only=*/true), "");
}

TEST_F(HostileTest, ExtensionBeyondTheFirstClusterIsRefused) {
  image_.Set32(104, kExtensionBackingFormat);
  image_.Set32(108, 4000);
  EXPECT_EQ(Refusal(), "t.qcow2: a header extension is too long");
}

// ---- Backing files

TEST_F(HostileTest, ParentThatTheDescriptionDoesNotNameIsRefused) {
  NameParent("/etc/shadow");
  EXPECT_EQ(Refusal(),
            "t.qcow2: the image has the backing file \"/etc/shadow\", which "
            "the VM description does not name");
}

TEST_F(HostileTest, ParentThatTheImageDoesNotNameIsRefused) {
  AddParent("base.qcow2");
  EXPECT_EQ(Refusal(),
            "t.qcow2: the image has no backing file, and the VM description "
            "names \"base.qcow2\"");
}

TEST_F(HostileTest, AnotherParentThanTheImageNamesIsRefused) {
  NameParent("other.qcow2");
  AddParent("/images/base.qcow2");
  EXPECT_EQ(Refusal(),
            "t.qcow2: the image has the backing file \"other.qcow2\", and the "
            "VM description names \"/images/base.qcow2\"");
}

TEST_F(HostileTest, ParentOfAnotherFormatThanTheImageSaysIsRefused) {
  NameParent("base.qcow2");
  image_.Set32(104, kExtensionBackingFormat);
  image_.Set32(108, 5);
  image_.bytes().replace(112, 5, "qcow2");
  AddParent("base.qcow2", /*is_qcow2=*/false);
  EXPECT_EQ(Refusal(),
            "t.qcow2: the image says that its backing file is \"qcow2\", and "
            "the VM description says raw");
}

TEST_F(HostileTest, ParentsNameOutsideTheFirstClusterIsRefused) {
  image_.Set64(8, 510);
  image_.Set32(16, 10);
  EXPECT_NE(Refusal(), "");
  image_.Set64(8, ~uint64_t{0});
  EXPECT_NE(Refusal(), "");
  image_.Set64(8, 300);
  image_.Set32(16, ~0u);
  EXPECT_NE(Refusal(), "");
}

// ---- "L1 table", "Refcount table": what overlaps is refused at once

TEST_F(HostileTest, L1EntriesThatHitMetadataOrEachOtherAreRefused) {
  for (const uint64_t place :
       {TinyImage::kRefcountTable, TinyImage::kRefcountBlock, TinyImage::kL1,
        TinyImage::kL2 + kCluster, TinyImage::kClusters * kCluster,
        uint64_t{1} << 50}) {
    image_ = TinyImage();
    image_.Set64(TinyImage::kL1, place | kCopied);
    EXPECT_NE(Refusal(/*read_only=*/true), "") << place;
  }
}

TEST_F(HostileTest, RefcountBlocksThatHitMetadataAreRefused) {
  for (const uint64_t place :
       {TinyImage::kRefcountTable, TinyImage::kL1, TinyImage::kL2,
        uint64_t{100}, uint64_t{1} << 60}) {
    image_ = TinyImage();
    image_.Set64(TinyImage::kRefcountTable, place);
    EXPECT_NE(Refusal(), "") << place;
  }
}

TEST_F(HostileTest, UncountedMetadataKeepsTheImageFromBeingWritten) {
  image_.Set16(TinyImage::kRefcountBlock + 4 * 2, 0);  // an L2 table
  EXPECT_EQ(Refusal(),
            "t.qcow2: its refcounts call metadata free; qemu-img check -r all "
            "repairs that");
  EXPECT_EQ(Refusal(/*read_only=*/true), "");
}

// ---- L2 entries: the part of the disk is corrupt, all else is fine

TEST_F(HostileTest, L2EntryThatMakesNoSenseIsCorruptForReadsAndWrites) {
  const uint64_t entries[] = {
      kCopied | 100,                  // misaligned: reserved bits
      kCopied | (uint64_t{1} << 57),  // reserved bits
      kCopied | (uint64_t{1} << 50),  // outside the file
      kCopied | TinyImage::kClusters * kCluster,
      kCopied | TinyImage::kL1,  // metadata as data
      kCopied | TinyImage::kRefcountBlock,
      kCopied | TinyImage::kL2,
      TinyImage::kRefcountTable,
      kCompressed | kCopied | TinyImage::kCompressedData,
      kCompressed | TinyImage::kL1,
      kCompressed | (uint64_t{1} << 40),
      kCompressed,  // the header
      ~uint64_t{0},
  };
  for (const uint64_t entry : entries) {
    image_ = TinyImage();
    image_.SetL2(0, entry);
    Rig rig = OpenRig();
    const std::string before = disk_->bytes;
    std::string data;
    EXPECT_EQ(rig.Read(0, kCluster, &data), IoStatus::kCorrupt) << entry;
    EXPECT_EQ(rig.Write(0, std::string(kCluster, 'x')), IoStatus::kCorrupt);
    EXPECT_EQ(rig.Zero(0, kCluster, true), IoStatus::kCorrupt);
    EXPECT_TRUE(disk_->bytes == before) << entry;
    EXPECT_EQ(rig.ReadOk(2 * kCluster, kCluster),
              TinyImage::Content().substr(2 * kCluster, kCluster));
  }
}

TEST_F(HostileTest, CompressedClusterThatDoesNotInflateIsCorrupt) {
  image_.bytes().replace(TinyImage::kCompressedData, kCluster,
                         std::string(kCluster, '\xff'));
  Rig rig = OpenRig();
  std::string data;
  EXPECT_EQ(rig.Read(2 * kCluster, kCluster, &data), IoStatus::kCorrupt);
  EXPECT_EQ(rig.ReadOk(0, kCluster), std::string(kCluster, 'd'));
  // Overwritten as a whole it needs nothing of the old contents.
  EXPECT_EQ(rig.Write(2 * kCluster, std::string(kCluster, 'n')), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(2 * kCluster, kCluster), std::string(kCluster, 'n'));
}

// The stream may be longer than the cluster; nothing may run over.
TEST_F(HostileTest, CompressedClusterThatInflatesToLessIsCorrupt) {
  // A stored block of one byte, then the end.
  image_.bytes().replace(TinyImage::kCompressedData, 6,
                         std::string("\x01\x01\x00\xfe\xff\x41", 6));
  Rig rig = OpenRig();
  std::string data;
  EXPECT_EQ(rig.Read(2 * kCluster, kCluster, &data), IoStatus::kCorrupt);
}

// A stale cluster behind a zero flag is never shown.
TEST_F(HostileTest, PartialWriteToAKeptZeroClusterShowsNoOldBytes) {
  Rig rig = OpenRig();
  EXPECT_EQ(rig.ReadOk(kCluster, kCluster), std::string(kCluster, 0));
  EXPECT_EQ(rig.Write(kCluster, std::string(kCluster, 'x')), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(kCluster, kCluster), std::string(kCluster, 'x'));
}

// Refcounts that claim too little make the engine give up a cluster, not crash.
TEST_F(HostileTest, ReleasingAnUncountedClusterLeavesTheDiskUsable) {
  image_.Set16(TinyImage::kRefcountBlock + 8 * 2, 0);
  Rig rig = OpenRig();
  EXPECT_EQ(rig.Write(2 * kCluster, std::string(kCluster, 'n')), IoStatus::kOk);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(2 * kCluster, kCluster), std::string(kCluster, 'n'));
}

TEST_F(HostileTest, FullRefcountTableOfGarbageGivesAnErrorNotAHang) {
  // Every cluster that the only block counts is taken, and the table's other
  // entries point outside the file: refused.
  for (uint64_t i = 8; i < 64; ++i) {
    image_.Set64(TinyImage::kRefcountTable + i * 8, i << 40);
  }
  EXPECT_NE(Refusal(), "");
}

// ---- Bugs published of other readers of these formats

// CVE-2014-0143: "integer overflows ... large L1 table in
// qcow2_snapshot_load_tmp" and in qcow2_grow_l1_table.
TEST_F(HostileTest, Cve20140143HugeL1TableOfASnapshotIsRefused) {
  PutSnapshot({.l1_size = 0x20000001, .l1_offset = TinyImage::kL1});
  EXPECT_EQ(Refusal(), "t.qcow2: a snapshot's L1 table is too large");
  EXPECT_EQ(Refusal(/*read_only=*/true), "");
  PutSnapshot({.l1_size = 2, .l1_offset = uint64_t{1} << 62});
  EXPECT_EQ(Refusal(), "t.qcow2: a snapshot's L1 table lies outside the file");
  PutSnapshot({.l1_size = 2, .l1_offset = 7});
  EXPECT_EQ(Refusal(), "t.qcow2: a snapshot's L1 table is misaligned");
}

// CVE-2014-0143: "crafted cluster indexes in the get_refcount function".
TEST_F(HostileTest, Cve20140143EntryWithAHugeClusterIndexIsNoCluster) {
  image_.Set64(72, kDirty);
  image_.SetL2(5, (uint64_t{1} << 55) | kCopied);
  EXPECT_EQ(Refusal(), absl::StrCat("t.qcow2: data at ", uint64_t{1} << 55,
                                    " lies outside the file"));
  image_.Set64(72, 0);
  Rig rig = OpenRig();
  std::string data;
  EXPECT_EQ(rig.Read(5 * kCluster, kCluster, &data), IoStatus::kCorrupt);
  EXPECT_EQ(rig.Write(5 * kCluster, std::string(kCluster, 'x')),
            IoStatus::kCorrupt);
}

// CVE-2014-0144: fields of the header that nobody had looked at.
TEST_F(HostileTest, Cve20140144HeaderFieldsBeyondAllBoundsAreRefused) {
  const struct {
    uint64_t at;
    uint32_t value;
  } kFields[] = {{100, 0xfffffff8},           // header_length
                 {100, 4},          {96, 7},  // refcount_order
                 {56, 0x7fffffff},            // refcount_table_clusters
                 {60, 0xffffffff},            // nb_snapshots
                 {20, 64},                    // cluster_bits
                 {36, 0x40000000}};           // l1_size
  for (const auto& field : kFields) {
    image_ = TinyImage();
    image_.Set32(field.at, field.value);
    EXPECT_NE(Refusal(/*read_only=*/true), "") << field.at;
  }
}

// CVE-2014-0145: "a large number of snapshots", a snapshot table beyond the
// file's end, and names and extra data that do not end.
TEST_F(HostileTest, Cve20140145SnapshotTableThatDoesNotEndIsRefused) {
  PutSnapshot({.count = 65537});
  EXPECT_EQ(Refusal(/*read_only=*/true), "t.qcow2: too many snapshots");
  PutSnapshot({.count = 65536});
  EXPECT_EQ(Refusal(), "t.qcow2: the snapshot table is cut off");
  PutSnapshot({.extra_bytes = 0xffffffff, .count = 2});
  EXPECT_EQ(Refusal(), "t.qcow2: the snapshot table is too large");
}

// CVE-2014-0146: an image that fails to open after its snapshots were counted
// and before they were read.
TEST_F(HostileTest, Cve20140146SnapshotsOfAnImageThatIsRefusedAreNotTouched) {
  PutSnapshot({});
  image_.Set64(64, ~uint64_t{511});
  EXPECT_EQ(Refusal(/*read_only=*/true),
            "t.qcow2: the snapshot table is not inside the file");
}

// CVE-2014-0147: counts that a snapshot's tables drive up or down by mistake.
// (Such an image contradicts its own COPIED flags: what the snapshot has is
// lost with the first write. The disk is not.)
TEST_F(HostileTest, Cve20140147SnapshotWhoseTablesAreTheActiveOnesIsCounted) {
  PutSnapshot({.l1_size = 2, .l1_offset = TinyImage::kL1});
  Rig rig = OpenRig();
  EXPECT_EQ(rig.Write(0, std::string(kCluster, 'x')), IoStatus::kOk);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(0, kCluster), std::string(kCluster, 'x'));
  rig.Close();
  // Counts are what the tables say, no more and no less.
  MemoryFile file(disk_);
  const auto report = Check(file, kSetUpBudget);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->leaks, 0u);
}

// CVE-2024-4467: the name of the external data file was opened, "json:" and
// all. CVE-2026-27211: a backing file of the image's own choice was opened.
TEST_F(HostileTest, Cve20244467NamesOfOtherFilesAreNeverOpened) {
  image_.Set64(72, kExternalData);
  image_.Set32(104, 0x44415441);  // "DATA"
  image_.Set32(108, 24);
  image_.bytes().replace(112, 24, "json:{\"driver\":\"file\"  ");
  EXPECT_EQ(Refusal(),
            "t.qcow2: unsupported qcow2 feature: external data file");
}
TEST_F(HostileTest, Cve202627211BackingFileOfTheImagesChoiceIsNotOpened) {
  for (const std::string name :
       {"/etc/shadow", "json:{\"file.filename\":\"/etc/shadow\"}",
        "nbd://127.0.0.1/", "/proc/self/fd/3"}) {
    image_ = TinyImage();
    NameParent(name);
    EXPECT_NE(Refusal(/*read_only=*/true)
                  .find("which the VM description does not name"),
              std::string::npos);
  }
}

// ---- Walks have an end

TEST_F(HostileTest, SnapshotsThatNameOneTableThousandsOfTimesAreNotAllWalked) {
  // 40 KiB of snapshots that all have the same 4 MiB of L1 entries, which all
  // name one table: 21 GiB to walk.
  constexpr uint32_t kEntries = 512 << 10;
  image_.Set64(72, kDirty);
  const uint64_t l1_at = image_.bytes().size();
  image_.bytes().resize(l1_at + kEntries * 8, 0);
  for (uint64_t i = 0; i < kEntries; ++i) {
    image_.Set64(l1_at + i * 8, TinyImage::kL2 + kCluster);
  }
  PutSnapshot({.l1_size = kEntries, .l1_offset = l1_at, .count = 1000});
  const uint64_t entry = image_.bytes().size() - 40;
  const std::string snapshot = image_.bytes().substr(entry, 40);
  for (int i = 1; i < 1000; ++i) image_.bytes() += snapshot;
  EXPECT_EQ(Refusal(),
            "t.qcow2: its tables are too many to be walked here; qemu-img "
            "check -r all looks at all of them");
}

TEST_F(HostileTest, FileOfMoreClustersThanTheBudgetIsNotCounted) {
  image_.bytes().resize(uint64_t{64} << 20);
  auto shared = std::make_shared<MemoryDisk>();
  shared->bytes = std::move(image_.bytes());
  MemoryFile file(shared);
  const auto report =
      Check(file, {.clusters = 1 << 16, .table_bytes = 1 << 20});
  EXPECT_EQ(report.status().message(),
            "its clusters are too many to be counted here; qemu-img check -r "
            "all counts all of them");
}

// ---- The host's failures

TEST_F(HostileTest, NoSpaceIsReportedTheImageStaysSoundAndWritingResumes) {
  Rig rig = OpenRig();
  disk_->space = disk_->bytes.size();
  const std::string data(16 * kCluster, 'x');
  EXPECT_EQ(rig.Write(8 * kCluster, data), IoStatus::kNoSpace);
  EXPECT_EQ(rig.ReadOk(0, kCluster), std::string(kCluster, 'd'));
  disk_->space = ~uint64_t{0};
  EXPECT_EQ(rig.Write(8 * kCluster, data), IoStatus::kOk);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(8 * kCluster, data.size()), data);
  rig.Close();
  MemoryFile file(disk_);
  const auto report = Check(file, kSetUpBudget);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->corruptions, 0u) << report->first_problem;
  EXPECT_EQ(report->leaks, 0u);
}

// Once a write-back has failed the kernel drops the error: no later flush may
// claim that the data is safe.
TEST_F(HostileTest, FailedSyncFailsEveryLaterFlush) {
  Rig rig = OpenRig();
  EXPECT_EQ(rig.Write(0, std::string(kCluster, 'x')), IoStatus::kOk);
  disk_->sync_error = EIO;
  EXPECT_EQ(rig.Flush(), IoStatus::kIoError);
  disk_->sync_error = 0;
  EXPECT_EQ(rig.Flush(), IoStatus::kIoError);
  EXPECT_EQ(rig.ReadOk(0, kCluster), std::string(kCluster, 'x'));
}

TEST_F(HostileTest, FailedReadsAndWritesAreErrorsOfThatRequest) {
  Rig rig = OpenRig();
  disk_->read_error = EIO;
  std::string data;
  EXPECT_EQ(rig.Read(0, kCluster, &data), IoStatus::kIoError);
  disk_->read_error = 0;
  EXPECT_EQ(rig.ReadOk(0, kCluster), std::string(kCluster, 'd'));
  disk_->write_error = EIO;
  EXPECT_EQ(rig.Write(0, std::string(kCluster, 'x')), IoStatus::kIoError);
  disk_->write_error = 0;
  EXPECT_EQ(rig.Write(0, std::string(kCluster, 'x')), IoStatus::kOk);
}

}  // namespace
}  // namespace bulkhead::block::qcow2
