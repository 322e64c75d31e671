// The NBD backend against real servers: nbdkit and qemu-nbd.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "proto/frame.pb.h"
#include "services/block/nbd/backend.h"
#include "services/block/nbd/server_rig.h"
#include "services/block/rig.h"

namespace bulkhead::block::nbd {
namespace {

constexpr uint64_t kDisk = 64 << 20;
constexpr uint64_t kSecond = 1'000'000'000;

uint64_t In(uint64_t seconds) { return MonotonicNs() + seconds * kSecond; }

uint64_t CounterOf(const Backend& backend, const std::string& name) {
  Statistics statistics;
  backend.ReportStatistics(&statistics);
  for (const Statistic& counter : statistics.counters()) {
    if (counter.name() == name) return counter.value();
  }
  return 0;
}

// A disk of 64 MiB behind a server; the parameter says which.
class NbdServerTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    directory_ = TemporaryDirectory();
    file_ = directory_ + "/disk";
    Shell(absl::StrCat("truncate -s ", kDisk, " ", file_));
  }
  void TearDown() override {
    rig_.reset();
    connector_.reset();
    server_.reset();
    Shell("rm -rf " + directory_);
  }

  void StartServer(const std::vector<std::string>& more = {}) {
    const std::string socket = directory_ + "/s";
    std::vector<std::string> arguments;
    if (std::string(GetParam()) == "nbdkit") {
      arguments = {"nbdkit", "-f", "-U", socket, "file", file_};
    } else {
      arguments = {"qemu-nbd",  "-t",    "-k", socket, "-f", "raw",
                   "--discard", "unmap", "-x", "",     file_};
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    server_ = std::make_unique<ServerProcess>(arguments, socket);
    server_->Start();
    connector_ =
        std::make_unique<Connector>([socket] { return ConnectToUnix(socket); });
  }

  absl::Status Open(ClientOptions options = {}) {
    auto backend = NbdBackend::Create(connector_->service_end(), options,
                                      In(10), AtEnd::kJoin);
    if (!backend.ok()) return backend.status();
    rig_ = std::make_unique<Rig>(*std::move(backend));
    return absl::OkStatus();
  }

  std::string FileBytes(uint64_t offset, uint64_t length) {
    std::string bytes(length, '\0');
    FILE* file = fopen(file_.c_str(), "r");
    fseek(file, static_cast<long>(offset), SEEK_SET);
    EXPECT_EQ(fread(bytes.data(), 1, length, file), length);
    fclose(file);
    return bytes;
  }
  uint64_t AllocatedBytes() {
    FILE* pipe = popen(("stat -c %b " + file_).c_str(), "r");
    uint64_t blocks = 0;
    EXPECT_EQ(fscanf(pipe, "%lu", &blocks), 1);
    pclose(pipe);
    return blocks * 512;
  }

  std::string directory_;
  std::string file_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<Connector> connector_;
  std::unique_ptr<Rig> rig_;
};

TEST_P(NbdServerTest, WhatIsWrittenIsReadBackAndIsInTheServersFile) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(rig_->backend().geometry().capacity_bytes, kDisk);
  // Longer than a command, and not at a round place.
  std::string data(3 * 1000 * 512, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i / 7);
  EXPECT_EQ(rig_->Write(512 * 13, data), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_TRUE(rig_->ReadOk(512 * 13, data.size()) == data);
  EXPECT_TRUE(FileBytes(512 * 13, data.size()) == data);
}

// A guest's buffer lies in pieces of any length, of which no command can be
// made.
TEST_P(NbdServerTest, ScatteredSegmentsAreGatheredAndScattered) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  std::string memory(64 << 10, '\0');
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<char>(i);
  std::vector<iovec> segments;
  size_t at = 0;
  for (size_t length = 1; at + length <= 4096 * 9; length += 37) {
    segments.push_back({memory.data() + at, length});
    at += length;
  }
  segments.push_back({memory.data() + at, 4096 * 9 - at});
  auto write = Rig::Make(Operation::kWrite, 8192, 4096 * 9);
  write->segments = segments.data();
  write->segment_count = segments.size();
  rig_->Submit(write.get());
  EXPECT_EQ(rig_->Finish(write.get()), IoStatus::kOk);
  EXPECT_EQ(FileBytes(8192, 4096 * 9), memory.substr(0, 4096 * 9));

