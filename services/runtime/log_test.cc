#include "services/runtime/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

class LogTest : public testing::Test {
 protected:
  LogTest() { EXPECT_EQ(pipe2(ends_, O_CLOEXEC | O_NONBLOCK), 0); }
  ~LogTest() override {
    close(ends_[0]);
    close(ends_[1]);
  }

  std::string Written() {
    std::string all(1 << 20, '\0');
    const ssize_t size_bytes = read(ends_[0], all.data(), all.size());
    all.resize(size_bytes < 0 ? 0 : static_cast<size_t>(size_bytes));
    return all;
  }

  int ends_[2];
  Nanoseconds now_ = 1'000'000'000;
};

TEST_F(LogTest, LineIsWrittenAsItIs) {
  Log log(ends_[1]);
  log.Write(now_, "queue 3 is broken");
  EXPECT_EQ(Written(), "queue 3 is broken\n");
}

TEST_F(LogTest, LineCannotForgeAnotherOrDriveATerminal) {
  Log log(ends_[1]);
  log.Write(now_, "a\nroot: b\x1b[2J\\\xff");
  EXPECT_EQ(Written(), "a\\x0aroot: b\\x1b[2J\\x5c\\xff\n");
}

TEST_F(LogTest, LongLineIsCutAtTheLimit) {
  Log log(ends_[1]);
  log.Write(now_, std::string(10000, '\n'));
  const std::string line = Written();
  EXPECT_LE(line.size(), Log::kMaxLineBytes);
  EXPECT_EQ(line.back(), '\n');
}

TEST_F(LogTest, FloodIsHeldBackAndCounted) {
  Log log(ends_[1]);
  for (int i = 0; i < 1000; ++i) log.Write(now_, "x");
  EXPECT_EQ(Written().size(), 2u * Log::kBurst);
  EXPECT_EQ(log.suppressed(), 1000u - Log::kBurst);

  now_ += 3 * Log::kPerLine;
  log.Write(now_, "later");
  EXPECT_EQ(Written(), "950 lines suppressed\nlater\n");
  log.Write(now_, "more");
  EXPECT_EQ(Written(), "more\n");
}

TEST_F(LogTest, FullPipeDropsTheLineInsteadOfWaiting) {
  Log log(ends_[1]);
  const std::string page(4096, 'x');
  while (write(ends_[1], page.data(), page.size()) > 0) {
  }
  log.Write(now_, "lost");
  EXPECT_EQ(log.suppressed(), 1u);
}

}  // namespace
}  // namespace bulkhead
