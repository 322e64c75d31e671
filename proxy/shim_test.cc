// Stories of a whole shim: QEMU attaches, uses its device, goes and comes
// again; the service dies and is replaced.

#include "proxy/shim.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proxy/shim_rig.h"

namespace bulkhead::proxy {
namespace {

using testing::ElementsAre;
using vfio_user::Command;

constexpr uint32_t kTriggerEventfd =
    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
constexpr uint32_t kUnmaskNow =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
constexpr uint32_t kMaskNow = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
constexpr uint32_t kDisable =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;

double MillisecondsOf(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - start)
      .count();
}

// vfio-user, VERSION.
TEST(ShimTest, NegotiationOffersWhatTheShimCanDo) {
  ShimRig rig;
  auto qemu = rig.Connect();
  const VfioUserClient::Reply reply = qemu->Negotiate();
  ASSERT_FALSE(reply.closed);
  EXPECT_EQ(reply.error(), 0u);
  EXPECT_EQ(reply.As<vfio_user::Version>().major, 0);
  EXPECT_THAT(reply.payload.substr(4),
              testing::AllOf(testing::HasSubstr("\"max_dma_maps\":4096"),
                             testing::HasSubstr("\"write_multiple\":true"),
                             testing::EndsWith(std::string("}}\0", 3))));
}

TEST(ShimTest, ClientWithoutWriteMultipleIsNotOfferedIt) {
  ShimRig rig;
  auto qemu = rig.Connect();
  const auto reply = qemu->Ask(Command::kVersion,
                               VfioUserClient::Bytes(vfio_user::Version{0, 1}));
  EXPECT_EQ(reply.error(), 0u);
  EXPECT_EQ(reply.payload.find("write_multiple"), std::string::npos);
}

TEST(ShimTest, QemuFindsTheDevicesRegionsAndInterrupts) {
  ShimRig rig;
  auto qemu = rig.Attach();
  const auto device =
      qemu->Ask(Command::kDeviceGetInfo,
                VfioUserClient::Bytes(vfio_user::DeviceInfo{16, 0, 0, 0}));
  EXPECT_EQ(device.As<vfio_user::DeviceInfo>().num_regions, 9u);
  EXPECT_EQ(device.As<vfio_user::DeviceInfo>().num_irqs, 5u);
  EXPECT_EQ(device.As<vfio_user::DeviceInfo>().flags,
            uint32_t{VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI});

  const auto region_size = [&](uint32_t index) {
    const auto reply = qemu->Ask(
        Command::kDeviceGetRegionInfo,
        VfioUserClient::Bytes(vfio_region_info{32, 0, index, 0, 0, 0}));
    return reply.As<vfio_region_info>().size;
  };
  EXPECT_EQ(region_size(0), 4096u);
  EXPECT_EQ(region_size(1), 256u);
  EXPECT_EQ(region_size(3), 0u);
  EXPECT_EQ(region_size(7), 256u);

  const auto irq = [&](uint32_t index) {
    return qemu
        ->Ask(Command::kDeviceGetIrqInfo,
              VfioUserClient::Bytes(vfio_irq_info{16, 0, index, 0}))
        .As<vfio_irq_info>();
  };
  EXPECT_EQ(irq(VFIO_PCI_INTX_IRQ_INDEX).count, 1u);
  EXPECT_EQ(irq(VFIO_PCI_INTX_IRQ_INDEX).flags,
            uint32_t{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
                     VFIO_IRQ_INFO_AUTOMASKED});
  EXPECT_EQ(irq(VFIO_PCI_MSI_IRQ_INDEX).count, 4u);
  EXPECT_EQ(irq(VFIO_PCI_MSIX_IRQ_INDEX).count, 128u);
  EXPECT_EQ(irq(VFIO_PCI_MSIX_IRQ_INDEX).flags,
            uint32_t{VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE});
  EXPECT_EQ(irq(VFIO_PCI_ERR_IRQ_INDEX).count, 1u);
}

TEST(ShimTest, ConfigurationSpaceIsReadInPiecesOfFourBytes) {
  ShimRig rig;
  for (int i = 0; i < 256; ++i) {
    rig.service().SetConfig(static_cast<uint64_t>(i), static_cast<uint8_t>(i));
  }
  auto qemu = rig.Attach();
  const auto reply =
      qemu->Ask(Command::kRegionRead, VfioUserClient::Access(7, 0, 256));
  ASSERT_EQ(reply.payload.size(), 16u + 256u);
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(static_cast<uint8_t>(reply.payload[16 + i]), i);
  }
  const std::vector<Frame> reads = rig.service().Frames(Frame::kRegionRead);
  EXPECT_EQ(reads.size(), 64u);
  EXPECT_EQ(reads[1].region_read().size_bytes(), 4u);
  EXPECT_EQ(qemu->Read(7, 3, 2), 0x0403u);  // crosses a word: two pieces
}

