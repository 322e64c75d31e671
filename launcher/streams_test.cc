// What jailed processes and guests send to the launcher: log lines, QMP, the
// check's console. All of it may be hostile.

#include <sys/socket.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/check_console.h"
#include "launcher/fd.h"
#include "launcher/log_lines.h"
#include "launcher/qmp.h"

namespace bulkhead::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class LogLinesTest : public testing::Test {
 protected:
  std::vector<std::string> out_;
  LogLines lines_{"lsi0",
                  [this](const std::string& line) { out_.push_back(line); }};
  Clock::time_point now_ = Clock::now();
};

TEST_F(LogLinesTest, LineCannotForgeAnothersOrSteerTheTerminal) {
  lines_.Add("fine\nqemu: \033[2J lies\rx\n\xff", now_);
  lines_.Finish(now_);
  EXPECT_THAT(out_, ElementsAre("lsi0: fine", "lsi0: qemu: \\x1b[2J lies\\x0dx",
                                "lsi0: \\xff"));
}

TEST_F(LogLinesTest, EndlessLineIsCut) {
  lines_.Add(std::string(100000, 'a'), now_);
  lines_.Add("\n", now_);
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_LT(out_[0].size(), LogLines::kLongestLine + 20);
}

TEST_F(LogLinesTest, FloodIsSuppressedAndCounted) {
  for (int i = 0; i < 10000; ++i) lines_.Add("x\n", now_);
  EXPECT_THAT(out_, SizeIs(static_cast<size_t>(LogLines::kBurst)));
  lines_.Add("y\n", now_ + std::chrono::seconds(1));
  EXPECT_EQ(out_[out_.size() - 2], "lsi0: 9960 lines suppressed");
  EXPECT_EQ(out_.back(), "lsi0: y");
}

class QmpTest : public testing::Test {
 protected:
  QmpTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ours_ = Fd(ends[0]);
    qemu_ = Fd(ends[1]);
    qmp_ = std::make_unique<Qmp>(ours_.get());
  }
  absl::Status Say(const std::string& text) {
    absl::Status status;
    for (size_t at = 0; at < text.size() && status.ok(); at += 4096) {
      const std::string piece = text.substr(at, 4096);
      EXPECT_EQ(send(qemu_.get(), piece.data(), piece.size(), 0),
                static_cast<ssize_t>(piece.size()));
      status = qmp_->Read();
    }
    return status;
  }

  Fd ours_;
  Fd qemu_;
  std::unique_ptr<Qmp> qmp_;
};

TEST_F(QmpTest, MachineIsReadyWhenCapabilitiesAreAnswered) {
  ASSERT_TRUE(Say("{\"QMP\": {}}\r\n").ok());
  char sent[100] = {};
  EXPECT_GT(recv(qemu_.get(), sent, sizeof(sent) - 1, MSG_DONTWAIT), 0);
  EXPECT_STREQ(sent, "{\"execute\": \"qmp_capabilities\"}\n");
  EXPECT_FALSE(qmp_->ready());
  ASSERT_TRUE(Say("{\"return\": {}}\n{\"event\": \"SHUTDOWN\", \"data\": "
                  "{\"guest\": true, \"reason\": \"guest-shutdown\"}}\n")
                  .ok());
  EXPECT_TRUE(qmp_->ready());
  EXPECT_EQ(qmp_->shutdown_reason(), "guest-shutdown");
}

TEST_F(QmpTest, WhatIsNotQmpIsGivenUp) {
  EXPECT_EQ(Say("[1]\n").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Say("{\"a\": \n").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Say(std::string(300000, 'x')).code(), absl::StatusCode::kDataLoss);
}

TEST_F(QmpTest, WrongTypesAreNotBelieved) {
  EXPECT_TRUE(Say("{\"event\": {\"a\": 1}}\n{\"event\": \"SHUTDOWN\", "
                  "\"data\": [1]}\n{\"error\": 7}\n")
                  .ok());
  EXPECT_EQ(qmp_->shutdown_reason(), "unknown");
}

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
}  // namespace bulkhead::launcher
