// A device in a remote process of QEMU's: what a front end finds of it, and
// what a process that was taken over, stops or dies can do.

#include "proxy/x_remote/x_remote_device.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "proxy/x_remote/fake_x_remote.h"

namespace bulkhead::proxy {
namespace {

using mpqemu::Command;

constexpr uint32_t kConfig = 7;
constexpr uint64_t kRamBytes = 64 << 20;
constexpr uint64_t kSecond = 1'000'000'000;

int MakeEventfd() { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

bool IsSignalled(int fd, int milliseconds = 1000) {
  pollfd entry = {fd, POLLIN, 0};
  uint64_t count;
  return poll(&entry, 1, milliseconds) == 1 &&
         read(fd, &count, sizeof count) == sizeof count;
}

class XRemoteDeviceTest : public testing::Test {
 protected:
  XRemoteDeviceTest() {
    ram_fd_ = memfd_create("ram", MFD_CLOEXEC);
    [[maybe_unused]] const int sized = ftruncate(ram_fd_, kRamBytes);
    struct stat status;
    fstat(ram_fd_, &status);
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    remote_ = std::make_unique<FakeXRemote>(ends[0]);
    device_ = std::make_unique<XRemoteDevice>(
        ends[1], ram_fd_, RamIdentity{status.st_dev, status.st_ino, kRamBytes},
        XRemoteDeadlines());
  }
  ~XRemoteDeviceTest() override { close(ram_fd_); }

  void Probe() {
    const absl::Status status = device_->Probe(kSecond);
    ASSERT_TRUE(status.ok()) << status;
  }
  uint64_t Load(uint32_t region, uint64_t offset, size_t size_bytes) {
    uint64_t value = 0;
    EXPECT_TRUE(device_->Read(
        region, offset, {reinterpret_cast<uint8_t*>(&value), size_bytes}));
    return value;
  }
  void Store(uint32_t region, uint64_t offset, size_t size_bytes,
             uint64_t value) {
    EXPECT_TRUE(
        device_->Write(region, offset,
                       {reinterpret_cast<const uint8_t*>(&value), size_bytes}));
  }
  mpqemu::SyncSysmem LastTable(size_t* count) {
    const auto tables = remote_->Log(Command::kSyncSysmem);
    mpqemu::SyncSysmem table = {};
    *count = tables.empty() ? 0 : tables.back().fds;
    if (!tables.empty()) {
      tables.back().body.copy(reinterpret_cast<char*>(&table), sizeof table);
    }
    return table;
  }

  int ram_fd_;
  std::unique_ptr<FakeXRemote> remote_;
  std::unique_ptr<XRemoteDevice> device_;
};

TEST_F(XRemoteDeviceTest, ProbeFindsBarsOfEachKindAndThePin) {
  Probe();
  EXPECT_EQ(device_->Region(0).size_bytes, 256u);
  EXPECT_TRUE(device_->Region(0).narrow);
  EXPECT_EQ(device_->Region(1).size_bytes, 4096u);
  EXPECT_FALSE(device_->Region(1).narrow);
  EXPECT_EQ(device_->Region(2).size_bytes, 0u);
  EXPECT_EQ(device_->Region(4).size_bytes, 16384u);
  EXPECT_EQ(device_->Region(5).size_bytes, 0u);
  EXPECT_EQ(device_->VectorCount(INTX), 1u);
  EXPECT_EQ(device_->VectorCount(MSIX), 0u);
  EXPECT_EQ(Load(kConfig, 0x10, 4), 1u) << "the probe leaves no address";
}

// MSI and MSI-X cannot be carried, so a driver must not find them.
TEST_F(XRemoteDeviceTest, CapabilitiesAreHidden) {
  Probe();
  EXPECT_EQ(Load(kConfig, 0x04, 4) >> 16 & 0x10, 0u);
  EXPECT_EQ(Load(kConfig, 0x06, 1), 0u);
  EXPECT_EQ(Load(kConfig, 0x34, 4) & 0xff, 0u);
  EXPECT_EQ(Load(kConfig, 0, 4), 0x00121000u);
}

TEST_F(XRemoteDeviceTest, AccessesGoWhereTheGuestHasPutTheBars) {
  Probe();
  EXPECT_EQ(Load(1, 0x20, 4), 0xffffffffu) << "no address yet";
  Store(kConfig, 0x14, 4, 0xfe000000);
  Store(1, 0x20, 4, 0xabcd);
  EXPECT_EQ(Load(1, 0x20, 4), 0xabcdu);
  Store(kConfig, 0x20, 4, 0x10000000);
  Store(kConfig, 0x24, 4, 0x38);
  Store(4, 8, 8, 0x1122334455667788);

  const auto writes = remote_->Log(Command::kBarWrite);
  ASSERT_TRUE(remote_->WaitFor(Command::kBarWrite, 2));
  mpqemu::BarAccess access;
  remote_->Log(Command::kBarWrite)[0].body.copy(
      reinterpret_cast<char*>(&access), sizeof access);
  EXPECT_EQ(access.address, 0xfe000020u);
  EXPECT_EQ(access.memory, 1);
  remote_->Log(Command::kBarWrite)[1].body.copy(
      reinterpret_cast<char*>(&access), sizeof access);
  EXPECT_EQ(access.address, 0x3810000008u);
  EXPECT_FALSE(device_->Read(1, 4093, {nullptr, 4}));
  EXPECT_FALSE(device_->Read(9, 0, {nullptr, 4}));
}

TEST_F(XRemoteDeviceTest, MemoryIsToldBeforeTheNextAccessAsOneTable) {
  Probe();
  device_->Map(0, 0xa0000, 0, true, true, ram_fd_);
  device_->Map(0xc0000, 0x8000, 0xc0000, true, false, ram_fd_);
  device_->Map(0xc8000, 0x8000, 0xc8000, true, true, ram_fd_);
  device_->Map(0xfffc0000, 0x40000, 0, true, false, -1);  // a ROM
  EXPECT_EQ(remote_->Log(Command::kSyncSysmem).size(), 0u);
  Load(kConfig, 0, 4);
  size_t count;
  const mpqemu::SyncSysmem table = LastTable(&count);
  EXPECT_EQ(remote_->Log(Command::kSyncSysmem).size(), 1u);
  ASSERT_EQ(count, 2u) << "what touches is one entry; what is no RAM, none";
  EXPECT_EQ(table.address[1], 0xc0000u);
  EXPECT_EQ(table.size_bytes[1], 0x10000u);
  EXPECT_EQ(table.offset[1], 0xc0000u);
}

TEST_F(XRemoteDeviceTest, UnmappedMemoryIsOutOfUseOnReturn) {
  Probe();
  device_->Map(0, 0xa0000, 0, true, true, ram_fd_);
  device_->Map(0x100000, 0x100000, 0x100000, true, true, ram_fd_);
  ASSERT_TRUE(device_->Unmap(0x100000, 0x100000));
  size_t count;
  LastTable(&count);
  EXPECT_EQ(count, 1u);
  EXPECT_FALSE(device_->Unmap(0x500000, 0x1000));
}

// The protocol has room for seven.
TEST_F(XRemoteDeviceTest, OfTooManyRangesTheLargestAreTold) {
  Probe();
  for (uint64_t i = 0; i < 12; ++i) {
    device_->Map(i * 0x100000, (i + 1) * 0x1000, i * 0x100000, true, true,
                 ram_fd_);
  }
  Load(kConfig, 0, 4);
  size_t count;
  const mpqemu::SyncSysmem table = LastTable(&count);
  ASSERT_EQ(count, 7u);
  for (size_t i = 0; i < count; ++i) {
    EXPECT_GE(table.size_bytes[i], 0x6000u);
    EXPECT_TRUE(i == 0 || table.address[i] > table.address[i - 1]);
  }
}

TEST_F(XRemoteDeviceTest, InterruptsPassByAndAreAskedForAgainAfterTheUnmask) {
  Probe();
  Fd raise(MakeEventfd());
  const int mine = dup(raise.get());
  ASSERT_TRUE(device_->SetVectors(INTX, 0, 1, {&raise, 1}));
  ASSERT_TRUE(remote_->WaitFor(Command::kSetIrqfd, 1));
  EXPECT_TRUE(remote_->TakeResample()) << "it may be high already";
  ASSERT_TRUE(remote_->Raise());
  EXPECT_TRUE(IsSignalled(mine));
  device_->MaskIntx(false);
  EXPECT_TRUE(remote_->TakeResample());

  // KVM brings an eventfd of its own for that.
  Fd unmask(MakeEventfd());
  const int kvm = dup(unmask.get());
  device_->SetIntxUnmaskFd(std::move(unmask));
  ASSERT_TRUE(remote_->WaitFor(Command::kSetIrqfd, 2));
  const uint64_t one = 1;
  ASSERT_EQ(write(kvm, &one, sizeof one), 8);
  EXPECT_TRUE(remote_->TakeResample());

  device_->DisableVectors(INTX);
  ASSERT_TRUE(remote_->WaitFor(Command::kSetIrqfd, 3));
  remote_->Raise();
  EXPECT_FALSE(IsSignalled(mine, 50));
  close(mine);
  close(kvm);
}

TEST_F(XRemoteDeviceTest, OnlyEventfdsBecomeInterrupts) {
  Probe();
  Fd memfd(memfd_create("x", MFD_CLOEXEC));
  EXPECT_FALSE(device_->SetVectors(INTX, 0, 1, {&memfd, 1}));
  device_->SetIntxUnmaskFd(std::move(memfd));
  Fd fd(MakeEventfd());
  EXPECT_FALSE(device_->SetVectors(MSIX, 0, 1, {&fd, 1}));
}

TEST_F(XRemoteDeviceTest, ResetIsAnsweredWithoutAValueAndClearsTheBars) {
  Probe();
  Store(kConfig, 0x14, 4, 0xfe000000);
  device_->Reset();
  EXPECT_FALSE(device_->lost());
  EXPECT_EQ(remote_->Log(Command::kDeviceReset).size(), 1u);
  EXPECT_EQ(Load(1, 0, 4), 0xffffffffu);
}

// ---- a process that stops, dies, or was taken over

TEST_F(XRemoteDeviceTest, StoppedProcessCostsOneDeadlineAndThenNothing) {
  Probe();
  Store(kConfig, 0x14, 4, 0xfe000000);
  Store(1, 0, 4, 7);
  remote_->Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(Load(1, 0, 4), 0xffffffffu);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Load(1, 0, 4), 0xffffffffu);
    Store(1, 0, 4, static_cast<uint64_t>(i));
  }
  device_->Reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(500));