TEST(ShimTest, StoresArePostedInOrderAndLoadsSeeThem) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (uint64_t i = 0; i < 100; ++i) qemu->PostedWrite(0, 0x100, 4, i);
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 99u);
  EXPECT_EQ(qemu->Write(0, 0x108, 8, 0x1122334455667788).error(), 0u);
  EXPECT_EQ(qemu->Read(0, 0x108, 8), 0x1122334455667788u);
  EXPECT_EQ(rig.service().Frames(Frame::kRegionWrite).size(), 101u);
}

TEST(ShimTest, WriteMultiStoresEachAndCountsThem) {
  ShimRig rig;
  auto qemu = rig.Attach();
  std::string payload = VfioUserClient::Bytes(uint64_t{3});
  for (uint64_t i = 0; i < 3; ++i) {
    payload += VfioUserClient::Bytes(
        vfio_user::MultiWrite{0x200 + 4 * i, 0, 4, {uint8_t(10 + i)}});
  }
  const auto reply = qemu->Ask(Command::kRegionWriteMulti, payload);
  EXPECT_EQ(reply.As<uint64_t>(), 3u);
  EXPECT_EQ(qemu->Read(0, 0x208, 4), 12u);
}

// proto/shadow.h: a load whose stores have been applied wakes nobody.
TEST(ShimTest, ShadowedLoadDoesNotAskTheService) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().SetShadow(0x14, 0xab);
  EXPECT_EQ(qemu->Read(0, 0x14, 1), 0xabu);
  EXPECT_TRUE(rig.service().Frames(Frame::kRegionRead).empty());
  qemu->Read(0, FakeService::kShadowedBytes, 4);  // just past it
  EXPECT_EQ(rig.service().Frames(Frame::kRegionRead).size(), 1u);
}

TEST(ShimTest, ShadowIsNotBelievedWhileAStoreIsUnderWay) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Lag(true);
  qemu->PostedWrite(0, 0x10, 4, 0x5555);
  EXPECT_EQ(qemu->Read(0, 0x10, 4), 0x5555u);  // asked, not the stale image
  EXPECT_EQ(rig.service().Frames(Frame::kRegionRead).size(), 1u);
}

TEST(ShimTest, OnlyTheRamMemfdBecomesGuestMemory) {
  ShimRig rig;
  auto qemu = rig.Attach();
  const int foreign = memfd_create("foreign", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(foreign, 1 << 20), 0);
  EXPECT_EQ(qemu->Map(0xc0000, 0x1000, 0, -1).error(), 0u);
  EXPECT_EQ(qemu->Map(0xd0000, 0x1000, 0, foreign).error(), 0u);
  EXPECT_EQ(qemu->Map(0x100000, 0x200000, 0x100000, rig.ram_memfd()).error(),
            0u);
  // Beyond the end of RAM.
  EXPECT_EQ(qemu->Map(0x800000, 0x1000, kRamBytes, rig.ram_memfd()).error(),
            0u);
  close(foreign);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 1));
  const std::vector<Frame> maps = rig.service().Frames(Frame::kMemoryMap);
  ASSERT_EQ(maps.size(), 1u);
  EXPECT_EQ(maps[0].memory_map().address(), 0x100000u);
  EXPECT_EQ(maps[0].memory_map().size_bytes(), 0x200000u);
  EXPECT_EQ(maps[0].memory_map().ram_offset(), 0x100000u);

  EXPECT_EQ(qemu->Unmap(0xc0000, 0x1000).error(), 0u);
  EXPECT_EQ(qemu->Unmap(0x100000, 0x200000).error(), 0u);
  EXPECT_EQ(qemu->Unmap(0x100000, 0x200000).error(), uint32_t{EINVAL});
  EXPECT_EQ(rig.service().Frames(Frame::kMemoryUnmap).size(), 1u);
}

