// What a service that was taken over can do to QEMU: nothing. The device reads
// as ~0, QEMU never waits beyond a deadline, and the launcher is told.

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

#include "gtest/gtest.h"
#include "proxy/shim_rig.h"

namespace bulkhead::proxy {
namespace {

using vfio_user::Command;

constexpr uint32_t kTriggerEventfd =
    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
constexpr uint32_t kUnmaskNow =
    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;

// QEMU's monitor must answer within 100 ms, and waits for the access.
constexpr double kPatienceMs = 100;

double MillisecondsOf(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now() - start)
      .count();
}

// The device is gone, QEMU is well served, and a new service brings it back.
void ExpectLostAndReplaceable(ShimRig& rig, VfioUserClient& qemu) {
  EXPECT_TRUE(rig.WaitForControl(Frame::kServiceLost));
  EXPECT_LT(
      MillisecondsOf([&] {
        EXPECT_EQ(qemu.Read(0, 0x100, 4), 0xffffffffu);
        EXPECT_EQ(qemu.Read(7, 0, 2), 0xffffu);
        EXPECT_EQ(qemu.Write(0, 0x100, 4, 1).error(), 0u);
        EXPECT_EQ(qemu.Map(0x10000000, 0x1000, 0, -1).error(), 0u);
        EXPECT_EQ(qemu.Ask(Command::kDeviceReset, "").error(), 0u);
        EXPECT_EQ(
            qemu.SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1).error(),
            0u);
      }),
      kPatienceMs);
  rig.ReplaceService();
  ASSERT_TRUE(rig.service().WaitFor(Frame::kReset, 1));
  EXPECT_EQ(qemu.Write(0, 0x100, 4, 77).error(), 0u);
  EXPECT_EQ(qemu.Read(0, 0x100, 4), 77u);
}

TEST(HostileServiceTest, DeathLeavesADeviceThatReadsAllOnes) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.KillService();
  ExpectLostAndReplaceable(rig, *qemu);
}

// proto/shadow.h: what the service says it has raised, it has not.
TEST(HostileServiceTest, LieAboutInterruptsCostsTheServiceItsOwnOnly) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd irq;
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {irq.fd()});
  rig.service().SetIntx(true);
  EXPECT_EQ(irq.Take(), 1u);
  for (uint32_t count : {1u, 0u, 0xffffffffu}) {
    qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
    rig.service().ClaimIntxRaised(count);
    EXPECT_LT(MillisecondsOf([&] { qemu->Read(0, 0x100, 4); }), kPatienceMs);
  }
  irq.Take(20);
  // The level is believed again as soon as the count stands still.
  qemu->SetIrqs(kUnmaskNow, VFIO_PCI_INTX_IRQ_INDEX, 0, 1);
  EXPECT_GE(irq.Take(), 1u);
}

TEST(HostileServiceTest, NewServiceIsToldMemoryInterruptsAndReset) {
  ShimRig rig;
  auto qemu = rig.Attach();
  TestEventfd intx;
  TestEventfd msix;
  qemu->Map(0, 0x100000, 0, rig.ram_memfd());
  qemu->Map(0x100000, 0x1000, 0, -1);
  qemu->Map(0x200000, 0x100000, 0x200000, rig.ram_memfd());
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, {intx.fd()});
  qemu->SetIrqs(kTriggerEventfd, VFIO_PCI_MSIX_IRQ_INDEX, 70, 1, {msix.fd()});
  rig.KillService();
  ASSERT_TRUE(rig.WaitForControl(Frame::kServiceLost));
  qemu->Unmap(0, 0x100000);
  rig.ReplaceService();
  ASSERT_TRUE(rig.service().WaitFor(Frame::kReset, 1));
  const std::vector<Frame> maps = rig.service().Frames(Frame::kMemoryMap);
  ASSERT_EQ(maps.size(), 1u);
  EXPECT_EQ(maps[0].memory_map().address(), 0x200000u);
  rig.service().SetIntx(true);
  EXPECT_EQ(intx.Take(), 1u);
  EXPECT_TRUE(rig.service().Raise(MSIX, 70));
  EXPECT_EQ(msix.Take(), 1u);
}

