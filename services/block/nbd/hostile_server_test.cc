// Servers that lie: the worst that one can do is to fail its own disk's
// requests.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "services/block/nbd/backend.h"
#include "services/block/nbd/server_rig.h"
#include "services/block/rig.h"

namespace bulkhead::block::nbd {
namespace {

constexpr uint64_t kDisk = 1 << 20;
constexpr uint64_t kMillisecond = 1'000'000;

struct Play {
  explicit Play(std::function<void(FakeServer&)> play,
                ClientOptions options = {.patience_ns = 500 * kMillisecond,
                                         .silence_ns = 100 * kMillisecond})
      : server(std::move(play)),
        connector([this] { return server.Connect(); }) {
    auto backend =
        NbdBackend::Create(connector.service_end(), options,
                           MonotonicNs() + 2000 * kMillisecond, AtEnd::kJoin);
    status = backend.status();
    if (backend.ok()) rig = std::make_unique<Rig>(*std::move(backend));
  }
  ~Play() { rig.reset(); }

  FakeServer server;
  Connector connector;
  absl::Status status;
  std::unique_ptr<Rig> rig;
};

using Command = FakeServer::ClientCommand;

// Answers honestly, from `memory`.
void Obey(FakeServer& server, const Command& command, std::string* memory) {
  std::string data;
  if (command.type == 0) data = memory->substr(command.offset, command.length);
  if (command.type == 1) {
    memory->replace(command.offset, command.length, command.data);
  }
  server.SimpleReply(command.cookie, 0, data);
}

TEST(HostileServerTest, GarbageInsteadOfAHandshakeIsRefused) {
  Play play([](FakeServer& server) {
    server.Write("SSH-2.0-OpenSSH_9.2\r\n", 21);
    Command command;
    server.ReadCommand(&command);
  });
  EXPECT_FALSE(play.status.ok());
}

TEST(HostileServerTest, ServerThatNeverShakesHandsIsGivenUpInTime) {
  Play play([](FakeServer& server) {
    char byte;
    server.Read(&byte, 1);
  });
  ASSERT_FALSE(play.status.ok());
  EXPECT_NE(play.status.message().find("shake hands"), absl::string_view::npos);
}

TEST(HostileServerTest, EmptyExportIsRefused) {
  Play play([](FakeServer& server) {
    server.ShakeHands(0);
    Command command;
    server.ReadCommand(&command);
  });
  EXPECT_FALSE(play.status.ok());
}

TEST(HostileServerTest, AnswerToARequestThatWasNeverMadeEndsTheConnection) {
  std::string memory(kDisk, 'm');
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      if (server.connection_number() == 1) {
        server.SimpleReply(command.cookie ^ 0x5a5a, 0, "");
      } else {
        Obey(server, command, &memory);
      }
    }
  });
  ASSERT_TRUE(play.status.ok()) << play.status;
  // The next connection serves it.
  EXPECT_EQ(play.rig->ReadOk(0, 4096), std::string(4096, 'm'));
  EXPECT_EQ(play.connector.connections(), 2);
}

TEST(HostileServerTest, ShortAnswerIsNoAnswer) {
  std::string memory(kDisk, 'm');
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      if (server.connection_number() == 1) {
        server.SimpleReply(command.cookie, 0, std::string(100, 'x'));
        server.Close();
      } else {
        Obey(server, command, &memory);
      }
    }
  });
  ASSERT_TRUE(play.status.ok());
  EXPECT_EQ(play.rig->ReadOk(0, 4096), std::string(4096, 'm'));
}

// More bytes than were asked for are taken for the next reply's header.
TEST(HostileServerTest, LongAnswerEndsTheConnectionAndOverwritesNothing) {
  std::string memory(kDisk, 'm');
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      if (server.connection_number() == 1) {
        server.SimpleReply(command.cookie, 0,
                           std::string(command.length + 65536, 'x'));
      } else {
        Obey(server, command, &memory);
      }
    }
  });
  ASSERT_TRUE(play.status.ok());
  std::string guard(3 * 4096, 'g');
  auto request = Rig::Make(Operation::kRead, 0, 4096);
  const iovec segment = {guard.data() + 4096, 4096};
  request->segments = &segment;
  request->segment_count = 1;
  play.rig->Submit(request.get());
  EXPECT_EQ(play.rig->Finish(request.get()), IoStatus::kOk);
  EXPECT_EQ(guard.substr(0, 4096), std::string(4096, 'g'));
  EXPECT_EQ(guard.substr(8192), std::string(4096, 'g'));
  EXPECT_EQ(play.rig->ReadOk(4096, 512), std::string(512, 'm'));
}

TEST(HostileServerTest, ServerThatNeverAnswersCostsItsRequestsOnly) {
  Play play([](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
    }
  });
  ASSERT_TRUE(play.status.ok());
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kUnavailable);
  EXPECT_GT(play.connector.connections(), 1);
}

TEST(HostileServerTest, ErrorsOfTheServerReachTheGuestAsItsOwnKind) {
  std::atomic<uint32_t> error{5};
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      server.SimpleReply(command.cookie, error, "");
    }
  });
  ASSERT_TRUE(play.status.ok());
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kIoError);
  error = 28;  // NBD_ENOSPC
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kNoSpace);
  error = 1;  // NBD_EPERM
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kReadOnly);
  error = 0xfffffff7;  // no such error
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kIoError);
  EXPECT_EQ(play.connector.connections(), 1);
}

// fsync tells of a lost write-back once. The flush after a failed one covers
// what the failed one should have: the writes are sent again first.
TEST(HostileServerTest, FlushAfterAFailedFlushSendsTheWritesAgain) {
  std::atomic<int> writes{0};
  std::atomic<int> flushes{0};
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      if (command.type == 1) ++writes;
      const bool fails = command.type == 3 && ++flushes == 1;
      server.SimpleReply(command.cookie, fails ? 5 : 0, "");
    }
  });
  ASSERT_TRUE(play.status.ok());
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kOk);
  EXPECT_EQ(play.rig->Flush(), IoStatus::kIoError);
  EXPECT_EQ(writes, 1);
  EXPECT_EQ(play.rig->Flush(), IoStatus::kOk);
  EXPECT_EQ(writes, 2);
  EXPECT_EQ(flushes, 2);
}

// With the write cache off, a write is durable before it ends.
TEST(HostileServerTest, WritesAreDurableWhenTheGuestTurnsTheCacheOff) {
  std::atomic<int> plain{0};
  std::atomic<int> durable{0};
  Play play([&](FakeServer& server) {
    if (!server.ShakeHands(kDisk)) return;
    Command command;
    while (server.ReadCommand(&command)) {
      if (command.type == 1) ++(command.flags & 1 ? durable : plain);
      server.SimpleReply(command.cookie, 0, "");
    }
  });
  ASSERT_TRUE(play.status.ok());
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kOk);
  play.rig->backend().SetWriteCache(false);
  EXPECT_EQ(play.rig->Write(0, std::string(512, 'x')), IoStatus::kOk);
  EXPECT_EQ(plain, 1);
  EXPECT_EQ(durable, 1);
}

}  // namespace
}  // namespace bulkhead::block::nbd