// QEMU remaps RAM around the holes that firmware opens in it.
TEST(ShimTest, PartOfARangeIsUnmappedByTellingTheRestAnew) {
  ShimRig rig;
  auto qemu = rig.Attach();
  qemu->Map(0, 0x100000, 0, rig.ram_memfd());
  EXPECT_EQ(qemu->Unmap(0xa0000, 0x20000).error(), 0u);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 3));
  const std::vector<Frame> maps = rig.service().Frames(Frame::kMemoryMap);
  EXPECT_EQ(maps[1].memory_map().size_bytes(), 0xa0000u);
  EXPECT_EQ(maps[2].memory_map().address(), 0xc0000u);
  EXPECT_EQ(maps[2].memory_map().ram_offset(), 0xc0000u);
  EXPECT_EQ(qemu->Unmap(0, 0, vfio_user::kDmaUnmapAll).error(), 0u);
  EXPECT_EQ(rig.service().Frames(Frame::kMemoryUnmap).size(), 3u);
}

TEST(ShimTest, IntxIsRaisedAgainAfterUnmaskWhileTheLineIsHigh) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  EXPECT_EQ(
      qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()})
          .error(),
      0u);
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  EXPECT_EQ(qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1).error(),
            0u);
  EXPECT_EQ(irq.Take(), 1u);
  rig.service().SetIntx(false);
  EXPECT_EQ(qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1).error(),
            0u);
  EXPECT_EQ(irq.Take(50), 0u);
}

// The store that acknowledges the interrupt is posted; QEMU unmasks right
// behind it, when the service still shows the old level.
TEST(ShimTest, UnmaskBehindTheAcknowledgingStoreRaisesNothing) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  qemu->PostedWrite(0, 0x14, 1, 4);
  EXPECT_LT(MillisecondsOf([&] {
              qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
            }),
            50);  // QEMU does not wait for the service
  rig.service().SetIntx(false);
  rig.service().Freeze(false);
  EXPECT_EQ(irq.Take(50), 0u);
}

// Without KVM the driver's first load is the end of interrupt to QEMU; what it
// acknowledges by its next store must not come a second time.
TEST(ShimTest, LineThatIsAcknowledgedAfterTheUnmaskIsNotRaisedAgain) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  qemu->Read(0, 0x14, 1);
  qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  EXPECT_EQ(irq.Take(20), 0u);
  rig.service().SetIntx(false);
  qemu->PostedWrite(0, 0x14, 1, 4);
  EXPECT_EQ(irq.Take(500), 0u);
}

TEST(ShimTest, LineThatStaysHighAfterTheDriversStoreIsRaisedAgainAtOnce) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  qemu->Read(0, 0x14, 1);
  qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  qemu->PostedWrite(0, 0x20, 1, 4);
  qemu->Read(0, 0x100, 1);  // applied by now
  EXPECT_LT(MillisecondsOf([&] { EXPECT_EQ(irq.Take(), 1u); }), 300);
}

TEST(ShimTest, LineThatNobodyAcknowledgesIsRaisedAgainInTime) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  qemu->Read(0, 0x14, 1);
  qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  EXPECT_EQ(irq.Take(1000), 1u);
}

// KVM: the guest's end of interrupt writes an eventfd instead.
TEST(ShimTest, UnmaskEventfdRaisesIntxAgain) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  TestEventfd unmask;
  qemu->SetIrqs(kMaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  EXPECT_EQ(
      qemu->SetIrqs(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
                    VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {unmask.fd()})
          .error(),
      0u);
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  const uint64_t one = 1;
  ASSERT_EQ(write(unmask.fd(), &one, sizeof one), 8);
  EXPECT_EQ(irq.Take(), 1u);
}

TEST(ShimTest, MaskedIntxStaysQuietUntilUnmasked) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  qemu->SetIrqs(kMaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  rig.service().SetIntx(true);
  irq.Take(20);  // the edge is the service's own
  EXPECT_EQ(irq.Take(50), 0u);
  qemu->SetIrqs(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_UNMASK,
                VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {}, std::string(1, '\0'));
  EXPECT_EQ(irq.Take(50), 0u);  // a false boolean does nothing
  qemu->SetIrqs(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_UNMASK,
                VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {}, std::string(1, '\1'));
  EXPECT_EQ(irq.Take(), 1u);
}

