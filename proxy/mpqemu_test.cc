// QEMU's x-pci-proxy-dev at the shim: what it does with a device, and what one
// that was taken over can do.

#include "proxy/mpqemu.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "gtest/gtest.h"
#include "proxy/shim_rig.h"

namespace bulkhead::proxy {
namespace {

using mpqemu::Command;

constexpr uint64_t kMemoryBase = 0xfe000000;
constexpr uint64_t kIoBase = 0xc000;
constexpr uint64_t kNoTarget = ~uint64_t{0};

class MpqemuTest : public testing::Test {
 protected:
  // BAR 0 is memory, BAR 1 is I/O (fake_service.h).
  void PlaceBars() {
    qemu().WriteConfig(0x10, kMemoryBase, 4);
    qemu().WriteConfig(0x14, kIoBase | 1, 4);
  }
  MpqemuClient& qemu() { return rig_.mpqemu(); }
  // What was asked before has been done.
  void Settle() { ASSERT_TRUE(qemu().ReadConfig(0, 4).has_value()); }

  ShimRig rig_{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
};

TEST_F(MpqemuTest, ConfigurationSpaceIsReadAndWritten) {
  rig_.service().SetConfig(0, 0x12);
  rig_.service().SetConfig(1, 0x10);
  EXPECT_EQ(qemu().ReadConfig(0, 2), 0x1012u);
  EXPECT_EQ(qemu().WriteConfig(0x3c, 0xb, 1), 0u);
  EXPECT_EQ(qemu().ReadConfig(0x3c, 1), 0xbu);
}

// QEMU's realize writes ones to each BAR, reads the size and writes back.
TEST_F(MpqemuTest, SizingProbesDoNotMoveABarForGood) {
  PlaceBars();
  qemu().WriteConfig(0x10, 0xffffffff, 4);
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x100, 4), kNoTarget);
  qemu().WriteConfig(0x10, kMemoryBase, 4);
  EXPECT_EQ(qemu().Write(kMemoryBase + 0x100, 0x12345678, 4), 0u);
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x100, 4), 0x12345678u);
}

TEST_F(MpqemuTest, AbsoluteAddressFindsItsBarInItsOwnAddressSpace) {
  PlaceBars();
  EXPECT_EQ(qemu().Write(kMemoryBase + 0x7f8, 0x1122334455667788, 8), 0u);
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x7f8, 8), 0x1122334455667788u);
  EXPECT_EQ(qemu().Write(kIoBase + 0x14, 0x42, 1, /*memory=*/false), 0u);
  EXPECT_EQ(qemu().Read(kIoBase + 0x14, 1, /*memory=*/false), 0x42u);

  EXPECT_EQ(qemu().Read(kIoBase + 0x14, 1, /*memory=*/true), kNoTarget);
  EXPECT_EQ(qemu().Read(kMemoryBase, 4, /*memory=*/false), kNoTarget);
  EXPECT_EQ(qemu().Read(kMemoryBase - 1, 1), kNoTarget);
  EXPECT_EQ(qemu().Read(kMemoryBase + FakeService::kBarBytes - 2, 4),
            kNoTarget);
}

TEST_F(MpqemuTest, BarThatTheGuestMovesByBytesIsFollowed) {
  PlaceBars();
  qemu().Write(kMemoryBase + 0x200, 7, 1);
  qemu().WriteConfig(0x13, 0xe0, 1);
  qemu().WriteConfig(0x12, 0x0010, 2);  // reaches into the byte before
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x200, 1), kNoTarget);
  EXPECT_EQ(qemu().Read(0x00100000 + 0x200, 1), 7u);
}

TEST_F(MpqemuTest, ResetForgetsWhereTheBarsWere) {
  PlaceBars();
  ASSERT_EQ(qemu().Reset(), 0u);
  EXPECT_TRUE(rig_.service().WaitFor(Frame::kReset, 1));
  EXPECT_EQ(qemu().Read(kMemoryBase, 4), kNoTarget);
  PlaceBars();
  EXPECT_EQ(qemu().Write(kMemoryBase, 5, 4), 0u);
}