  remote_->Freeze(false);
  ASSERT_TRUE(remote_->WaitFor(Command::kDeviceReset, 1));
  Store(kConfig, 0x14, 4, 0xfe000000);
  for (int i = 0; i < 100 && Load(1, 0, 4) != 19; ++i) usleep(10'000);
  EXPECT_EQ(Load(1, 0, 4), 19u) << "every store has arrived";
  EXPECT_FALSE(device_->lost());
}

TEST_F(XRemoteDeviceTest, ProcessThatNeverReadsAgainIsGivenUpNotWaitedFor) {
  Probe();
  Store(kConfig, 0x14, 4, 0xfe000000);
  remote_->Freeze(true);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000 && !device_->lost(); ++i) Store(1, 0, 4, 1);
  EXPECT_TRUE(device_->lost());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(Load(1, 0, 4), 0xffffffffu);
  EXPECT_EQ(Load(kConfig, 0, 4), 0xffffffffu);
}

TEST_F(XRemoteDeviceTest, DeadProcessReadsAsOnes) {
  Probe();
  Store(kConfig, 0x14, 4, 0xfe000000);
  Load(1, 0, 4);
  remote_.reset();
  EXPECT_EQ(Load(1, 0, 4), 0xffffffffu);
  Store(1, 0, 4, 1);
  device_->Reset();
  device_->Map(0, 0x1000, 0, true, true, ram_fd_);
  device_->Detach();
  EXPECT_TRUE(device_->lost());
  EXPECT_FALSE(device_->Available());
  EXPECT_EQ(device_->fd(), -1);
}