TEST(HostileServiceTest, DeathWhileQemuWaitsAnswersAtOnce) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  qemu->Send(Command::kRegionRead, VfioUserClient::Access(0, 0x100, 4));
  rig.KillService();
  const auto reply = qemu->Receive();
  EXPECT_EQ(reply.As<uint32_t>(16), 0xffffffffu);
  ExpectLostAndReplaceable(rig, *qemu);
}

// A stopped service costs one deadline, not one per access; when it goes on,
// its late answers are dropped and the device works again.
TEST(HostileServiceTest, StoppedServiceCostsOneDeadlineAndRecovers) {
  ShimRig rig;
  auto qemu = rig.Attach();
  qemu->Write(0, 0x100, 4, 0x1234);
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0x1234u);
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_LT(
      MillisecondsOf([&] { EXPECT_EQ(qemu->Read(0, 0x100, 4), 0xffffffffu); }),
      kPatienceMs);
  EXPECT_LT(MillisecondsOf([&] {
              for (int i = 0; i < 20; ++i) {
                EXPECT_EQ(qemu->Read(0, 0x104, 4), 0xffffffffu);
                qemu->Write(0, 0x100, 4, 0x5678);
              }
              qemu->Ask(Command::kDeviceReset, "");
              qemu->Map(0x100000, 0x1000, 0, rig.ram_memfd());
              qemu->Unmap(0x100000, 0x1000);
            }),
            kPatienceMs);
  rig.service().Freeze(false);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryUnmap, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0x5678u);
}

TEST(HostileServiceTest, ServiceThatDoesNotDrainItsSocketIsGivenUp) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  double longest = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    longest =
        std::max(longest, MillisecondsOf([&] { qemu->Write(0, 0x100, 4, i); }));
  }
  EXPECT_LT(longest, kPatienceMs);
  ExpectLostAndReplaceable(rig, *qemu);
}

// One that takes a frame just in time makes no store wait for long, and all of
// them for ever. Its events wake the shim, which then finds room for one.
TEST(HostileServiceTest, ServiceThatTakesFramesOneByOneIsGivenUp) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::atomic<bool> ended = false;
  std::thread trickle([&] {
    while (!ended) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      rig.service().TakeOne();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      rig.service().Send([](Frame* frame) {
        frame->mutable_interrupt_fallback()->set_kind(MSIX);
      });
    }
  });
  EXPECT_LT(MillisecondsOf([&] {
              for (uint64_t i = 0; i < 1000; ++i) qemu->Write(0, 0x100, 4, i);
            }),
            10 * kPatienceMs);
  ended = true;
  trickle.join();
  EXPECT_TRUE(rig.WaitForControl(Frame::kServiceLost));
}

// Each of a hundred unmaps is answered just in time: together they cost QEMU
// one deadline, not a hundred.
TEST(HostileServiceTest, ServiceThatAnswersJustInTimeCostsOneDeadlineInAll) {
  ShimRig rig;
  auto qemu = rig.Attach();
  for (uint64_t i = 0; i < 100; ++i) {
    qemu->Map(i << 20, 0x1000, i << 12, rig.ram_memfd());
  }
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 100));
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::atomic<bool> ended = false;
  std::thread trickle([&] {
    while (!ended) {
      std::this_thread::sleep_for(std::chrono::milliseconds(15));
      rig.service().TakeOne();
    }
  });
  EXPECT_LT(MillisecondsOf([&] { qemu->Unmap(0, 0, vfio_user::kDmaUnmapAll); }),
            kPatienceMs);
  ended = true;
  trickle.join();
  rig.service().Freeze(false);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryUnmap, 100));
}

// A host that stops an honest service for a moment, while the guest sets up
// its IOMMU: the device is there afterwards.
TEST(HostileServiceTest, HundredsOfMapsDuringAPauseLoseNothing) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Freeze(true);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  for (uint64_t i = 0; i < 150; ++i) {
    qemu->Map(i << 20, 0x1000, i << 12, rig.ram_memfd());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  rig.service().Freeze(false);
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 150));
  EXPECT_EQ(qemu->Write(0, 0x100, 4, 99).error(), 0u);
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 99u);
}