// Each table takes the place of the one before; what is in both stays mapped
// all the while, as a device may be in the middle of a transfer.
TEST_F(MpqemuTest, MemoryTableReplacesTheOneBeforeAndLeavesTheRest) {
  const int ram = rig_.ram_memfd();
  qemu().SyncSysmem(
      {{0, 0xa0000, 0, ram}, {0x100000, 0x700000, 0x100000, ram}});
  Settle();
  ASSERT_TRUE(rig_.service().WaitFor(Frame::kMemoryMap, 2));

  qemu().SyncSysmem({{0x100000, 0x700000, 0x100000, ram},
                     {0, 0xa0000, 0, ram},
                     {0xc0000, 0x10000, 0xc0000, ram}});
  Settle();
  ASSERT_TRUE(rig_.service().WaitFor(Frame::kMemoryMap, 3));
  EXPECT_EQ(rig_.service().Frames(Frame::kMemoryUnmap).size(), 0u);

  qemu().SyncSysmem({{0x100000, 0x700000, 0x200000, ram}});  // elsewhere in it
  Settle();
  const auto maps = rig_.service().Frames(Frame::kMemoryMap);
  const auto unmaps = rig_.service().Frames(Frame::kMemoryUnmap);
  ASSERT_EQ(maps.size(), 4u);
  EXPECT_EQ(maps[3].memory_map().ram_offset(), 0x200000u);
  EXPECT_EQ(unmaps.size(), 3u);
}

TEST_F(MpqemuTest, MemoryThatIsNotTheVmsRamIsAHole) {
  const int other = memfd_create("other", MFD_CLOEXEC);
  qemu().SyncSysmem({{0, 0x10000, 0, other}});
  qemu().SyncSysmem({{0, 0x10000, kRamBytes - 0x1000, rig_.ram_memfd()}});
  Settle();
  EXPECT_EQ(rig_.service().Frames(Frame::kMemoryMap).size(), 0u);
  close(other);
}

TEST_F(MpqemuTest, InterruptIsRaisedOnTheEdgeAndAgainAfterResample) {
  TestEventfd raise;
  TestEventfd resample;
  qemu().SetIrqfd(raise.fd(), resample.fd());
  Settle();
  rig_.service().SetIntx(true);
  EXPECT_EQ(raise.Take(), 1u);

  // KVM: the guest has ended the interrupt, and the level is still high.
  const uint64_t one = 1;
  ASSERT_EQ(write(resample.fd(), &one, sizeof one), 8);
  EXPECT_EQ(raise.Take(), 1u);
  rig_.service().SetIntx(false);
  ASSERT_EQ(write(resample.fd(), &one, sizeof one), 8);
  EXPECT_EQ(raise.Take(/*milliseconds=*/100), 0u);
}

TEST_F(MpqemuTest, QemuThatGoesTakesItsMemoryAndInterruptsAway) {
  TestEventfd raise;
  TestEventfd resample;
  qemu().SetIrqfd(raise.fd(), resample.fd());
  qemu().SyncSysmem({{0, 0x10000, 0, rig_.ram_memfd()}});
  Settle();
  ASSERT_TRUE(rig_.service().HasVector(INTX, 0));
  qemu().Close();
  EXPECT_TRUE(rig_.service().WaitFor(Frame::kMemoryUnmap, 1));
  EXPECT_TRUE(rig_.service().WaitFor(Frame::kReset, 2));  // first: attached
  EXPECT_FALSE(rig_.service().HasVector(INTX, 0));
}

TEST_F(MpqemuTest, StoppedServiceCostsQemuOneDeadlineAndThenNothing) {
  PlaceBars();
  Settle();
  rig_.service().Freeze(true);
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x100, 4), 0xffffffffu);
  EXPECT_EQ(qemu().Write(kMemoryBase + 0x100, 1, 4), 0u);
  EXPECT_EQ(qemu().Read(kMemoryBase + 0x100, 4), 0xffffffffu);
  rig_.service().Freeze(false);
  Settle();
}

TEST_F(MpqemuTest, KilledServiceReadsAsOnesAndQemuIsServedOn) {
  PlaceBars();
  Settle();
  rig_.KillService();
  ASSERT_TRUE(rig_.WaitForControl(Frame::kServiceLost));
  EXPECT_EQ(qemu().Read(kMemoryBase, 4), 0xffffffffu);
  EXPECT_EQ(qemu().Write(kMemoryBase, 1, 4), 0u);
  EXPECT_EQ(qemu().ReadConfig(0, 2), 0xffffu);
  EXPECT_EQ(qemu().Reset(), 0u);
}

// ---- a QEMU that was taken over

struct Malformed {
  const char* name;
  int32_t command;
  size_t body_bytes;
  int64_t size_bytes;  // as the header says; -1: the truth
  int fds;
};

