// What jailed processes and QEMU send to the console: log lines, QMP. All of it
// may be hostile.

#include <sys/socket.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "console/log_lines.h"
#include "console/qmp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead::console {
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

}  // namespace
}  // namespace bulkhead::console
