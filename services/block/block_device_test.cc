// A raw disk on a block device: a loop device, for which the test must be root.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
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
    if (!AttachLoop(path_, &device_)) GTEST_SKIP() << "no loop device here";
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
    if (!device_.empty() &&
        system(("/usr/sbin/losetup -d " + device_).c_str()) != 0) {
      ADD_FAILURE() << "/usr/sbin/losetup -d " << device_;
    }
    unlink(path_.c_str());
  }

  static bool AttachLoop(const std::string& path, std::string* device) {
    FILE* pipe = popen(("/usr/sbin/losetup -f --show " + path).c_str(), "r");
    char name[64] = "";
    if (fgets(name, sizeof(name), pipe) != nullptr) *device = name;
    if (pclose(pipe) != 0 || device->empty()) return false;
    device->pop_back();  // the newline
    return true;
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

// The kernel tells of a write-back that failed once, and forgets the data: a
// second flush that succeeded would lie.
TEST_P(BlockDeviceTest, FlushThatFailedOnceFailsForEver) {
  const std::string folder = path_ + ".small";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  // In a mount namespace of its own: the folder is Bazel's, whose sandboxes
  // bind and copy what is mounted there.
  if (unshare(CLONE_NEWNS) != 0 ||
      mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") != 0) {
    rmdir(folder.c_str());
    GTEST_SKIP() << "nothing can be mounted here";
  }
  const std::string small = folder + "/file";
  const int file = open(small.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_EQ(ftruncate(file, kDisk), 0);
  close(file);
  std::string name;
  ASSERT_TRUE(AttachLoop(small, &name));
  const int fd = open(name.c_str(), O_RDWR | O_CLOEXEC);
  {
    // Writes go to the cache; what is written back finds no room.
    BackendConfig config;
    config.mutable_image()->set_fd(fd);
    config.mutable_image()->set_format(RAW);
    auto backend = Open(config, {.workers = 2, .locks_down = false});
    ASSERT_TRUE(backend.ok()) << backend.status();
    Rig rig(*std::move(backend));
    EXPECT_EQ(rig.Write(0, std::string(8 << 20, 'x')), IoStatus::kOk);
    EXPECT_NE(rig.Flush(), IoStatus::kOk);
    EXPECT_NE(rig.Flush(), IoStatus::kOk);
  }
  close(fd);
  EXPECT_EQ(system(("/usr/sbin/losetup -d " + name).c_str()), 0);
  EXPECT_EQ(umount2(folder.c_str(), MNT_DETACH), 0);
  rmdir(folder.c_str());
}

// Behind metadata of its own a device holds an image as a file does; it does
// not grow.
TEST_P(BlockDeviceTest, Qcow2OnADeviceUsesWhatTheDeviceHas) {
  rig_.reset();
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + device_ + " 64M").c_str()),
            0);
  BackendConfig config;
  config.mutable_image()->set_fd(fd_);
  config.mutable_image()->set_format(QCOW2);
  if (GetParam()) config.set_direct_alignment_bytes(512);
  auto backend = Open(config, {.workers = 2, .locks_down = false});
  ASSERT_TRUE(backend.ok()) << backend.status();
  rig_ = std::make_unique<Rig>(*std::move(backend));
  EXPECT_EQ(rig_->backend().geometry().capacity_bytes, 64u << 20);
  EXPECT_EQ(rig_->Write(1 << 20, std::string(4 << 20, 'a')), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_EQ(rig_->ReadOk(1 << 20, 4 << 20), std::string(4 << 20, 'a'));
  // More than the device has.
  IoStatus status = IoStatus::kOk;
  for (uint64_t at = 8 << 20; at < (32 << 20) && status == IoStatus::kOk;
       at += 1 << 20) {
    status = rig_->Write(at, std::string(1 << 20, 'b'));
  }
  EXPECT_EQ(status, IoStatus::kNoSpace);
  // What is given back is there for others.
  EXPECT_EQ(rig_->Discard(8 << 20, 4 << 20), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_EQ(rig_->Write(48 << 20, std::string(1 << 20, 'c')), IoStatus::kOk);
  EXPECT_EQ(rig_->ReadOk(1 << 20, 4 << 20), std::string(4 << 20, 'a'));
  rig_.reset();
  EXPECT_EQ(system(("qemu-img check -q -f qcow2 " + device_).c_str()), 0);
}

TEST_P(BlockDeviceTest, DeviceThatBecameLongerIsNoticedWhenAsked) {
  const absl::Status early = rig_->Grow(2 * kDisk);
  EXPECT_TRUE(absl::IsFailedPrecondition(early)) << early;
  EXPECT_NE(early.message().find("device is shorter"), absl::string_view::npos);
  ASSERT_EQ(truncate(path_.c_str(), 2 * kDisk), 0);
  ASSERT_EQ(system(("/usr/sbin/losetup -c " + device_).c_str()), 0);
  EXPECT_EQ(rig_->Grow(2 * kDisk), absl::OkStatus());
  EXPECT_EQ(rig_->Write(2 * kDisk - 512, std::string(512, 'x')), IoStatus::kOk);
}

INSTANTIATE_TEST_SUITE_P(Cache, BlockDeviceTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "direct" : "buffered";
                         });

}  // namespace
}  // namespace bulkhead::block
