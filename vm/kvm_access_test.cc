// QEMU before 8.2 opens /dev/kvm in its jail: the node that root makes for it
// is its own, alone and read-only around it.

#include "vm/kvm_access.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace bulkhead::vm {
namespace {

constexpr uid_t kOwner = 200123;

Qemu Release(int major, int minor) {
  Qemu qemu;
  qemu.release = {major, minor};
  return qemu;
}

// What a process with that id gets for opening the node: 0, or its errno.
int ErrorOfOpeningAs(uid_t id, int folder) {
  const pid_t child = fork();
  if (child == 0) {
    if (setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0) _exit(255);
    _exit(openat(folder, "kvm", O_RDWR | O_CLOEXEC) >= 0 ? 0 : errno);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::vector<std::string> NamesIn(int folder) {
  std::vector<std::string> names;
  DIR* listing = fdopendir(openat(folder, ".", O_RDONLY | O_CLOEXEC));
  while (const dirent* entry = readdir(listing)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(listing);
  return names;
}

class KvmFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root makes device nodes";
    if (access("/dev/kvm", F_OK) != 0) GTEST_SKIP() << "no /dev/kvm here";
    std::optional<Fd> folder = MakeKvmFolder(kOwner);
    if (!folder.has_value()) {
      GTEST_SKIP() << "this root makes no device nodes: " << strerror(errno);
    }
    folder_ = *std::move(folder);
  }

  Fd folder_;
};

TEST_F(KvmFolderTest, ItsOwnerOpensTheHostsDeviceAndNobodyElse) {
  EXPECT_EQ(ErrorOfOpeningAs(kOwner, folder_.get()), 0);
  EXPECT_EQ(ErrorOfOpeningAs(kOwner + 1, folder_.get()), EACCES);
  struct stat node = {};
  struct stat host = {};
  ASSERT_EQ(fstatat(folder_.get(), "kvm", &node, 0), 0);
  ASSERT_EQ(stat("/dev/kvm", &host), 0);
  EXPECT_EQ(node.st_rdev, host.st_rdev);
}

TEST_F(KvmFolderTest, HoldsNothingElseAndTakesNothingMore) {
  EXPECT_EQ(NamesIn(folder_.get()), std::vector<std::string>{"kvm"});
  EXPECT_EQ(mknodat(folder_.get(), "mem", S_IFCHR | 0666, 0x101), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(fchmodat(folder_.get(), "kvm", 0666, 0), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(KvmFolderTest, AnOldQemuOfRootsFindsItInDevAndTheHostsTreeStaysAsItIs) {
  absl::StatusOr<KvmAccess> kvm = FindKvmAccess(Release(7, 2), kOwner);
  ASSERT_TRUE(kvm.ok()) << kvm.status();
  EXPECT_FALSE(kvm->takes_fd);
  ASSERT_TRUE(kvm->bind.has_value());
  EXPECT_EQ(kvm->bind->target, "/dev");
  EXPECT_EQ(kvm->bind->mount_fd, kvm->folder.get());
}

TEST(KvmAccessTest, FromItsRelease82OnAQemuTakesAnFdAndItsRootShowsNoDevice) {
  const absl::StatusOr<KvmAccess> kvm = FindKvmAccess(Release(8, 2), kOwner);
  ASSERT_TRUE(kvm.ok());
  EXPECT_TRUE(kvm->takes_fd);
  EXPECT_FALSE(kvm->bind.has_value());
  EXPECT_FALSE(kvm->folder.valid());
}

}  // namespace
}  // namespace bulkhead::vm
