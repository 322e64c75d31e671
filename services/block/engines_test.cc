// The ways by which a file's bytes move: inline, workers, io_uring, past the
// page cache. What is read must be the same through each.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/service_config.pb.h"
#include "services/block/direct_file.h"
#include "services/block/memory_file.h"
#include "services/block/open.h"
#include "services/block/rig.h"
#include "services/block/ring.h"

namespace bulkhead::block {
namespace {

constexpr uint64_t kDisk = 16 << 20;

struct Way {
  const char* name;
  IoEngine engine;
  bool direct;
  unsigned workers;
};

class EnginesTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    // Not in memory: there nothing waits, and no engine is asked.
    const char* directory = getenv("TEST_TMPDIR");
    path_ = std::string(directory != nullptr ? directory : "/tmp") +
            "/engines-XXXXXX";
    fd_ = mkstemp(path_.data());
    ASSERT_GE(fd_, 0);
    ASSERT_EQ(ftruncate(fd_, kDisk), 0);
    if (GetParam().direct && fcntl(fd_, F_SETFL, O_RDWR | O_DIRECT) != 0) {
      GTEST_SKIP() << "no direct I/O on " << path_;
    }
    if (GetParam().engine == IO_URING && !ProbeRing().ok()) {
      GTEST_SKIP() << "no io_uring here";
    }
    BackendConfig config;
    config.mutable_image()->set_fd(fd_);
    config.mutable_image()->set_format(RAW);
    config.set_engine(GetParam().engine);
    if (GetParam().direct) config.set_direct_alignment_bytes(512);
    auto backend =
        Open(config, {.workers = GetParam().workers, .locks_down = false});
    ASSERT_TRUE(backend.ok()) << backend.status();
    rig_ = std::make_unique<Rig>(*std::move(backend));
  }
  void TearDown() override {
    rig_.reset();
    if (fd_ >= 0) close(fd_);
    unlink(path_.c_str());
  }

  // The page cache has nothing of the file any more.
  void Forget() {
    ASSERT_EQ(fdatasync(fd_), 0);
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }

  std::string path_;
  int fd_ = -1;
  std::unique_ptr<Rig> rig_;
};

TEST_P(EnginesTest, ManyRequestsInFlightEachMoveTheirOwnBytes) {
  std::mt19937 random(3);
  std::string disk(kDisk, '\0');
  constexpr int kDepth = 64;
  for (int round = 0; round < 30; ++round) {
    if (round % 5 == 0) Forget();
    std::vector<std::unique_ptr<RigRequest>> batch;
    std::vector<void*> odd;  // buffers at odd addresses stay odd
    for (int i = 0; i < kDepth; ++i) {
      const uint64_t length = 512 * (1 + random() % 32);
      const uint64_t slot = kDisk / kDepth;
      const uint64_t offset =
          i * slot + random() % ((slot - length) / 512) * 512;
      if (random() % 2 == 0) {
        std::string data(length, static_cast<char>(random()));
        disk.replace(offset, length, data);
        batch.push_back(Rig::Make(Operation::kWrite, offset, length, data));
      } else {
        batch.push_back(Rig::Make(Operation::kRead, offset, length));
      }
    }
    batch.push_back(Rig::Make(Operation::kFlush, 0, 0));
    for (auto& request : batch) rig_->Submit(request.get());
    for (auto& request : batch) {
      ASSERT_EQ(rig_->Finish(request.get()), IoStatus::kOk);
      if (request->operation != Operation::kRead) continue;
      ASSERT_TRUE(request->data ==
                  disk.substr(request->offset_bytes, request->length_bytes))
          << request->offset_bytes;
    }
    EXPECT_EQ(rig_->backend().in_flight(), 0u);
  }
}

TEST_P(EnginesTest, ZeroesAndHolesAreReadAsZeroes) {
  ASSERT_EQ(rig_->Write(0, std::string(1 << 20, 'x')), IoStatus::kOk);
  ASSERT_EQ(rig_->Zero(4096, 8192, /*may_unmap=*/true), IoStatus::kOk);
  ASSERT_EQ(rig_->Zero(65536, 512, /*may_unmap=*/false), IoStatus::kOk);
  ASSERT_EQ(rig_->Discard(131072, 65536), IoStatus::kOk);
  EXPECT_EQ(rig_->ReadOk(4096, 8192), std::string(8192, '\0'));
  EXPECT_EQ(rig_->ReadOk(65536, 1024),
            std::string(512, '\0') + std::string(512, 'x'));
  EXPECT_EQ(rig_->ReadOk(131072, 65536), std::string(65536, '\0'));
}