TEST(ShimTest, MsixVectorsReachTheServiceAndCanBeRaised) {
  ShimRig rig;
  auto qemu = rig.Attach();
  // QEMU's opening move: enabled, no vectors.
  EXPECT_EQ(
      qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1).error(),
      0u);
  std::vector<TestEventfd> irqs(100);
  for (uint32_t at = 0; at < 100; at += 16) {
    std::vector<int> fds;
    for (uint32_t i = at; i < std::min(at + 16, 100u); ++i) {
      fds.push_back(irqs[i].fd());
    }
    EXPECT_EQ(qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_MSIX_IRQ_INDEX, at,
                            static_cast<uint32_t>(fds.size()), fds)
                  .error(),
              0u);
  }
  EXPECT_TRUE(rig.service().Raise(MSIX, 99));
  EXPECT_EQ(irqs[99].Take(), 1u);
  rig.service().Send([](Frame* frame) {
    frame->mutable_interrupt_fallback()->set_kind(MSIX);
    frame->mutable_interrupt_fallback()->set_vector(7);
  });
  EXPECT_EQ(irqs[7].Take(), 1u);
  EXPECT_EQ(qemu->SetIrqs(kDisable, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0).error(), 0u);
  EXPECT_FALSE(rig.service().HasVector(MSIX, 99));
}

TEST(ShimTest, ResetTwiceReachesTheServiceTwice) {
  ShimRig rig;
  auto qemu = rig.Attach();
  EXPECT_EQ(qemu->Ask(Command::kDeviceReset, "").error(), 0u);
  EXPECT_EQ(qemu->Ask(Command::kDeviceReset, "").error(), 0u);
  // One more when the service was introduced to a QEMU-less shim.
  EXPECT_EQ(rig.service().Frames(Frame::kReset).size(), 3u);
}

TEST(ShimTest, DoorbellPageIsOfferedWithItsMemfd) {
  FakeService::Options options;
  options.has_doorbell = true;
  ShimRig rig(options);
  auto qemu = rig.Attach();
  const auto ask = [&](uint32_t argsz) {
    return qemu->Ask(
        Command::kDeviceGetRegionInfo,
        VfioUserClient::Bytes(vfio_region_info{argsz, 0, 2, 0, 0, 0}));
  };
  const auto small = ask(32);
  EXPECT_EQ(small.payload.size(), 32u);
  EXPECT_EQ(small.As<vfio_region_info>().argsz, 64u);
  EXPECT_TRUE(small.fds.empty());
  const auto full = ask(64);
  ASSERT_EQ(full.payload.size(), 64u);
  const auto area =
      full.As<vfio_user::SparseMmap>(full.As<vfio_region_info>().cap_offset);
  EXPECT_EQ(area.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  EXPECT_EQ(area.area.offset, 0x1000u);
  EXPECT_EQ(area.area.size, 0x1000u);
  ASSERT_EQ(full.fds.size(), 1u);
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
                    full.fds[0], 0x1000);
  EXPECT_NE(page, MAP_FAILED);
  munmap(page, 4096);
  close(full.fds[0]);
  // An argsz near 2^32 asks for no more than there is.
  EXPECT_EQ(ask(0xffffffff).payload.size(), 64u);
}

// device_del, then device_add.
TEST(ShimTest, QemuMayGoAndComeAgain) {
  ShimRig rig;
  auto qemu = rig.Attach();
  qemu->Map(0, 0x100000, 0, rig.ram_memfd());
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  qemu->Close();
  auto again = rig.Attach();
  EXPECT_EQ(again->Read(7, 0, 4), 0u);
  EXPECT_EQ(rig.service().Frames(Frame::kMemoryUnmap).size(), 1u);
  EXPECT_EQ(rig.service().Frames(Frame::kReset).size(), 2u);
  EXPECT_FALSE(rig.service().HasVector(INTX, 0));
}

TEST(ShimTest, LauncherHearsWhichRequestsAreNone) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.control().outgoing().mutable_get_statistics();
  ASSERT_TRUE(rig.control().Send().ok());
  ASSERT_TRUE(rig.WaitForControl(Frame::kAck));
  EXPECT_EQ(rig.control().incoming().ack().error(), UNKNOWN_REQUEST);
  EXPECT_EQ(rig.control().incoming().in_reply_to(), rig.control().last_sent());
  EXPECT_EQ(qemu->Read(7, 0, 4), 0u);  // it goes on
}

}  // namespace
}  // namespace bulkhead::proxy
