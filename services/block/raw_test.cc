#include "services/block/raw.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/service_config.pb.h"
#include "services/block/open.h"
#include "services/block/rig.h"

namespace bulkhead::block {
namespace {

class TempFile {
 public:
  explicit TempFile(off_t size) {
    path_ = ::testing::TempDir() + "/raw_test_XXXXXX";
    fd_ = mkstemp(path_.data());
    EXPECT_GE(fd_, 0);
    EXPECT_EQ(ftruncate(fd_, size), 0);
  }
  ~TempFile() {
    close(fd_);
    unlink(path_.c_str());
  }
  int fd() const { return fd_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_;
};

BackendConfig Config(int fd, bool read_only = false) {
  BackendConfig config;
  config.mutable_image()->set_fd(fd);
  config.mutable_image()->set_format(RAW);
  config.mutable_image()->set_name("disk.raw");
  config.set_read_only(read_only);
  return config;
}

class RawTest : public ::testing::TestWithParam<unsigned> {
 protected:
  Rig OpenRig(const BackendConfig& config) {
    auto backend = Open(config, {.workers = GetParam(), .locks_down = false});
    EXPECT_TRUE(backend.ok()) << backend.status();
    return Rig(*std::move(backend));
  }
};

TEST_P(RawTest, WhatIsWrittenIsReadAndIsInTheFile) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 1u << 20);
  const std::string data(8192, 'x');
  EXPECT_EQ(rig.Write(4096, data), IoStatus::kOk);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(4096, 8192), data);
  std::string stored(8192, 0);
  EXPECT_EQ(pread(file.fd(), stored.data(), stored.size(), 4096), 8192);
  EXPECT_EQ(stored, data);
}

TEST_P(RawTest, GrownDiskHasALongerFile) {
  TempFile file((1 << 20) - 100);
  Rig rig = OpenRig(Config(file.fd()));
  EXPECT_EQ(rig.Grow(2 << 20), absl::OkStatus());
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 2u << 20);
  struct stat status;
  ASSERT_EQ(fstat(file.fd(), &status), 0);
  EXPECT_EQ(status.st_size, 2 << 20);
  EXPECT_EQ(rig.ReadOk((2 << 20) - 4096, 4096), std::string(4096, 0));
  EXPECT_EQ(rig.Write((2 << 20) - 512, std::string(512, 'x')), IoStatus::kOk);
  EXPECT_TRUE(absl::IsInvalidArgument(rig.Grow(1 << 20)));
}

// Somebody else has made it longer than the disk is told to be.
TEST_P(RawTest, FileThatIsLongEnoughIsNotTouched) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  ASSERT_EQ(ftruncate(file.fd(), 4 << 20), 0);
  ASSERT_EQ(pwrite(file.fd(), "x", 1, (4 << 20) - 1), 1);
  EXPECT_EQ(rig.Grow(3 << 20), absl::OkStatus());
  struct stat status;
  ASSERT_EQ(fstat(file.fd(), &status), 0);
  EXPECT_EQ(status.st_size, 4 << 20);
  Rig reader = OpenRig(Config(file.fd(), /*read_only=*/true));
  EXPECT_TRUE(absl::IsFailedPrecondition(reader.Grow(5 << 20)));
}

TEST_P(RawTest, ManySegmentsAreGatheredInOrder) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  std::string data(kMaxSegments * 512, 0);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i / 7);
  std::vector<iovec> segments(kMaxSegments);
  for (size_t i = 0; i < kMaxSegments; ++i) {
    segments[i] = {data.data() + i * 512, 512};
  }
  auto request = Rig::Make(Operation::kWrite, 0, data.size());
  request->segments = segments.data();
  request->segment_count = segments.size();
  rig.Submit(request.get());
  EXPECT_EQ(rig.Finish(request.get()), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(0, data.size()), data);
}

