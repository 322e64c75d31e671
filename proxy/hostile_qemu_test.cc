// What a QEMU that was taken over can do: lose its own connection. The shim and
// the service live on.

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "proxy/shim_rig.h"
#include "proxy/vfio_user_front_end.h"

namespace bulkhead::proxy {
namespace {

using vfio_user::Command;
using vfio_user::Header;

constexpr uint32_t kTriggerEventfd =
    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;

void ExpectStillServing(ShimRig& rig) {
  auto next = rig.Attach();
  next->Write(0, 0x100, 4, 5);
  EXPECT_EQ(next->Read(0, 0x100, 4), 5u);
}

std::string Message(Command command, uint32_t size_bytes, uint32_t flags,
                    const std::string& payload = "") {
  return VfioUserClient::Bytes(Header{.message_id = 1,
                                      .command = static_cast<uint16_t>(command),
                                      .size_bytes = size_bytes,
                                      .flags = flags,
                                      .error = 0}) +
         payload;
}

TEST(HostileQemuTest, BrokenStreamEndsTheConnectionOnly) {
  const std::string kBroken[] = {
      Message(Command::kDeviceReset, 15, 0),          // shorter than a header
      Message(Command::kDeviceReset, 0xffffffff, 0),  // longer than allowed
      Message(Command::kDeviceReset, 16, vfio_user::kTypeReply),
      Message(Command::kDeviceReset, 16, 0xf),
  };
  ShimRig rig;
  for (const std::string& bytes : kBroken) {
    auto qemu = rig.Attach();
    qemu->SendBytes(bytes);
    EXPECT_TRUE(qemu->Receive().closed);
  }
  ExpectStillServing(rig);
}

TEST(HostileQemuTest, FirstMessageMustBeVersion) {
  ShimRig rig;
  auto qemu = rig.Connect();
  EXPECT_TRUE(qemu->Ask(Command::kDeviceReset, "").closed);
  ExpectStillServing(rig);
}

TEST(HostileQemuTest, UnknownCommandsAreAnsweredWithAnError) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (uint16_t command : {0, 6, 11, 12, 14, 16, 17, 18, 0xffff}) {
    const auto reply = qemu->Ask(static_cast<Command>(command), "whatever");
    EXPECT_EQ(reply.error(), uint32_t{ENOTSUP}) << command;
    EXPECT_EQ(reply.header.size_bytes, 16u);
  }
  EXPECT_EQ(qemu->Negotiate().error(), uint32_t{EINVAL});  // a second one
}

TEST(HostileQemuTest, TruncatedPayloadsAreInvalid) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (uint16_t command : {2, 3, 4, 5, 7, 8, 9, 10, 15}) {
    for (size_t size : {0u, 3u, 7u}) {
      EXPECT_EQ(qemu->Ask(static_cast<Command>(command), std::string(size, 0))
                    .error(),
                uint32_t{EINVAL})
          << command << " with " << size;
    }
  }
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0u);
}

TEST(HostileQemuTest, AccessesOutsideARegionAreInvalid) {
  ShimRig rig;
  auto qemu = rig.Attach();
  const auto read = [&](uint32_t region, uint64_t offset, uint32_t count) {
    return qemu
        ->Ask(Command::kRegionRead,
              VfioUserClient::Access(region, offset, count))
        .error();
  };
  EXPECT_EQ(read(0, 4096, 1), uint32_t{EINVAL});
  EXPECT_EQ(read(0, 4095, 2), uint32_t{EINVAL});
  EXPECT_EQ(read(0, ~uint64_t{0}, 4), uint32_t{EINVAL});
  EXPECT_EQ(read(3, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(read(9, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(read(~0u, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(read(0, 0, kMaxTransferBytes + 1), uint32_t{EINVAL});
  EXPECT_EQ(read(0, 0, 4096), 0u);
  // A write that says more than it carries.
  EXPECT_EQ(
      qemu->Ask(Command::kRegionWrite, VfioUserClient::Access(0, 0, 8, "1234"))
          .error(),
      uint32_t{EINVAL});
  const std::string multi =
      VfioUserClient::Bytes(uint64_t{1} << 61) + std::string(24, '\0');
  EXPECT_EQ(qemu->Ask(Command::kRegionWriteMulti, multi).error(),
            uint32_t{EINVAL});
  const std::string nine =
      VfioUserClient::Bytes(uint64_t{1}) +
      VfioUserClient::Bytes(vfio_user::MultiWrite{0, 0, 9, {}});
  EXPECT_EQ(qemu->Ask(Command::kRegionWriteMulti, nine).error(),
            uint32_t{EINVAL});
}

TEST(HostileQemuTest, MapsThatWrapAreInvalidAndTheTableIsBounded) {
  ShimRig rig;
  auto qemu = rig.Attach();
  EXPECT_EQ(qemu->Map(~uint64_t{0xfff}, 0x2000, 0, -1).error(),
            uint32_t{EINVAL});
  EXPECT_EQ(qemu->Map(0x1000, 0, 0, -1).error(), uint32_t{EINVAL});
  EXPECT_EQ(qemu->Map(0, ~uint64_t{0}, 0, rig.ram_memfd()).error(), 0u);
  EXPECT_EQ(qemu->Unmap(0, 0, vfio_user::kDmaUnmapAll).error(), 0u);
  uint64_t mapped = 0;
  while (mapped < 5000 &&
         qemu->Map(mapped * 0x2000, 0x1000, 0, -1).error() == 0) {
    ++mapped;
  }
  EXPECT_EQ(mapped, MemoryTable::kMaxRanges);
  EXPECT_EQ(qemu->Unmap(0, 0, vfio_user::kDmaUnmapAll).error(), 0u);
  EXPECT_EQ(qemu->Map(0, 0x1000, 0, -1).error(), 0u);
}

// linux/vfio.h, VFIO_DEVICE_SET_IRQS: one kind of data and one action; a range
// that exists.
TEST(HostileQemuTest, NonsenseInSetIrqsIsInvalid) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  const auto set = [&](uint32_t flags, uint32_t index, uint32_t start,
                       uint32_t count, std::vector<int> fds = {}) {
    return qemu->SetIrqs(flags, index, start, count, fds).error();
  };
  EXPECT_EQ(set(0, 0, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(set(0x3f, 0, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd | 0x80, 0, 0, 1), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 5, 0, 1, {irq.fd()}), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 0, 1, 1, {irq.fd()}), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 2, 127, 2, {irq.fd(), irq.fd()}),
            uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 2, ~0u, 2), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 2, 2, ~0u), uint32_t{EINVAL});
  EXPECT_EQ(set(kTriggerEventfd, 2, 0, 3, {irq.fd()}), uint32_t{EINVAL});
  EXPECT_EQ(
      set(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, 2, 0, 100),
      uint32_t{EINVAL});  // booleans missing
  EXPECT_EQ(set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 2, 0, 1),
            uint32_t{ENOTTY});
  EXPECT_EQ(set(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, 0, 0, 1,
                {irq.fd()}),
            uint32_t{ENOTTY});
  // Error and request notifiers are taken, and closed.
  EXPECT_EQ(set(kTriggerEventfd, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, {irq.fd()}), 0u);
  // DATA_NONE and TRIGGER raises a vector.
  EXPECT_EQ(set(kTriggerEventfd, 0, 0, 1, {irq.fd()}), 0u);
  EXPECT_EQ(set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, 1),
            0u);
  EXPECT_EQ(irq.Take(), 1u);
}

