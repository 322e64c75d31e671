// A raw disk on a block device: a loop device, for which the test must be root.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "proto/service_config.pb.h"
#include "services/block/open.h"
#include "services/block/rig.h"

namespace bulkhead::block {
namespace {

constexpr uint64_t kDisk = 16 << 20;

class BlockDeviceTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root makes loop devices";
    const char* directory = getenv("TEST_TMPDIR");
    path_ = std::string(directory != nullptr ? directory : "/tmp") +
            "/device-XXXXXX";
    const int file = mkstemp(path_.data());
    ASSERT_GE(file, 0);
    ASSERT_EQ(ftruncate(file, kDisk), 0);
    close(file);
    FILE* pipe = popen(("losetup -f --show " + path_).c_str(), "r");
    char name[64] = "";
    if (fgets(name, sizeof(name), pipe) != nullptr) device_ = name;
    if (pclose(pipe) != 0 || device_.empty()) {
      GTEST_SKIP() << "no loop device here";
    }
    device_.pop_back();  // the newline
    fd_ =
        open(device_.c_str(), O_RDWR | O_CLOEXEC | (GetParam() ? O_DIRECT : 0));
    ASSERT_GE(fd_, 0) << device_;
    BackendConfig config;
    config.mutable_image()->set_fd(fd_);
    config.mutable_image()->set_format(RAW);
    if (GetParam()) config.set_direct_alignment_bytes(512);
    auto backend = Open(config, {.workers = 2, .locks_down = false});
    ASSERT_TRUE(backend.ok()) << backend.status();
    rig_ = std::make_unique<Rig>(*std::move(backend));
  }
  void TearDown() override {
    rig_.reset();
    if (fd_ >= 0) close(fd_);
    if (!device_.empty() && system(("losetup -d " + device_).c_str()) != 0) {
      ADD_FAILURE() << "losetup -d " << device_;
    }
    unlink(path_.c_str());
  }

  uint64_t AllocatedBytes() const {
    struct stat status;
    EXPECT_EQ(stat(path_.c_str(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  std::string path_;
  std::string device_;
  int fd_ = -1;
  std::unique_ptr<Rig> rig_;
};

TEST_P(BlockDeviceTest, ItsSizeIsTheDevicesAndNotAByteMore) {
  EXPECT_EQ(rig_->backend().geometry().capacity_bytes, kDisk);
  EXPECT_EQ(rig_->Write(kDisk, std::string(512, 'x')), IoStatus::kInvalid);
  EXPECT_EQ(rig_->Write(kDisk - 512, std::string(512, 'x')), IoStatus::kOk);
  EXPECT_EQ(rig_->ReadOk(kDisk - 512, 512), std::string(512, 'x'));
}

TEST_P(BlockDeviceTest, ZeroesAndDiscardsReachTheDevice) {
  ASSERT_EQ(rig_->Write(0, std::string(8 << 20, 'x')), IoStatus::kOk);
  ASSERT_EQ(rig_->Flush(), IoStatus::kOk);
  const uint64_t full = AllocatedBytes();
  EXPECT_GE(full, uint64_t{8} << 20);
  EXPECT_EQ(rig_->Zero(1 << 20, 1 << 20, /*may_unmap=*/false), IoStatus::kOk);
  EXPECT_EQ(rig_->Zero(2 << 20, 1 << 20, /*may_unmap=*/true), IoStatus::kOk);
  EXPECT_EQ(rig_->Discard(4 << 20, 4 << 20), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_TRUE(rig_->ReadOk(1 << 20, 2 << 20) == std::string(2 << 20, '\0'));
  EXPECT_EQ(rig_->ReadOk(0, 512), std::string(512, 'x'));
  EXPECT_LT(AllocatedBytes(), full);
}

INSTANTIATE_TEST_SUITE_P(Cache, BlockDeviceTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "direct" : "buffered";
                         });

}  // namespace
}  // namespace bulkhead::block
