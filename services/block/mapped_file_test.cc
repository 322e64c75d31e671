#include "services/block/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>

namespace bulkhead::block {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 300;  // not a multiple of 64
constexpr uint64_t kBytes = kPages * kPage;

// Counts what reaches the file by system calls.
class CountingFile final : public FileIo {
 public:
  CountingFile(std::unique_ptr<FileIo> file, std::atomic<int>* reads,
               std::atomic<int>* writes)
      : file_(std::move(file)), reads_(reads), writes_(writes) {}
  ssize_t Read(const iovec* segments, size_t count, uint64_t offset_bytes,
               Wait wait) override {
    ++*reads_;
    return file_->Read(segments, count, offset_bytes, wait);
  }
  ssize_t Write(const iovec* segments, size_t count, uint64_t offset_bytes,
                Wait wait) override {
    ++*writes_;
    return file_->Write(segments, count, offset_bytes, wait);
  }
  int Sync() override { return file_->Sync(); }
  int PunchHole(uint64_t offset_bytes, uint64_t length_bytes) override {
    return file_->PunchHole(offset_bytes, length_bytes);
  }
  int ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) override {
    return file_->ZeroRange(offset_bytes, length_bytes);
  }
  int Truncate(uint64_t size_bytes) override {
    return file_->Truncate(size_bytes);
  }
  int64_t Size() override { return file_->Size(); }
  bool never_waits() const override { return file_->never_waits(); }
  bool is_sparse() const override { return file_->is_sparse(); }

 private:
  const std::unique_ptr<FileIo> file_;
  std::atomic<int>* const reads_;
  std::atomic<int>* const writes_;
};