  const std::string before = memory;
  std::fill(memory.begin(), memory.end(), 'x');
  auto read = Rig::Make(Operation::kRead, 8192, 4096 * 9);
  read->segments = segments.data();
  read->segment_count = segments.size();
  rig_->Submit(read.get());
  EXPECT_EQ(rig_->Finish(read.get()), IoStatus::kOk);
  EXPECT_EQ(memory.substr(0, 4096 * 9), before.substr(0, 4096 * 9));
  EXPECT_EQ(memory.substr(4096 * 9),
            std::string(memory.size() - 4096 * 9, 'x'));
}

TEST_P(NbdServerTest, ZeroesAndDiscardsFreeSpaceOnTheServer) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(rig_->backend().geometry().can_discard);
  EXPECT_EQ(rig_->Write(0, std::string(8 << 20, 'd')), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  const uint64_t full = AllocatedBytes();
  EXPECT_GE(full, uint64_t{8} << 20);
  EXPECT_EQ(rig_->Zero(0, 4 << 20, /*may_unmap=*/true), IoStatus::kOk);
  EXPECT_EQ(rig_->Discard(4 << 20, 4 << 20), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_LT(AllocatedBytes(), full / 2);
  EXPECT_TRUE(rig_->ReadOk(0, 4 << 20) == std::string(4 << 20, '\0'));

  EXPECT_EQ(rig_->Zero(16 << 20, 1 << 20, /*may_unmap=*/false), IoStatus::kOk);
  EXPECT_EQ(rig_->ReadOk(16 << 20, 4096), std::string(4096, '\0'));
}

TEST_P(NbdServerTest, ReadOnlyExportIsRefusedForAWritableDisk) {
  StartServer({"-r"});
  const absl::Status status = Open();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("read-only"), absl::string_view::npos)
      << status;
}

TEST_P(NbdServerTest, ReadOnlyExportServesAReadOnlyDisk) {
  StartServer({"-r"});
  ASSERT_TRUE(Open({.read_only = true}).ok());
  EXPECT_EQ(rig_->ReadOk(0, 4096), std::string(4096, '\0'));
  EXPECT_EQ(rig_->Write(0, std::string(512, 'x')), IoStatus::kReadOnly);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
}

TEST_P(NbdServerTest, RequestBeyondTheEndIsInvalid) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(rig_->Write(kDisk, std::string(512, 'x')), IoStatus::kInvalid);
  std::string data;
  EXPECT_EQ(rig_->Read(kDisk - 512, 1024, &data), IoStatus::kInvalid);
}

TEST_P(NbdServerTest, MoreUnflushedDataThanTheLogHoldsIsFlushedByItself) {
  StartServer();
  ASSERT_TRUE(Open({.log_bytes = 1 << 20}).ok());
  const std::string data(1 << 20, 'w');
  for (uint64_t i = 0; i < 16; ++i) {
    ASSERT_EQ(rig_->Write(i << 20, data), IoStatus::kOk);
  }
  EXPECT_GE(CounterOf(rig_->backend(), "nbd_own_flushes"), 8u);
}