void PrintTo(const Malformed& malformed, std::ostream* out) {
  *out << malformed.name;
}

class MalformedMessageTest : public testing::TestWithParam<Malformed> {};

// What the protocol does not say ends the connection, and nothing else: the
// service lives, and is told that QEMU has gone.
TEST_P(MalformedMessageTest, EndsTheConnectionAndNothingElse) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  ASSERT_TRUE(rig.mpqemu().ReadConfig(0, 4).has_value());
  TestEventfd fd;
  const Malformed& message = GetParam();
  rig.mpqemu().Send(static_cast<Command>(message.command),
                    std::string(message.body_bytes, '\0'),
                    std::vector<int>(static_cast<size_t>(message.fds), fd.fd()),
                    message.size_bytes);
  if (message.size_bytes > 0) {
    rig.mpqemu().SendBytes(std::string(300, '\0'));  // what it promised
  }
  EXPECT_EQ(rig.mpqemu().Receive(), std::nullopt);
  EXPECT_TRUE(rig.service().WaitFor(Frame::kReset, 2));
  rig.control().outgoing().mutable_ping();
  ASSERT_TRUE(rig.control().Send().ok());
  EXPECT_TRUE(rig.WaitForControl(Frame::kAck));
}

INSTANTIATE_TEST_SUITE_P(
    , MalformedMessageTest,
    testing::Values(Malformed{"NegativeCommand", -1, 0, -1, 0},
                    Malformed{"ReplyThatNobodyAskedFor", 1, 8, -1, 0},
                    Malformed{"CommandAfterTheLast", 8, 0, -1, 0},
                    Malformed{"LargestCommand", 0x7fffffff, 0, -1, 0},
                    Malformed{"SizeBeyondAnyMessage", 5, 0, 193, 0},
                    Malformed{"LargestSize", 5, 0, INT64_MAX, 0},
                    Malformed{"ConfigReadTooShort", 3, 11, -1, 0},
                    Malformed{"ConfigWriteTooLong", 2, 13, -1, 0},
                    Malformed{"BarReadTooShort", 5, 23, -1, 0},
                    Malformed{"BarWriteEmpty", 4, 0, -1, 0},
                    Malformed{"BarReadWithADescriptor", 5, 24, -1, 1},
                    Malformed{"ResetWithABody", 7, 8, -1, 0},
                    Malformed{"ResetWithDescriptors", 7, 0, -1, 2},
                    Malformed{"IrqfdWithoutDescriptors", 6, 0, -1, 0},
                    Malformed{"IrqfdWithOne", 6, 0, -1, 1},
                    Malformed{"IrqfdWithThree", 6, 0, -1, 3},
                    Malformed{"IrqfdWithABody", 6, 4, -1, 2},
                    Malformed{"MemoryWithoutDescriptors", 0, 192, -1, 0},
                    Malformed{"MemoryWithNineDescriptors", 0, 192, -1, 9},
                    Malformed{"MemoryWithMoreDescriptorsThanFit", 0, 192, -1,
                              40},
                    Malformed{"MemoryTooShort", 0, 184, -1, 1},
                    Malformed{"MemoryOfNoSize", 0, 192, -1, 1}),
    [](const auto& info) { return std::string(info.param.name); });

struct Absurd {
  const char* name;
  std::vector<MpqemuClient::Range> ranges;
};

TEST(HostileMpqemuTest, MemoryThatWrapsOrOverlapsEndsTheConnection) {
  const std::vector<Absurd> kAbsurd = {
      {"wraps", {{~uint64_t{0xfff}, 0x2000, 0, -1}}},
      {"everything and more", {{0, ~uint64_t{0}, 0, -1}, {8, 8, 0, -1}}},
      {"overlap", {{0x1000, 0x1001, 0, -1}, {0x2000, 0x1000, 0, -1}}},
      {"the same twice", {{0, 0x1000, 0, -1}, {0, 0x1000, 0, -1}}},
      {"inside another, in any order",
       {{0x5000, 1, 0, -1}, {0, 0x10000, 0, -1}}},
      {"no size", {{0, 0x1000, 0, -1}, {0x2000, 0, 0, -1}}}};
  for (const Absurd& absurd : kAbsurd) {
    ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
    std::vector<MpqemuClient::Range> ranges = absurd.ranges;
    for (MpqemuClient::Range& range : ranges) range.fd = rig.ram_memfd();
    rig.mpqemu().SyncSysmem(ranges);
    EXPECT_EQ(rig.mpqemu().ReadConfig(0, 4), std::nullopt) << absurd.name;
    EXPECT_EQ(rig.service().Frames(Frame::kMemoryMap).size(), 0u);
  }
}