TEST(HostileServiceTest, MuteServiceIsLateOnceAndItsAnswersAreDropped) {
  ShimRig rig;
  auto qemu = rig.Attach();
  qemu->Write(0, 0x100, 4, 0x1111);
  rig.service().Mute(true);
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0xffffffffu);
  qemu->Write(0, 0x100, 4, 0x2222);
  rig.service().Mute(false);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0x2222u);
}

struct BadFrame {
  const char* name;
  std::function<void(Frame*)> fill;
};

class BadFrameTest : public testing::TestWithParam<BadFrame> {};

TEST_P(BadFrameTest, CostsTheServiceItsChannelAndQemuNothing) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Send(GetParam().fill);
  ExpectLostAndReplaceable(rig, *qemu);
}

INSTANTIATE_TEST_SUITE_P(
    Frames, BadFrameTest,
    testing::Values(
        BadFrame{"AnswerToNothing",
                 [](Frame* f) {
                   f->set_in_reply_to(4711);
                   f->mutable_region_read_reply()->set_value(1);
                 }},
        BadFrame{"SecondHello",
                 [](Frame* f) { f->mutable_hello()->set_version(1); }},
        BadFrame{"RequestOfTheWrongDirection",
                 [](Frame* f) { f->mutable_memory_map()->set_address(1); }},
        BadFrame{"ControlRequest", [](Frame* f) { f->mutable_quiesce(); }},
        BadFrame{"UnaskedReply", [](Frame* f) { f->mutable_ack(); }}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(HostileServiceTest, GarbageCostsTheServiceItsChannelAndQemuNothing) {
  for (const std::string& packet :
       {std::string("\xff\xff\xff\xff garbage"), std::string(1, '\0'),
        std::string(60000, 'A'), std::string("\x08\x01", 2)}) {
    ShimRig rig;
    auto qemu = rig.Attach();
    rig.service().SendPacket(packet);
    ExpectLostAndReplaceable(rig, *qemu);
  }
}

// Events that are allowed cannot keep the shim from QEMU.
TEST(HostileServiceTest, FloodOfEventsDoesNotDelayQemu) {
  ShimRig rig;
  auto qemu = rig.Attach();
  std::atomic<bool> ended = false;
  std::thread flood([&] {
    while (!ended) {
      rig.service().Send([](Frame* frame) {
        frame->mutable_interrupt_fallback()->set_kind(MSIX);
        frame->mutable_interrupt_fallback()->set_vector(0xffffffff);
      });
    }
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_LT(MillisecondsOf([&] { qemu->Read(0, 0x100, 4); }), kPatienceMs);
  }
  ended = true;
  flood.join();
}

TEST(HostileServiceTest, RefusedRequestIsNoErrorForQemu) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.service().Mute(true);
  qemu->Send(Command::kDmaMap,
             VfioUserClient::Bytes(vfio_user::DmaMap{32, 3, 0, 0, 0x1000}),
             {rig.ram_memfd()});
  ASSERT_TRUE(rig.service().WaitFor(Frame::kMemoryMap, 1));
  const uint64_t sequence =
      rig.service().Frames(Frame::kMemoryMap)[0].sequence();
  rig.service().Send([sequence](Frame* frame) {
    frame->set_in_reply_to(sequence);
    frame->mutable_ack()->set_error(RESOURCE_EXHAUSTED);
    frame->mutable_ack()->set_message(std::string(50000, 'x'));
  });
  EXPECT_EQ(qemu->Receive().error(), 0u);  // an error would abort QEMU
}

TEST(HostileServiceTest, ServiceThatNeverSaysHelloIsGivenUpAndQemuRefused) {
  FakeService::Options options;
  options.says_hello = false;
  ShimRig rig(options);
  auto qemu = rig.Connect();
  VfioUserClient::Reply reply;
  EXPECT_LT(MillisecondsOf([&] { reply = qemu->Negotiate(); }), 1000);
  EXPECT_EQ(reply.error(), uint32_t{ENODEV});
  EXPECT_TRUE(rig.WaitForControl(Frame::kServiceLost));
}

struct BadDevice {
  const char* name;
  std::function<void(DeviceDescription*)> edit;
  bool has_doorbell = false;
  bool seals_shadow = true;
};

class BadDeviceTest : public testing::TestWithParam<BadDevice> {};

TEST_P(BadDeviceTest, IsRefused) {
  FakeService::Options options;
  options.describe = GetParam().edit;
  options.has_doorbell = GetParam().has_doorbell;
  options.seals_shadow = GetParam().seals_shadow;
  ShimRig rig(options);
  EXPECT_TRUE(rig.WaitForControl(Frame::kServiceLost));
  EXPECT_EQ(rig.Connect()->Negotiate().error(), uint32_t{ENODEV});
}

using Description = DeviceDescription;
INSTANTIATE_TEST_SUITE_P(
    Descriptions, BadDeviceTest,
    testing::Values(
        BadDevice{
            "RegionOutOfRange",
            [](Description* d) { d->mutable_regions(0)->set_index(1u << 31); }},
        BadDevice{"RegionTwice",
                  [](Description* d) { d->mutable_regions(0)->set_index(1); }},
        BadDevice{"RegionSizeNoPowerOfTwo",
                  [](Description* d) {
                    d->mutable_regions(0)->set_size_bytes(4097);
                  }},
        BadDevice{"RegionHuge",
                  [](Description* d) {
                    d->mutable_regions(0)->set_size_bytes(uint64_t{1} << 63);
                  }},
        BadDevice{"NoConfigurationSpace",
                  [](Description* d) { d->mutable_regions()->RemoveLast(); }},
        BadDevice{
            "OddConfigurationSpace",
            [](Description* d) { d->mutable_regions(3)->set_size_bytes(512); }},
        BadDevice{
            "ShadowPastTheRegion",
            [](Description* d) { d->mutable_shadows(0)->set_offset(4096); }},
        BadDevice{"ShadowPastTheMemfd",
                  [](Description* d) {
                    d->mutable_shadows(0)->set_shadow_offset(kShadowBytes - 64);
                  }},
        BadDevice{"ShadowWraps",
                  [](Description* d) {
                    d->mutable_shadows(0)->set_shadow_offset(~uint64_t{7});
                  }},
        BadDevice{
            "ShadowOfNoRegion",
            [](Description* d) { d->mutable_shadows(0)->set_region(99); }},
        BadDevice{"ShadowNotSealed", nullptr, false, false},
        BadDevice{"TooManyShadows",
                  [](Description* d) {
                    for (int i = 0; i < 100; ++i) {
                      *d->add_shadows() = d->shadows(0);
                    }
                  }},
        BadDevice{"TooManyVectors",
                  [](Description* d) { d->set_msix_vectors(2049); }},
        BadDevice{"NoSuchPin", [](Description* d) { d->set_intx_pin(5); }},
        BadDevice{
            "DoorbellNotPageAligned",
            [](Description* d) { d->mutable_doorbells(0)->set_offset(0x800); },
            true},
        BadDevice{"DoorbellPastItsMemfd",
                  [](Description* d) {
                    d->mutable_regions(2)->set_size_bytes(0x100000);
                    d->mutable_doorbells(0)->set_offset(0x10000);
                  },
                  true},
        BadDevice{"DoorbellWraps",
                  [](Description* d) {
                    d->mutable_doorbells(0)->set_offset(~uint64_t{0xfff});
                  },
                  true},
        BadDevice{
            "DoorbellInIoSpace",
            [](Description* d) { d->mutable_doorbells(0)->set_region(1); },
            true},
        BadDevice{"TwoDoorbellsInOneRegion",
                  [](Description* d) { *d->add_doorbells() = d->doorbells(0); },
                  true}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(HostileServiceTest, ReplacementThatIsAnotherDeviceIsRefused) {
  ShimRig rig;
  auto qemu = rig.Attach();
  rig.KillService();
  ASSERT_TRUE(rig.WaitForControl(Frame::kServiceLost));
  FakeService::Options options;
  options.describe = [](DeviceDescription* device) {
    device->mutable_regions(0)->set_size_bytes(8192);
  };
  rig.ReplaceService(options);
  EXPECT_TRUE(rig.WaitForControl(Frame::kServiceLost));
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0xffffffffu);
  rig.ReplaceService();
  ASSERT_TRUE(rig.service().WaitFor(Frame::kReset, 1));
  EXPECT_EQ(qemu->Read(0, 0x100, 4), 0u);
}

}  // namespace
}  // namespace bulkhead::proxy