std::string Reply(int32_t command, uint64_t size_bytes,
                  const std::string& body) {
  const mpqemu::Header header = {command, 0, size_bytes};
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) +
         body;
}

TEST_F(XRemoteDeviceTest, AnswersThatTheProtocolDoesNotAllowLoseTheDevice) {
  const std::string eight(8, '\1');
  const std::string kBad[] = {
      Reply(1, 8, eight),                     // nobody asked
      Reply(5, 8, eight),                     // a question
      Reply(-1, 8, eight),                    //
      Reply(1, 4, "abcd"),                    // half a value
      Reply(1, 9, "123456789"),               //
      Reply(1, 193, std::string(193, '\0')),  // longer than any message
      Reply(1, ~uint64_t{0}, ""),             //
  };
  for (const std::string& bad : kBad) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    FakeXRemote remote(ends[0]);
    XRemoteDevice device(ends[1], ram_fd_, RamIdentity(), XRemoteDeadlines());
    ASSERT_TRUE(device.Probe(kSecond).ok());
    remote.SendBytes(bad);
    device.Poll();
    EXPECT_TRUE(device.lost());
    EXPECT_NE(device.loss(), "");
  }
}

TEST_F(XRemoteDeviceTest, ProcessThatIsNoDeviceIsRefusedInTime) {
  remote_->Freeze(true);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(device_->Probe(kSecond / 10).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

}  // namespace
}  // namespace bulkhead::proxy