class MappedFileTest : public testing::Test {
 protected:
  MappedFileTest() : fd_(memfd_create("disk", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_, kBytes), 0);
  }
  ~MappedFileTest() override {
    file_.reset();
    close(fd_);
  }

  void Open(Stores stores = Stores::kSystemCalls) {
    struct stat status;
    ASSERT_EQ(fstat(fd_, &status), 0);
    auto plain = MakePosixFile(fd_);
    ASSERT_TRUE(plain.ok()) << plain.status();
    file_ = MakeMappedFile(
        std::make_unique<CountingFile>(*std::move(plain), &calls_, &writes_),
        fd_, static_cast<uint64_t>(status.st_size), stores);
  }
  // Behind the engine's back, before it opens the file.
  void Put(uint64_t page, char byte) {
    const std::string data(kPage, byte);
    ASSERT_EQ(pwrite(fd_, data.data(), kPage, static_cast<off_t>(page * kPage)),
              static_cast<ssize_t>(kPage));
  }
  std::string Read(uint64_t offset, size_t bytes) {
    std::string data(bytes, '?');
    const iovec segment = {data.data(), bytes};
    const ssize_t got = file_->Read(&segment, 1, offset, Wait::kYes);
    data.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return data;
  }
  void Write(uint64_t offset, std::string data) {
    const iovec segment = {data.data(), data.size()};
    ASSERT_EQ(file_->Write(&segment, 1, offset, Wait::kYes),
              static_cast<ssize_t>(data.size()));
  }
  // Pages that the host keeps for the file.
  uint64_t PagesHeld() const {
    struct stat status;
    EXPECT_EQ(fstat(fd_, &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512 / kPage;
  }

  const int fd_;
  std::atomic<int> calls_{0};
  std::atomic<int> writes_{0};
  std::unique_ptr<FileIo> file_;
};

TEST_F(MappedFileTest, DataThatWasThereIsReadWithoutASystemCall) {
  for (uint64_t page = 60; page < 70; ++page) {
    Put(page, static_cast<char>('a' + page - 60));
  }
  Open();
  EXPECT_EQ(Read(63 * kPage + 512, 512), std::string(512, 'd'));
  EXPECT_EQ(Read(62 * kPage, 3 * kPage), std::string(kPage, 'c') +
                                             std::string(kPage, 'd') +
                                             std::string(kPage, 'e'));
  EXPECT_EQ(calls_, 0);
}

TEST_F(MappedFileTest, SegmentsAreFilledInOrder) {
  Put(0, 'x');
  Put(1, 'y');
  Open();
  std::string first(kPage - 512, '?');
  std::string second(1024, '?');
  const iovec segments[] = {{first.data(), first.size()},
                            {second.data(), second.size()}};
  EXPECT_EQ(file_->Read(segments, 2, 512, Wait::kNo),
            static_cast<ssize_t>(kPage + 512));
  EXPECT_EQ(first, std::string(kPage - 512, 'x'));
  EXPECT_EQ(second, std::string(1024, 'y'));
  EXPECT_EQ(calls_, 0);
}

// A guest must not fill the host's memory by reading an empty disk.
TEST_F(MappedFileTest, ReadingHolesTakesNoMemory) {
  Put(7, 'x');
  Put(kPages - 1, 'y');
  Open();
  const uint64_t before = PagesHeld();
  for (uint64_t page = 0; page < kPages; ++page) {
    const char expected = page == 7 ? 'x' : page == kPages - 1 ? 'y' : '\0';
    EXPECT_EQ(Read(page * kPage, kPage), std::string(kPage, expected)) << page;
  }
  EXPECT_EQ(Read(0, kBytes).size(), kBytes);
  EXPECT_EQ(PagesHeld(), before);
  EXPECT_EQ(calls_, static_cast<int>(kPages - 2 + 1));
}

TEST_F(MappedFileTest, WhatIsWrittenIsKnownToBeThere) {
  Open();
  Write(10 * kPage + 512, std::string(512, 'w'));
  EXPECT_EQ(Read(10 * kPage, kPage), std::string(512, '\0') +
                                         std::string(512, 'w') +
                                         std::string(kPage - 1024, '\0'));
  EXPECT_EQ(calls_, 0);
  Read(11 * kPage, kPage);
  EXPECT_EQ(calls_, 1) << "its neighbour is a hole still";
}

TEST_F(MappedFileTest, APunchedPageIsAHoleAgainAndStaysOne) {
  Put(3, 'a');
  Put(4, 'b');
  Put(5, 'c');
  Open();
  ASSERT_EQ(file_->PunchHole(3 * kPage + 512, 2 * kPage), 0);
  const uint64_t held = PagesHeld();
  EXPECT_EQ(Read(4 * kPage, kPage), std::string(kPage, '\0'));
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(PagesHeld(), held);
  // The edges lost a part only: known again once they are written.
  Write(3 * kPage, std::string(512, 'A'));
  EXPECT_EQ(Read(3 * kPage, 1024),
            std::string(512, 'A') + std::string(512, '\0'));
  EXPECT_EQ(calls_, 1);
}

TEST_F(MappedFileTest, BeyondASmallerSizeTheFileEnds) {
  for (uint64_t page = 0; page < 4; ++page) Put(page, 'a');
  Open();
  ASSERT_EQ(file_->Truncate(2 * kPage + 512), 0);
  EXPECT_EQ(Read(0, 2 * kPage), std::string(2 * kPage, 'a'));
  EXPECT_EQ(Read(2 * kPage, kPage), std::string(512, 'a'));
  EXPECT_EQ(Read(3 * kPage, kPage), "");
  // Larger again: zeroes.
  ASSERT_EQ(file_->Truncate(kBytes), 0);
  EXPECT_EQ(Read(2 * kPage, 1024),
            std::string(512, 'a') + std::string(512, '\0'));
  EXPECT_EQ(Read(3 * kPage, kPage), std::string(kPage, '\0'));
}

TEST_F(MappedFileTest, BeyondTheSizeAtSetUpSystemCallsServe) {
  Open();
  ASSERT_EQ(file_->Truncate(2 * kBytes), 0);
  Write(kBytes + kPage, std::string(kPage, 'z'));
  EXPECT_EQ(Read(kBytes + kPage, kPage), std::string(kPage, 'z'));
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(Read(2 * kBytes, kPage), "");
}

TEST_F(MappedFileTest, WritesAreSystemCallsUnlessStoresAreAskedFor) {
  Put(0, 'a');
  Open();
  Write(0, std::string(kPage, 'b'));
  EXPECT_EQ(writes_, 1);
}

TEST_F(MappedFileTest, StoresGoToPagesThatAreThereAndHolesAreLeftToTheKernel) {
  Put(2, 'a');
  Put(3, 'b');
  Open(Stores::kMapped);
  std::string first(kPage - 512, 'x');
  std::string second(512, 'y');
  const iovec segments[] = {{first.data(), first.size()},
                            {second.data(), second.size()}};
  ASSERT_EQ(file_->Write(segments, 2, 2 * kPage + 512, Wait::kNo),
            static_cast<ssize_t>(kPage));
  EXPECT_EQ(writes_, 0);
  // What others see of the file, not only who has mapped it.
  std::string seen(2 * kPage, '?');
  ASSERT_EQ(pread(fd_, seen.data(), seen.size(), 2 * kPage),
            static_cast<ssize_t>(seen.size()));
  EXPECT_EQ(seen, std::string(512, 'a') + first + second +
                      std::string(kPage - 512, 'b'));

  Write(4 * kPage, std::string(kPage, 'c'));
  EXPECT_EQ(writes_, 1) << "a hole";
  Write(4 * kPage, std::string(kPage, 'd'));
  EXPECT_EQ(writes_, 1) << "a page since";
  Write(3 * kPage, std::string(3 * kPage, 'e'));
  EXPECT_EQ(writes_, 2) << "a hole at its end";
  EXPECT_EQ(Read(5 * kPage, kPage), std::string(kPage, 'e'));
}

TEST_F(MappedFileTest, StoresKeepOffWhatWasPunchedCutOffOrAdded) {
  for (uint64_t page = 0; page < kPages; ++page) Put(page, 'a');
  Open(Stores::kMapped);
  ASSERT_EQ(file_->PunchHole(5 * kPage, 2 * kPage), 0);
  Write(5 * kPage, std::string(kPage, 'b'));
  EXPECT_EQ(writes_, 1);
  Write(5 * kPage, std::string(kPage, 'c'));
  EXPECT_EQ(writes_, 1);
  ASSERT_EQ(file_->Truncate(kBytes - 2 * kPage), 0);
  ASSERT_EQ(file_->Truncate(2 * kBytes), 0);
  Write(kBytes - kPage, std::string(kPage, 'd'));
  Write(kBytes + kPage, std::string(kPage, 'e'));
  EXPECT_EQ(writes_, 3);
  EXPECT_EQ(Read(kBytes - 2 * kPage, kPage), std::string(kPage, '\0'));
  EXPECT_EQ(Read(kBytes - kPage, kPage), std::string(kPage, 'd'));
  EXPECT_EQ(Read(kBytes + kPage, kPage), std::string(kPage, 'e'));
}

class MappedFileHolesTest : public MappedFileTest,
                            public testing::WithParamInterface<Stores> {};
INSTANTIATE_TEST_SUITE_P(Both, MappedFileHolesTest,
                         testing::Values(Stores::kSystemCalls,
                                         Stores::kMapped));

// One thread reads and writes while another makes holes: contents are either
// what was written or zeroes, and in the end no page that is a hole is taken
// for one that is there.
TEST_P(MappedFileHolesTest, HolesMadeByAnotherThreadAreNotFilled) {
  for (uint64_t page = 0; page < kPages; ++page) Put(page, 'a');
  Open(GetParam());
  std::atomic<bool> stop{false};
  std::thread puncher([&] {
    std::minstd_rand random(7);
    while (!stop) {
      const uint64_t first = random() % kPages;
      const uint64_t count = std::min<uint64_t>(kPages - first, 16);
      ASSERT_EQ(file_->PunchHole(first * kPage, count * kPage), 0);
    }
  });
  std::minstd_rand random(1);
  for (int i = 0; i < 50'000; ++i) {
    const uint64_t page = random() % kPages;
    if (i % 4 == 0) {
      Write(page * kPage, std::string(kPage, 'a'));
      continue;
    }
    const std::string data = Read(page * kPage, kPage);
    ASSERT_EQ(data.size(), kPage);
    ASSERT_TRUE(data[0] == 'a' || data[0] == '\0');
  }
  stop = true;
  puncher.join();
  const uint64_t held = PagesHeld();
  for (uint64_t page = 0; page < kPages; ++page) Read(page * kPage, kPage);
  EXPECT_EQ(PagesHeld(), held);
}

// A store into a hole of a full file system would be a SIGBUS.
TEST(MappedFileFullTest, AFullFileSystemIsAnErrorOfTheWriteAndNoMore) {
  // A file system of its own for a child, whose end takes it away.
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    constexpr int kCannot = 77;
    const int flags = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (unshare(flags) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, "size=64k") != 0) {
      _exit(kCannot);
    }
    const int fd = open("/tmp/disk", O_RDWR | O_CREAT, 0600);
    const std::string page(kPage, 'a');
    for (off_t at = 0; at < 8; ++at) {
      if (pwrite(fd, page.data(), kPage, 2 * at * kPage) != kPage) _exit(2);
    }
    if (ftruncate(fd, kBytes) != 0) _exit(3);
    auto plain = MakePosixFile(fd);
    auto file = MakeMappedFile(*std::move(plain), fd, kBytes, Stores::kMapped);
    int stored = 0;
    int full = 0;
    for (uint64_t at = 0; at < kPages; ++at) {
      std::string data(kPage, 'b');
      const iovec segment = {data.data(), data.size()};
      const ssize_t moved = file->Write(&segment, 1, at * kPage, Wait::kYes);
      stored += moved == kPage;
      full += moved == -ENOSPC;
    }
    // 16 pages in all; those of before can be written as ever.
    _exit(stored == 16 && full == static_cast<int>(kPages) - 16 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mount namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

using MappedFileDeathTest = MappedFileTest;

// mapped_file.h: what its ERRORS promise.
TEST_F(MappedFileDeathTest, AFileThatSomebodyElseShrinksEndsTheProcess) {
  Put(9, 'a');
  Open();
  const auto shrink_and_read = [this] {
    if (ftruncate(fd_, kPage) == 0) Read(9 * kPage, kPage);
  };
#ifdef BULKHEAD_SANITIZED
  // Its runtime says so, and makes an exit of the signal.
  EXPECT_DEATH(shrink_and_read(), "BUS");
#else
  EXPECT_EXIT(shrink_and_read(), testing::KilledBySignal(SIGBUS), "");
#endif
}

}  // namespace
}  // namespace bulkhead::block