TEST_P(RawTest, ZeroedAndDiscardedRangesReadAsZeroesAndFreeSpace) {
  TempFile file(8 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  EXPECT_EQ(rig.Write(0, std::string(8 << 20, 'x')), IoStatus::kOk);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
  struct stat full;
  fstat(file.fd(), &full);
  EXPECT_EQ(rig.Zero(0, 1 << 20, /*may_unmap=*/false), IoStatus::kOk);
  EXPECT_EQ(rig.Zero(1 << 20, 1 << 20, /*may_unmap=*/true), IoStatus::kOk);
  EXPECT_EQ(rig.Discard(2 << 20, 4 << 20), IoStatus::kOk);
  EXPECT_EQ(rig.ReadOk(0, 6 << 20), std::string(6 << 20, 0));
  EXPECT_EQ(rig.ReadOk(6 << 20, 512), std::string(512, 'x'));
  struct stat less;
  fstat(file.fd(), &less);
  EXPECT_LE(less.st_blocks, full.st_blocks - (4 << 20) / 512);
  EXPECT_EQ(less.st_size, 8 << 20);
}

TEST_P(RawTest, RequestsBeyondTheEndOrMisalignedAreInvalid) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  std::string data;
  EXPECT_EQ(rig.Read(1 << 20, 512, &data), IoStatus::kInvalid);
  EXPECT_EQ(rig.Read((1 << 20) - 512, 1024, &data), IoStatus::kInvalid);
  EXPECT_EQ(rig.Read(~uint64_t{511}, 1024, &data), IoStatus::kInvalid);
  EXPECT_EQ(rig.Write(100, std::string(512, 'x')), IoStatus::kInvalid);
  EXPECT_EQ(rig.Discard(0, ~uint64_t{511}), IoStatus::kInvalid);
  auto lying = Rig::Make(Operation::kWrite, 0, 512, std::string(1024, 'x'));
  EXPECT_EQ(rig.Run(std::move(lying)), IoStatus::kInvalid);
  EXPECT_EQ(rig.ReadOk(0, 512), std::string(512, 0));
}

TEST_P(RawTest, ReadOnlyDiskRefusesEveryChange) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd(), /*read_only=*/true));
  EXPECT_EQ(rig.Write(0, std::string(512, 'x')), IoStatus::kReadOnly);
  EXPECT_EQ(rig.Discard(0, 512), IoStatus::kReadOnly);
  EXPECT_EQ(rig.Zero(0, 512, true), IoStatus::kReadOnly);
  EXPECT_EQ(rig.Flush(), IoStatus::kOk);
}

TEST_P(RawTest, IncompleteLastSectorEndsInZeroes) {
  TempFile file(1000);
  ASSERT_EQ(pwrite(file.fd(), "end", 3, 997), 3);
  Rig rig = OpenRig(Config(file.fd()));
  EXPECT_EQ(rig.backend().geometry().capacity_bytes, 1024u);
  EXPECT_EQ(rig.ReadOk(512, 512),
            std::string(485, 0) + "end" + std::string(24, 0));
}

TEST_P(RawTest, FileThatShrankGivesAnErrorNotZeroes) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  ASSERT_EQ(ftruncate(file.fd(), 1 << 16), 0);
  std::string data;
  EXPECT_EQ(rig.Read((1 << 20) - 4096, 4096, &data), IoStatus::kIoError);
}

// A completion that submits again must not recurse without bound.
TEST_P(RawTest, ResubmissionFromCompletionsDoesNotExhaustTheStack) {
  TempFile file(1 << 20);
  Rig rig = OpenRig(Config(file.fd()));
  struct Again : RigRequest {
    Backend* backend;
    int left = 200000;
  } again;
  std::string buffer(512, 0);
  again.segment = {buffer.data(), 512};
  again.segments = &again.segment;
  again.segment_count = 1;
  again.length_bytes = 512;
  again.backend = &rig.backend();
  again.done = [](Request* r) {
    auto* self = static_cast<Again*>(r);
    if (--self->left > 0) {
      self->backend->Submit(self);
    } else {
      self->ended = true;
    }
  };
  rig.Submit(&again);
  EXPECT_EQ(rig.Finish(&again), IoStatus::kOk);
}

TEST_P(RawTest, WritableDiskOnReadOnlyFileIsRefusedByName) {
  TempFile file(1 << 20);
  const int fd = open(file.path().c_str(), O_RDONLY);
  auto backend = Open(Config(fd), {.workers = GetParam(), .locks_down = false});
  EXPECT_EQ(backend.status().message(),
            "disk.raw: the disk is writable, but its file was opened "
            "read-only");
  close(fd);
}

INSTANTIATE_TEST_SUITE_P(Workers, RawTest, ::testing::Values(0u, 1u, 4u));

}  // namespace
}  // namespace bulkhead::block