// Writes, some of them flushed, while the server is killed again and again:
// nothing ends in an error, and in the end all is there.
TEST_P(NbdServerTest, ServerKilledUnderLoadLosesNoAcknowledgedWrite) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::map<uint64_t, std::string> expected;
  // The servers are this thread's children: they end with it.
  std::thread writer([&] {
    std::mt19937 random(1);
    constexpr size_t kDepth = 16;
    constexpr uint64_t kBlock = 16 << 10;
    uint64_t writes = 0;
    while (!stop && failures == 0) {
      std::vector<std::unique_ptr<RigRequest>> batch;
      for (size_t i = 0; i < kDepth; ++i) {
        // Each slot has blocks of its own: two of a batch never overlap.
        const uint64_t block =
            (random() % (kDisk / kBlock / kDepth)) * kDepth + i;
        std::string data = absl::StrCat("write ", ++writes, " ");
        data.resize(kBlock, static_cast<char>('a' + random() % 26));
        expected[block * kBlock] = data;
        batch.push_back(
            Rig::Make(Operation::kWrite, block * kBlock, kBlock, data));
      }
      if (random() % 4 == 0) {
        batch.push_back(Rig::Make(Operation::kFlush, 0, 0));
      }
      for (auto& request : batch) rig_->Submit(request.get());
      for (auto& request : batch) {
        if (rig_->Finish(request.get()) != IoStatus::kOk) ++failures;
      }
    }
  });
  std::mt19937 random(7);
  for (int i = 0; i < 8; ++i) {
    usleep(50'000 + random() % 100'000);
    server_->Kill();
    usleep(random() % 50'000);
    server_->Start();
  }
  stop = true;
  writer.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_GT(connector_->connections(), 4);
  for (const auto& [offset, data] : expected) {
    ASSERT_TRUE(rig_->ReadOk(offset, data.size()) == data) << "at " << offset;
    ASSERT_TRUE(FileBytes(offset, data.size()) == data) << "at " << offset;
  }
}

// The server's host lost its cache: its file is as the last flush left it.
TEST_P(NbdServerTest, ServerThatComesBackWithoutItsCacheIsGivenItAgain) {
  StartServer();
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(rig_->Write(0, std::string(4096, 'f')), IoStatus::kOk);
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  Shell("cp --sparse=always " + file_ + " " + file_ + ".flushed");
  EXPECT_EQ(rig_->Write(4096, std::string(8192, '1')), IoStatus::kOk);
  EXPECT_EQ(rig_->Write(8192, std::string(4096, '2')), IoStatus::kOk);
  EXPECT_EQ(rig_->Zero(0, 512, /*may_unmap=*/false), IoStatus::kOk);
  server_->Kill();
  Shell("cp --sparse=always " + file_ + ".flushed " + file_);
  server_->Start();
  // All that was acknowledged, in its order, before anything new.
  EXPECT_EQ(rig_->ReadOk(0, 4096),
            std::string(512, '\0') + std::string(3584, 'f'));
  EXPECT_EQ(rig_->ReadOk(4096, 8192),
            std::string(4096, '1') + std::string(4096, '2'));
  EXPECT_EQ(rig_->Flush(), IoStatus::kOk);
  EXPECT_EQ(FileBytes(4096, 8192),
            std::string(4096, '1') + std::string(4096, '2'));
  EXPECT_EQ(CounterOf(rig_->backend(), "nbd_replayed_writes"), 3u);
}

TEST_P(NbdServerTest, ServerThatStaysAwayFailsRequestsAndServesAgainLater) {
  StartServer();
  ASSERT_TRUE(Open({.patience_ns = kSecond / 2}).ok());
  EXPECT_EQ(rig_->Write(0, std::string(4096, 'k')), IoStatus::kOk);
  server_->Kill();
  EXPECT_EQ(rig_->Write(4096, std::string(4096, 'l')), IoStatus::kUnavailable);
  EXPECT_EQ(rig_->Flush(), IoStatus::kUnavailable);
  server_->Start();
  for (int i = 0; i < 200 && rig_->Flush() != IoStatus::kOk; ++i) usleep(10000);
  EXPECT_EQ(rig_->ReadOk(0, 4096), std::string(4096, 'k'));
  EXPECT_EQ(rig_->Write(4096, std::string(4096, 'm')), IoStatus::kOk);
}

TEST_P(NbdServerTest, ExportThatShrankIsNotServed) {
  StartServer();
  ASSERT_TRUE(Open({.patience_ns = kSecond / 2}).ok());
  EXPECT_EQ(rig_->Write(0, std::string(4096, 'k')), IoStatus::kOk);
  server_->Kill();
  Shell(absl::StrCat("truncate -s ", kDisk / 2, " ", file_));
  server_->Start();
  EXPECT_EQ(rig_->Write(0, std::string(4096, 'l')), IoStatus::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Servers, NbdServerTest,
                         testing::Values("nbdkit", "qemu_nbd"));

}  // namespace
}  // namespace bulkhead::block::nbd
