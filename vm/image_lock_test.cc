// Our locks and QEMU's keep each other out, both ways: QEMU's own programs are
// the judges.

#include "vm/image_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

namespace bulkhead::vm {
namespace {

class ImageLockTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* directory = getenv("TEST_TMPDIR");
    path_ =
        std::string(directory != nullptr ? directory : "/tmp") + "/lock-XXXXXX";
    const int fd = mkstemp(path_.data());
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, 1 << 20), 0);
    close(fd);
  }
  void TearDown() override { unlink(path_.c_str()); }

  int Open(int flags) const { return open(path_.c_str(), flags | O_CLOEXEC); }

  // Of one qemu-io command.
  std::string QemuIo(const std::string& options, const std::string& command,
                     const std::string& format = "raw") const {
    const std::string line = "qemu-io " + options + " -f " + format + " -c '" +
                             command + "' " + path_ + " 2>&1";
    FILE* pipe = popen(line.c_str(), "r");
    std::string output;
    char piece[512];
    while (fgets(piece, sizeof(piece), pipe) != nullptr) output += piece;
    pclose(pipe);
    return output;
  }

  // A qemu-io that holds the image until it is closed.
  FILE* HoldByQemu(const std::string& options) const {
    FILE* pipe = popen(
        ("qemu-io " + options + " -f raw " + path_ + " >/dev/null").c_str(),
        "w");
    // It holds the image as soon as somebody who wants all is refused.
    for (int i = 0; i < 500; ++i) {
      const int fd = Open(O_RDWR);
      const int result = LockImage(fd, /*write=*/true);
      close(fd);
      if (result != 0) return pipe;
      usleep(10'000);
    }
    ADD_FAILURE() << "qemu-io does not lock its image";
    return pipe;
  }

  std::string path_;
};

TEST_F(ImageLockTest, QemuRefusesAnImageThatWeWrite) {
  const int fd = Open(O_RDWR);
  ASSERT_EQ(LockImage(fd, /*write=*/true), 0);
  EXPECT_NE(QemuIo("", "write 0 512").find("lock"), std::string::npos);
  close(fd);
  EXPECT_NE(QemuIo("", "write 0 512").find("wrote 512/512"), std::string::npos);
}

// A reader of metadata cannot share them with a writer. (One of a raw image
// can, and QEMU lets it.)
TEST_F(ImageLockTest, QemuDoesNotReadAQcow2ImageThatWeWrite) {
  ASSERT_EQ(system(("qemu-img create -q -f qcow2 " + path_ + " 1M").c_str()),
            0);
  const int fd = Open(O_RDWR);
  ASSERT_EQ(LockImage(fd, /*write=*/true), 0);
  EXPECT_NE(QemuIo("-r", "read 0 512", "qcow2").find("lock"),
            std::string::npos);
  close(fd);
  EXPECT_NE(QemuIo("-r", "read 0 512", "qcow2").find("read 512/512"),
            std::string::npos);
}

TEST_F(ImageLockTest, QemuMayReadWhatWeReadAndNotWriteIt) {
  const int fd = Open(O_RDONLY);
  ASSERT_EQ(LockImage(fd, /*write=*/false), 0);
  EXPECT_NE(QemuIo("-r", "read 0 512").find("read 512/512"), std::string::npos);
  EXPECT_NE(QemuIo("", "write 0 512").find("lock"), std::string::npos);
  close(fd);
}

TEST_F(ImageLockTest, WeRefuseAnImageThatQemuWrites) {
  FILE* const qemu = HoldByQemu("");
  const int writer = Open(O_RDWR);
  EXPECT_EQ(LockImage(writer, /*write=*/true), EAGAIN);
  const int reader = Open(O_RDONLY);
  EXPECT_EQ(LockImage(reader, /*write=*/false), EAGAIN);
  close(writer);
  close(reader);
  pclose(qemu);
  const int after = Open(O_RDWR);
  EXPECT_EQ(LockImage(after, /*write=*/true), 0);
  close(after);
}

TEST_F(ImageLockTest, TwoOfOursShareReadingOnly) {
  const int one = Open(O_RDONLY);
  const int two = Open(O_RDONLY);
  const int writer = Open(O_RDWR);
  EXPECT_EQ(LockImage(one, /*write=*/false), 0);
  EXPECT_EQ(LockImage(two, /*write=*/false), 0);
  EXPECT_EQ(LockImage(writer, /*write=*/true), EAGAIN);
  close(one);
  close(two);
  close(writer);
}

// The service holds the launcher's open file description: the lock outlives
// the launcher.
TEST_F(ImageLockTest, LockLastsUntilTheLastHolderIsGone) {
  const int fd = Open(O_RDWR);
  ASSERT_EQ(LockImage(fd, /*write=*/true), 0);
  const int inherited = dup(fd);
  close(fd);
  EXPECT_NE(QemuIo("", "write 0 512").find("lock"), std::string::npos);
  close(inherited);
  EXPECT_NE(QemuIo("", "write 0 512").find("wrote 512/512"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::vm