// The largest range that there is, and offsets that would wrap: legal, and no
// RAM of this VM.
TEST(HostileMpqemuTest, MemoryBeyondTheRamIsAHoleWithoutHarm) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  const int ram = rig.ram_memfd();
  rig.mpqemu().SyncSysmem({{0, ~uint64_t{0}, 0, ram}});
  rig.mpqemu().SyncSysmem({{0x1000, 0x1000, ~uint64_t{0}, ram}});
  rig.mpqemu().SyncSysmem({{0, 0x1000, ~uint64_t{0xfff}, ram}});
  EXPECT_TRUE(rig.mpqemu().ReadConfig(0, 4).has_value());
  EXPECT_EQ(rig.service().Frames(Frame::kMemoryMap).size(), 0u);
}

TEST(HostileMpqemuTest, OnlyEventfdsBecomeInterrupts) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  const int memfd = memfd_create("x", MFD_CLOEXEC);
  rig.mpqemu().SetIrqfd(memfd, memfd);
  EXPECT_EQ(rig.mpqemu().ReadConfig(0, 4), std::nullopt);
  EXPECT_FALSE(rig.service().HasVector(INTX, 0));
  close(memfd);
}

TEST(HostileMpqemuTest, NonsensicalAccessesReadAsNothing) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  MpqemuClient& qemu = rig.mpqemu();
  qemu.WriteConfig(0x10, kMemoryBase, 4);
  for (int32_t size : {0, 3, 5, 8, -1, -4, 0x40000000}) {
    EXPECT_EQ(qemu.ReadConfig(0, size), kNoTarget) << size;
    EXPECT_EQ(qemu.WriteConfig(0, 0, size), kNoTarget) << size;
  }
  for (uint32_t address : {253u, 256u, 4096u, 0xffffffffu}) {
    EXPECT_EQ(qemu.ReadConfig(address, 4), kNoTarget) << address;
    EXPECT_EQ(qemu.WriteConfig(address, 1, 4), kNoTarget) << address;
  }
  for (uint32_t size : {0u, 3u, 16u, 0x80000000u, 0xffffffffu}) {
    EXPECT_EQ(qemu.Read(kMemoryBase, size), kNoTarget) << size;
    EXPECT_EQ(qemu.Write(kMemoryBase, 1, size), kNoTarget) << size;
  }
  EXPECT_EQ(qemu.Read(~uint64_t{0}, 8), kNoTarget);
  EXPECT_EQ(qemu.Read(kMemoryBase + 0x100, 4), 0u);
}

size_t OpenFds() {
  size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

TEST(HostileMpqemuTest, DescriptorsDoNotAddUp) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  TestEventfd fd;
  const auto say_all = [&] {
    for (int i = 0; i < 20; ++i) {
      rig.mpqemu().SetIrqfd(fd.fd(), fd.fd());
      rig.mpqemu().SyncSysmem(
          std::vector<MpqemuClient::Range>(1, {0, 0x1000, 0, rig.ram_memfd()}));
      rig.mpqemu().ReadConfig(0, 4);
    }
  };
  say_all();
  const size_t before = OpenFds();
  say_all();
  EXPECT_EQ(OpenFds(), before);
}

TEST(HostileMpqemuTest, MessageInSingleBytesKeepsItsDescriptors) {
  ShimRig rig{FakeService::Options(), ShimRig::FrontEndKind::kMpqemu};
  mpqemu::SyncSysmem table = {};
  table.size_bytes[0] = 0x1000;
  const std::string bytes =
      MpqemuClient::Bytes(mpqemu::Header{0, 0, sizeof table}) +
      MpqemuClient::Bytes(table);
  rig.mpqemu().SendBytes(bytes.substr(0, 1), {rig.ram_memfd()});
  for (size_t i = 1; i < bytes.size(); ++i) {
    rig.mpqemu().SendBytes(bytes.substr(i, 1));
  }
  EXPECT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 1));
  EXPECT_TRUE(rig.mpqemu().ReadConfig(0, 4).has_value());
}

}  // namespace
}  // namespace bulkhead::proxy