TEST_P(EnginesTest, FileThatShrankFailsReadsAndNothingElse) {
  ASSERT_EQ(ftruncate(fd_, kDisk / 2), 0);
  std::string data;
  EXPECT_EQ(rig_->Read(kDisk - 4096, 4096, &data), IoStatus::kIoError);
  EXPECT_EQ(rig_->Read(0, 4096, &data), IoStatus::kOk);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, EnginesTest,
    testing::Values(Way{"inline", WORKERS, false, 0},
                    Way{"workers", WORKERS, false, 3},
                    Way{"io_uring", IO_URING, false, 1},
                    Way{"direct", WORKERS, true, 3},
                    Way{"io_uring_direct", IO_URING, true, 1}),
    [](const auto& info) { return std::string(info.param.name); });

// Past the page cache a file ends with a block, at opening and ever after: else
// writes to its end make it longer than the disk.
TEST(DirectDiskTest, GrowsToWholeBlocksOnly) {
  constexpr uint64_t kBlock = 4096;
  constexpr uint64_t kOdd = kDisk + 512;
  const char* directory = getenv("TEST_TMPDIR");
  std::string path =
      std::string(directory != nullptr ? directory : "/tmp") + "/grow-XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  unlink(path.c_str());
  ASSERT_EQ(ftruncate(fd, kDisk), 0);
  if (fcntl(fd, F_SETFL, O_RDWR | O_DIRECT) != 0) {
    GTEST_SKIP() << "no direct I/O on " << path;
  }
  BackendConfig config;
  config.mutable_image()->set_fd(fd);
  config.mutable_image()->set_format(RAW);
  config.set_direct_alignment_bytes(kBlock);
  {
    auto backend = Open(config, {.workers = 1, .locks_down = false});
    ASSERT_TRUE(backend.ok()) << backend.status();
    Rig rig(*std::move(backend));
    EXPECT_EQ(rig.Grow(kOdd),
              absl::InvalidArgumentError(absl::StrCat(
                  "direct: ", kOdd, " bytes are not a multiple of 4096")));
    EXPECT_EQ(rig.backend().geometry().capacity_bytes, kDisk);
    EXPECT_EQ(lseek(fd, 0, SEEK_END), static_cast<off_t>(kDisk));

    ASSERT_EQ(rig.Grow(kDisk + kBlock), absl::OkStatus());
    EXPECT_EQ(rig.Write(kDisk + kBlock - 512, std::string(512, 'e')),
              IoStatus::kOk);
    EXPECT_EQ(lseek(fd, 0, SEEK_END), static_cast<off_t>(kDisk + kBlock));
  }
  EXPECT_TRUE(Open(config, {.workers = 1, .locks_down = false}).ok());
  close(fd);
}

// A file in memory that is as strict as a disk.
class StrictFile final : public MemoryFile {
 public:
  using MemoryFile::MemoryFile;

  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override {
    Check(segments, count, offset_bytes);
    return MemoryFile::Read(segments, count, offset_bytes, wait);
  }
  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override {
    Check(segments, count, offset_bytes);
    return MemoryFile::Write(segments, count, offset_bytes, wait);
  }

 private:
  static void Check(const iovec* segments, size_t count,
                    uint64_t offset_bytes) {
    EXPECT_EQ(offset_bytes % 4096, 0u);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(segments[i].iov_base) % 4096, 0u);
      EXPECT_EQ(segments[i].iov_len % 4096, 0u);
    }
  }
};

TEST(DirectFileTest, OddTransfersReachTheDiskInWholeBlocks) {
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes.assign(1 << 20, 'd');
  auto file = MakeDirectFile(std::make_unique<StrictFile>(disk), 4096);
  std::string expected = disk->bytes;
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    const uint64_t length = 1 + random() % 20000;
    const uint64_t offset = random() % (expected.size() - length);
    if (random() % 2 == 0) {
      const std::string data(length, static_cast<char>('a' + i % 26));
      expected.replace(offset, length, data);
      ASSERT_EQ(WriteBytes(*file, data.data(), length, offset), 0);
    } else {
      std::string data(length, '?');
      ASSERT_EQ(
          ReadBytes(*file, data.data(), length, offset, BeyondEnd::kFails), 0);
      ASSERT_TRUE(data == expected.substr(offset, length)) << offset;
    }
  }
  EXPECT_TRUE(disk->bytes == expected);
}

TEST(DirectFileTest, ReadAcrossTheEndIsShort) {
  auto disk = std::make_shared<MemoryDisk>();
  disk->bytes.assign(8192, 'd');
  auto file = MakeDirectFile(std::make_unique<StrictFile>(disk), 4096);
  std::string data(1000, '?');
  const iovec segment = {data.data(), data.size()};
  EXPECT_EQ(file->Read(&segment, 1, 8000, Wait::kYes), 192);
  EXPECT_EQ(data.substr(0, 192), std::string(192, 'd'));
  EXPECT_EQ(file->Read(&segment, 1, 9000, Wait::kYes), 0);
}

}  // namespace
}  // namespace bulkhead::block