// A service must never be handed something it could be made to block on, or a
// file of QEMU's.
TEST(HostileQemuTest, OnlyEventfdsBecomeInterrupts) {
  ShimRig rig;
  auto qemu = rig.Attach();
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const int memfd = memfd_create("x", MFD_CLOEXEC);
  for (int fd : {pipe_ends[1], memfd}) {
    EXPECT_EQ(
        qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {fd})
            .error(),
        uint32_t{EINVAL});
  }
  EXPECT_FALSE(rig.service().HasVector(INTX, 0));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  close(memfd);
}

size_t OpenFds() {
  size_t count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

TEST(HostileQemuTest, DescriptorsNobodyAskedForAreClosed) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd fd;
  qemu->Read(0, 0, 4);
  const size_t before = OpenFds();
  for (int i = 0; i < 10; ++i) {
    qemu->Ask(Command::kDeviceReset, "", std::vector<int>(16, fd.fd()));
    qemu->Ask(Command::kDmaMap, "short", {fd.fd()});
    qemu->Ask(static_cast<Command>(99), "", {fd.fd()});
  }
  qemu->Read(0, 0, 4);
  EXPECT_EQ(OpenFds(), before);
  // More than were agreed on end the connection.
  EXPECT_TRUE(
      qemu->Ask(Command::kDeviceReset, "", std::vector<int>(40, fd.fd()))
          .closed);
  ExpectStillServing(rig);
}

// The stream may be cut anywhere; descriptors stay with their message.
TEST(HostileQemuTest, MessageInSingleBytesKeepsItsDescriptor) {
  ShimRig rig;
  auto qemu = rig.Attach();
  const std::string map =
      Message(Command::kDmaMap, 48, 0,
              VfioUserClient::Bytes(vfio_user::DmaMap{32, 3, 0, 0, 0x100000}));
  qemu->SendBytes(map.substr(0, 1), {rig.ram_memfd()});
  for (size_t i = 1; i < map.size(); ++i) qemu->SendBytes(map.substr(i, 1));
  EXPECT_EQ(qemu->Receive().error(), 0u);
  EXPECT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 1));
}

TEST(HostileQemuTest, PipelinedMessagesKeepTheirDescriptors) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (uint64_t i = 0; i < 20; ++i) {
    qemu->Send(Command::kRegionRead, VfioUserClient::Access(0, 0x100, 4));
    const bool with_fd = i % 2 == 0;
    qemu->Send(
        Command::kDmaMap,
        VfioUserClient::Bytes(
            vfio_user::DmaMap{32, 3, i * 0x1000, i * 0x1000, 0x1000}),
        with_fd ? std::vector<int>{rig.ram_memfd()} : std::vector<int>());
  }
  for (int i = 0; i < 40; ++i) EXPECT_EQ(qemu->Receive().error(), 0u);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 10));
  const auto maps = rig.service().Frames(Frame::kMemoryMap);
  ASSERT_EQ(maps.size(), 10u);
  for (uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(maps[i].memory_map().address(), 2 * i * 0x1000);
  }
}

TEST(HostileQemuTest, NoReplyIsHonouredEvenForErrors) {
  ShimRig rig;
  auto qemu = rig.Attach();
  qemu->Send(static_cast<Command>(77), "", {}, vfio_user::kNoReply);
  qemu->Send(Command::kRegionWrite, "short", {}, vfio_user::kNoReply);
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0u);  // the next reply is this one's
}

// A QEMU that asks and never reads loses its connection, not the shim.
TEST(HostileQemuTest, RepliesThatAreNotTakenEndTheConnection) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (int i = 0; i < 200; ++i) {
    qemu->Send(Command::kRegionRead, VfioUserClient::Access(0, 0, 4096));
  }
  auto next = rig.Connect();
  EXPECT_EQ(next->Negotiate().error(), 0u);
}

}  // namespace
}  // namespace bulkhead::proxy
