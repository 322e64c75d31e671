// What the demo guest reports on its console. It may be hostile.

#include "demo/check_console.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead::demo {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class CheckConsoleTest : public testing::Test {
 protected:
  std::vector<std::string> phases_;
  CheckConsole console_{[this](const std::string& phase, bool ok, uint64_t,
                               const std::string& detail) {
    phases_.push_back(phase + (ok ? " ok" : " fail ") + detail);
  }};
};

TEST_F(CheckConsoleTest, PassesOnlyWhenTheGuestSaysThatItIsDone) {
  console_.Add("boot\r\n\033[0mBULKHEAD-CHECK phase=mkfs result=ok ms=8\r\n");
  EXPECT_FALSE(console_.passed());
  console_.Add(
      "BULKHEAD-CHECK file=/big bytes=5 sha256=" + std::string(64, 'a') + "\n");
  console_.Add("BULKHEAD-CHECK phase=done result=ok ms=99\n");
  EXPECT_TRUE(console_.passed());
  EXPECT_THAT(phases_, ElementsAre("mkfs ok", "done ok"));
  ASSERT_THAT(console_.files(), SizeIs(1));
  EXPECT_EQ(console_.files()[0].bytes, 5u);
}

TEST_F(CheckConsoleTest, OneFailedPhaseFailsTheCheck) {
  console_.Add(
      "BULKHEAD-CHECK phase=fsck result=fail ms=8 detail=\"e2fsck status 4\"\n"
      "BULKHEAD-CHECK phase=done result=ok ms=99\n");
  EXPECT_FALSE(console_.passed());
  EXPECT_EQ(phases_[0], "fsck fail e2fsck status 4");
}

// A file's name becomes an argument of debugfs, which has commands of its own.
TEST_F(CheckConsoleTest, ReportsThatDoNotFitAreNone) {
  const std::string sum(64, 'a');
  for (const std::string& name :
       {std::string("/a b"), std::string("/a;x"), std::string("a"),
        std::string("/../x"), std::string("/")}) {
    console_.Add("BULKHEAD-CHECK file=\"" + name + "\" bytes=5 sha256=" + sum +
                 "\n");
  }
  console_.Add("BULKHEAD-CHECK file=/x bytes=5 sha256=short\n");
  console_.Add("BULKHEAD-CHECK phase=done result=ok ms=lots\n");
  console_.Add("BULKHEAD-CHECK " + std::string(100000, 'y') + "\n");
  EXPECT_TRUE(console_.files().empty());
  EXPECT_FALSE(console_.passed());
  EXPECT_LE(console_.last_lines().size(), CheckConsole::kLinesKept);
}

TEST_F(CheckConsoleTest, FloodOfReportsIsBounded) {
  for (int i = 0; i < 10000; ++i) {
    console_.Add("BULKHEAD-CHECK file=/f" + std::to_string(i) +
                 " bytes=5 sha256=" + std::string(64, 'a') + "\n");
  }
  EXPECT_LE(console_.files().size(), CheckConsole::kMostReports);
}

}  // namespace
}  // namespace bulkhead::demo
