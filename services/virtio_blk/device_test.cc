#include "services/virtio_blk/device.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "services/virtio_blk/testing/rig.h"

namespace bulkhead::virtio_blk {
namespace {

using block::IoStatus;
using block::Operation;

class DeviceTest : public ::testing::TestWithParam<Rig::Setup> {
 protected:
  DeviceTest() : rig_(GetParam()) {}
  void SetUp() override { ASSERT_TRUE(rig_.Boot()); }

  static int Interrupts(Rig& rig) {
    return GetParam().msix ? rig.interrupts(1)
                           : rig.context().fake_interrupts().intx_edges();
  }
  // The driver answers an interrupt: it takes all that is done.
  void Answer(uint32_t requests) {
    if (!GetParam().msix) rig_.driver().TakeIsr();
    uint32_t slot;
    uint32_t written;
    for (; requests > 0; --requests) {
      ASSERT_TRUE(rig_.queue(0).Take(&slot, &written));
    }
    rig_.queue(0).EnableInterrupts();
  }
  void SubmitRead(uint32_t slot) {
    ASSERT_TRUE(rig_.Submit(0, slot, kTypeIn, 0, {{Rig::kDataAt, 512, true}}));
  }
  // One request at a time, until one's interrupt is held back.
  void RunUntilHeldBack() {
    for (int i = 0; i < 2'000; ++i) {
      const int before = Interrupts(rig_);
      SubmitRead(0);
      rig_.Run();
      if (Interrupts(rig_) == before) return;
      Answer(1);
      rig_.context().Advance(20'000);
    }
    FAIL() << "none was ever held back";
  }

  Rig rig_;
};

TEST_P(DeviceTest, WhatIsWrittenIsReadAndIsInTheBackend) {
  EXPECT_EQ(rig_.Write(8, std::string(4096, 'x')), kStatusOk);
  EXPECT_EQ(rig_.backend().bytes()[8 * 512], 'x');
  EXPECT_EQ(rig_.Read(8, 4096), std::string(4096, 'x'));
  EXPECT_EQ(rig_.Read(7, 1024), std::string(512, '\0') + std::string(512, 'x'));
}

TEST_P(DeviceTest, ManyRequestsGoRoundAndRound) {
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(
        rig_.Write(static_cast<uint64_t>(i), std::string(512, 'a' + i % 26)),
        kStatusOk);
    ASSERT_EQ(rig_.Read(static_cast<uint64_t>(i), 512),
              std::string(512, 'a' + i % 26));
  }
}

TEST_P(DeviceTest, ABatchOfRequestsIsOneInterrupt) {
  const uint32_t vector = 1;
  for (uint32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(
        rig_.Submit(0, i, kTypeIn, i, {{Rig::kDataAt + i * 512, 512, true}}));
  }
  rig_.Run();
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(rig_.StatusOf(i), kStatusOk);
  if (GetParam().msix) {
    EXPECT_EQ(rig_.interrupts(vector), 1);
  } else {
    EXPECT_EQ(rig_.context().fake_interrupts().intx_edges(), 1);
    EXPECT_EQ(rig_.driver().TakeIsr(), virtio::kIsrQueue);
    EXPECT_FALSE(rig_.context().fake_interrupts().intx_level());
    EXPECT_EQ(rig_.driver().TakeIsr(), 0);
  }
}

// §2.7.4: no framing is laid down. The header, the data and the status may lie
// in any number of buffers.
TEST_P(DeviceTest, HeaderAndStatusMayLieAnywhereInTheBuffers) {
  rig_.Write(3, std::string(512, 'z'));
  const RequestHeader header = {kTypeIn, 0u, uint64_t{3}};
  uint8_t* ram = rig_.ram();
  std::memcpy(ram + Rig::kHeaderAt, &header, 16);
  const Buffer buffers[] = {{Rig::kHeaderAt, 5, false},
                            {Rig::kHeaderAt + 5, 11, false},
                            {Rig::kDataAt, 100, true},
                            {Rig::kDataAt + 100, 413, true}};
  ASSERT_TRUE(rig_.queue(0).Add(buffers, 0));
  rig_.queue(0).Publish();
  rig_.Run();
  EXPECT_EQ(std::string(reinterpret_cast<char*>(ram + Rig::kDataAt), 512),
            std::string(512, 'z'));
  EXPECT_EQ(ram[Rig::kDataAt + 512], kStatusOk);
}

TEST_P(DeviceTest, RequestsBeyondTheEndAreErrorsAndTouchNothing) {
  const uint64_t sectors = GetParam().capacity_bytes / 512;
  const std::string error = "status 1";
  EXPECT_EQ(rig_.Read(sectors, 512), error);
  EXPECT_EQ(rig_.Read(sectors - 1, 1024), error);
  EXPECT_EQ(rig_.Read(~uint64_t{0}, 512), error);
  EXPECT_EQ(rig_.Read(uint64_t{1} << 55, 512), error);
  EXPECT_EQ(rig_.Read(0, 100), error) << "no multiple of a sector";
  EXPECT_EQ(rig_.ram()[Rig::kDataAt], 0xaa);
  EXPECT_EQ(rig_.Write(sectors - 1, std::string(1024, 'x')), kStatusIoError);
  EXPECT_EQ(rig_.backend().Count(Operation::kWrite), 0u);
}

TEST_P(DeviceTest, BackendsErrorsAreTheDriversErrors) {
  rig_.backend().FailAt(Operation::kRead, 4096, IoStatus::kIoError);
  EXPECT_EQ(rig_.Read(8, 512), "status 1");
  EXPECT_EQ(rig_.Read(9, 512), std::string(512, '\0'));
}

TEST_P(DeviceTest, FlushGetIdAndUnknownTypes) {
  EXPECT_EQ(rig_.Do(kTypeFlush, 0, {}), kStatusOk);
  EXPECT_EQ(rig_.backend().Count(Operation::kFlush), 1u);
  EXPECT_EQ(rig_.Do(kTypeGetId, 0, {{Rig::kDataAt, kIdBytes, true}}),
            kStatusOk);
  EXPECT_STREQ(reinterpret_cast<char*>(rig_.ram() + Rig::kDataAt), "BH-0001");
  EXPECT_EQ(rig_.Do(kTypeGetId, 0, {{Rig::kDataAt, 4, true}}), kStatusIoError);
  for (const uint32_t type :
       {2u, 5u, kTypeGetLifetime, kTypeSecureErase, 99u, 0xffffffffu}) {
    EXPECT_EQ(rig_.Do(type, 0, {}), kStatusUnsupported) << type;
  }
}

TEST_P(DeviceTest, DiscardAndWriteZeroesServeAllTheirRanges) {
  rig_.Write(0, std::string(8192, 'x'));
  EXPECT_EQ(rig_.DoRanges(kTypeWriteZeroes,
                          {{uint64_t{0}, 2u, 0u}, {uint64_t{4}, 1u, 1u}}),
            kStatusOk);
  EXPECT_EQ(rig_.Read(0, 1024), std::string(1024, '\0'));
  EXPECT_EQ(rig_.Read(2, 1024), std::string(1024, 'x'));
  EXPECT_EQ(rig_.Read(4, 512), std::string(512, '\0'));
  rig_.backend().ClearLog();
  EXPECT_EQ(rig_.DoRanges(kTypeDiscard,
                          {{uint64_t{8}, 8u, 0u}, {uint64_t{16}, 8u, 0u}}),
            kStatusOk);
  ASSERT_EQ(rig_.backend().log().size(), 2u);
  EXPECT_EQ(rig_.backend().log()[1].offset_bytes, 16u * 512);
}

// §5.2.6.2: flags that must be zero are UNSUPP; all else that is wrong, IOERR.
TEST_P(DeviceTest, BadRangesAreRefusedBeforeAnythingIsDone) {
  EXPECT_EQ(rig_.DoRanges(kTypeDiscard, {{uint64_t{0}, 8u, kRangeUnmap}}),
            kStatusUnsupported);
  EXPECT_EQ(rig_.DoRanges(kTypeWriteZeroes, {{uint64_t{0}, 8u, 2u}}),
            kStatusUnsupported);
  EXPECT_EQ(rig_.Do(kTypeDiscard, 0, {}), kStatusIoError);
  EXPECT_EQ(
      rig_.DoRanges(kTypeDiscard,
                    std::vector<Range>(kMaxRanges + 1, {uint64_t{0}, 8u, 0u})),
      kStatusIoError);
  EXPECT_EQ(rig_.DoRanges(kTypeDiscard,
                          {{uint64_t{0}, 8u, 0u}, {~uint64_t{0}, 8u, 0u}}),
            kStatusIoError);
  EXPECT_EQ(rig_.DoRanges(kTypeDiscard, {{uint64_t{0}, 0xffffffffu, 0u}}),
            kStatusIoError);
  EXPECT_EQ(rig_.Do(kTypeDiscard, 0, {{Rig::kDataAt, 15, false}}),
            kStatusIoError);
  EXPECT_TRUE(rig_.backend().log().empty());
}

TEST_P(DeviceTest, QueuesHaveInterruptsOfTheirOwn) {
  Rig::Setup setup = GetParam();
  setup.device.queues = 3;
  Rig rig(setup);
  ASSERT_TRUE(rig.Boot());
  EXPECT_EQ(rig.driver().ReadDevice(offsetof(Config, num_queues), 2), 3u);
  ASSERT_TRUE(rig.Submit(2, 5, kTypeIn, 0, {{Rig::kDataAt, 512, true}}));
  rig.Run();
  EXPECT_EQ(rig.StatusOf(5), kStatusOk);
  if (setup.msix) {
    EXPECT_EQ(rig.interrupts(1), 0);
    EXPECT_EQ(rig.interrupts(3), 1);
  }
}

// §2.4.2, §3.3.1: the reset is done when nothing of before can touch memory.
TEST_P(DeviceTest, ResetUnderLoadWaitsForWhatIsInFlight) {
  rig_.backend().Hold();
  ASSERT_TRUE(rig_.Submit(0, 0, kTypeIn, 0, {{Rig::kDataAt, 512, true}}));
  rig_.Run();
  EXPECT_EQ(rig_.backend().in_flight(), 1u);
  rig_.driver().set_status(0);
  EXPECT_NE(rig_.driver().status(), 0);
  rig_.Run();
  EXPECT_NE(rig_.driver().status(), 0);
  rig_.backend().ReleaseAll();
  rig_.Run();
  EXPECT_EQ(rig_.driver().status(), 0);
  EXPECT_EQ(rig_.StatusOf(0), Rig::kNoAnswer) << "nothing was given back";
  ASSERT_TRUE(rig_.Boot());
  EXPECT_EQ(rig_.Write(0, std::string(512, 'y')), kStatusOk);
}

// §2.6.1: one queue is reset, the others go on.
TEST_P(DeviceTest, RingResetTakesOneQueueBackAlone) {
  Rig::Setup setup = GetParam();
  setup.device.queues = 2;
  Rig rig(setup);
  ASSERT_TRUE(rig.Boot());
  rig.backend().Hold();
  ASSERT_TRUE(rig.Submit(1, 1, kTypeIn, 0, {{Rig::kDataAt, 512, true}}));
  rig.Run();
  const size_t queue_reset = offsetof(virtio::CommonConfig, queue_reset);
  rig.driver().SelectQueue(1);
  rig.driver().WriteCommon(queue_reset, 2, 1);
  EXPECT_EQ(rig.driver().ReadCommon(queue_reset, 2), 1u);
  rig.backend().ReleaseAll();
  rig.Run();
  EXPECT_EQ(rig.driver().ReadCommon(queue_reset, 2), 0u);
  EXPECT_EQ(
      rig.driver().ReadCommon(offsetof(virtio::CommonConfig, queue_enable), 2),
      0u);
  EXPECT_EQ(rig.Write(0, std::string(512, 'y')), kStatusOk);
  // And it comes back.
  virtio::DriverQueue again({.ram = rig.ram(),
                             .at = Rig::kRingAt + Rig::kRingStride,
                             .size = 32,
                             .packed = setup.packed,
                             .event_index = setup.event_index,
                             .indirect = setup.indirect});
  rig.driver().SetUpQueue(1, again, 2);
  const RequestHeader header = {kTypeFlush, 0u, uint64_t{0}};
  std::memcpy(rig.ram() + Rig::kHeaderAt, &header, 16);
  const Buffer buffers[] = {{Rig::kHeaderAt, 16, false},
                            {Rig::kStatusAt, 1, true}};
  ASSERT_TRUE(again.Add(buffers, 9));
  again.Publish();
  rig.Run();
  EXPECT_TRUE(again.HasUsed());
}

TEST_P(DeviceTest, GrownBackendIsToldWithAConfigurationInterrupt) {
  rig_.driver().WriteCommon(offsetof(virtio::CommonConfig, config_msix_vector),
                            2, 0);
  const uint64_t before = rig_.driver().ReadCommon(
      offsetof(virtio::CommonConfig, config_generation), 1);
  rig_.backend().mutable_geometry().capacity_bytes *= 2;
  rig_.Run();
  EXPECT_EQ(rig_.driver().ReadDevice(offsetof(Config, capacity), 8),
            2 * GetParam().capacity_bytes / 512);
  EXPECT_NE(rig_.driver().ReadCommon(
                offsetof(virtio::CommonConfig, config_generation), 1),
            before);
  if (GetParam().msix) {
    EXPECT_EQ(rig_.interrupts(0), 1);
  } else {
    EXPECT_EQ(rig_.driver().TakeIsr(), virtio::kIsrConfig);
  }
}

TEST_P(DeviceTest, SavedDeviceGoesOnInAnother) {
  ASSERT_EQ(rig_.Write(0, std::string(512, 'x')), kStatusOk);
  EXPECT_TRUE(rig_.device().Quiesce().ok());
  const absl::Span<const std::byte> state = rig_.device().State();
  const std::vector<std::byte> copy(state.begin(), state.end());
  rig_.device().Resume();
  ASSERT_EQ(rig_.Write(1, std::string(512, 'y')), kStatusOk);
  // The same device takes its older self: only a state that makes sense.
  EXPECT_FALSE(rig_.device().LoadState(
      absl::MakeConstSpan(copy).subspan(0, copy.size() - 1)));
  Rig other(GetParam());
  EXPECT_TRUE(other.device().LoadState(copy));
  EXPECT_EQ(other.driver().status(), rig_.driver().status());
  EXPECT_EQ(other.driver().ReadCommon(
                offsetof(virtio::CommonConfig, queue_enable), 2),
            1u);
}

// A driver that submits for as long as it is not interrupted, 16 at most, and
// then takes all that is done. Each is done as soon as it is there.
TEST_P(DeviceTest, ADriverThatGoesOnSubmittingIsToldOfManyAtOnce) {
  uint32_t requests = 0;
  uint32_t untaken = 0;
  int seen = 0;
  for (int step = 0; step < 10'000; ++step) {
    if (untaken < 16) {
      SubmitRead(untaken++);
      ++requests;
    }
    rig_.context().Advance(10'000);
    rig_.Run();
    if (Interrupts(rig_) == seen) continue;
    seen = Interrupts(rig_);
    Answer(untaken);
    untaken = 0;
  }
  EXPECT_GT(requests, 5'000u);
  EXPECT_LT(static_cast<uint32_t>(seen), requests / 8);
}

TEST_P(DeviceTest, WhatIsHeldBackIsToldBeforeTheDeviceRests) {
  RunUntilHeldBack();
  const int before = Interrupts(rig_);
  ASSERT_TRUE(rig_.device().Quiesce().ok());
  EXPECT_EQ(Interrupts(rig_), before + 1);
}

// As after a crash: the state of a device that has not come to rest.
TEST_P(DeviceTest, WhatIsHeldBackIsToldByWhoTakesTheStateUp) {
  RunUntilHeldBack();
  const absl::Span<const std::byte> state = rig_.device().State();
  Rig other(GetParam());
  std::memcpy(other.ram(), rig_.ram(), GetParam().ram_mib << 20);
  ASSERT_TRUE(other.device().LoadState(state));
  for (int i = 0; i < 400; ++i) {
    other.Run();
    other.context().Advance(1'000);
  }
  EXPECT_EQ(Interrupts(other), 1);
}

INSTANTIATE_TEST_SUITE_P(
    , DeviceTest,
    ::testing::Values(Rig::Setup{}, Rig::Setup{.indirect = true, .msix = false},
                      Rig::Setup{.event_index = false},
                      Rig::Setup{.packed = true},
                      Rig::Setup{.packed = true, .indirect = true},
                      Rig::Setup{
                          .packed = true,
                          .event_index = false,
                          .device = {.in_order = true, .serial = "BH-0001"}}),
    [](const auto& info) {
      const Rig::Setup& setup = info.param;
      return std::string(setup.packed ? "Packed" : "Split") +
             (setup.indirect ? "Indirect" : "Direct") +
             (setup.event_index ? "Event" : "Flags") +
             (setup.msix ? "Msix" : "Intx");
    });

// ---- features and registers

TEST(FeaturesTest, NothingBeyondTheOfferIsAccepted) {
  Rig rig;
  ASSERT_TRUE(rig.driver().Reset());
  const uint64_t offered = rig.driver().DeviceFeatures();
  EXPECT_FALSE(rig.driver().Negotiate(offered | virtio::Feature(63)));
  ASSERT_TRUE(rig.driver().Reset());
  EXPECT_FALSE(rig.driver().Negotiate(offered & ~virtio::kFeatureVersion1));
  // §3.1.1: no FEATURES_OK, no DRIVER_OK.
  rig.driver().Start();
  EXPECT_EQ(rig.driver().status() & virtio::kStatusDriverOk, 0);
  ASSERT_TRUE(rig.driver().Reset());
  EXPECT_TRUE(rig.driver().Negotiate(offered));
}

TEST(FeaturesTest, ReadOnlyDiskOffersNoDiscardAndRefusesWrites) {
  Rig rig(Rig::Setup{.read_only = true});
  ASSERT_TRUE(rig.Boot());
  const uint64_t offered = rig.driver().DeviceFeatures();
  EXPECT_NE(offered & kFeatureReadOnly, 0u);
  EXPECT_EQ(offered & (kFeatureDiscard | kFeatureWriteZeroes), 0u);
  EXPECT_EQ(rig.Write(0, std::string(512, 'x')), kStatusIoError);
  EXPECT_EQ(rig.DoRanges(kTypeDiscard, {{uint64_t{0}, 8u, 0u}}),
            kStatusUnsupported);
  EXPECT_EQ(rig.Read(0, 512), std::string(512, '\0'));
}

// §5.2.5.2: who can neither flush nor switch the cache gets write-through.
TEST(FeaturesTest, WriteCacheFollowsWhatTheDriverCanDo) {
  Rig old(Rig::Setup{.without_features = kFeatureFlush | kFeatureConfigWce});
  ASSERT_TRUE(old.Boot());
  EXPECT_FALSE(old.backend().write_cache());

  Rig rig;
  ASSERT_TRUE(rig.Boot());
  EXPECT_TRUE(rig.backend().write_cache());
  rig.driver().WriteDevice(offsetof(Config, writeback), 1, 0);
  EXPECT_FALSE(rig.backend().write_cache());
  EXPECT_EQ(rig.driver().ReadDevice(offsetof(Config, writeback), 1), 0u);
  rig.driver().WriteDevice(offsetof(Config, capacity), 8, 1);
  EXPECT_EQ(rig.driver().ReadDevice(offsetof(Config, capacity), 8), 2048u);
  ASSERT_TRUE(rig.driver().Reset());
  EXPECT_TRUE(rig.backend().write_cache());
}

TEST(FeaturesTest, LargeBlocksAreEnforced) {
  Rig rig(Rig::Setup{.device = {.block_size_bytes = 4096}});
  ASSERT_TRUE(rig.Boot());
  EXPECT_EQ(rig.driver().ReadDevice(offsetof(Config, blk_size), 4), 4096u);
  EXPECT_EQ(rig.Read(0, 512), "status 1");
  EXPECT_EQ(rig.Read(1, 4096), "status 1");
  EXPECT_EQ(rig.Read(8, 4096), std::string(4096, '\0'));
}

// §4.1.4.9: every structure can be reached through configuration space.
// §5.2.6: descriptors may overlap, so that a small guest asks for any size.
// What is more than seg_max segments of size_max is an error of the request
// alone.
TEST(BoundsTest, MoreDataThanEverAdvertisedIsAnErrorAndNeverReachesTheDisk) {
  constexpr uint32_t kMib = 1 << 20;
  Rig rig({.capacity_bytes = uint64_t{2} << 30, .ram_mib = 32});
  ASSERT_TRUE(rig.Boot());
  // Written from all of RAM, again and again: 32 * 32 MiB.
  std::vector<Buffer> data(32, {0, 32 * kMib, false});
  EXPECT_EQ(rig.Do(kTypeOut, 0, data), kStatusOk);
  ASSERT_EQ(rig.backend().log().size(), 1u);
  EXPECT_EQ(rig.backend().log()[0].length_bytes, 1u << 30);

  data.push_back({0, kSectorBytes, false});
  EXPECT_EQ(rig.Do(kTypeOut, 0, data), kStatusIoError);
  const std::vector<Buffer> room(52, {10 * kMib, 20 * kMib, true});
  EXPECT_EQ(rig.Do(kTypeIn, 0, room), kStatusIoError);
  EXPECT_EQ(rig.backend().log().size(), 1u);
  EXPECT_EQ(rig.Read(0, 512).size(), 512u);  // and it goes on
}

TEST(RegistersTest, WindowInConfigurationSpaceReachesTheStructures) {
  Rig rig;
  const uint16_t cap = rig.driver().Capability(virtio::kCapPciAccess);
  ASSERT_NE(cap, 0);
  const auto write = [&](uint16_t at, unsigned size, uint64_t value) {
    rig.device().WriteRegion(kConfigRegion, cap + at, size, value);
  };
  const auto window = [&](uint64_t bar, uint64_t offset, uint64_t size) {
    write(virtio::kCapBar, 1, bar);
    write(virtio::kCapOffset, 4, offset);
    write(virtio::kCapSize, 4, size);
  };
  window(virtio::kStructuresBar, virtio::kDeviceAt, 4);
  EXPECT_EQ(
      rig.device().ReadRegion(kConfigRegion, cap + virtio::kPciCapData, 4),
      2048u);
  window(virtio::kStructuresBar,
         virtio::kCommonAt + offsetof(virtio::CommonConfig, device_status), 1);
  write(virtio::kPciCapData, 1, virtio::kStatusAcknowledge);
  EXPECT_EQ(rig.driver().status(), virtio::kStatusAcknowledge);
  // Windows that lead nowhere.
  for (const auto& [bar, offset, size] :
       {std::array<uint64_t, 3>{0, 0, 4},
        {virtio::kStructuresBar, 0x4000, 4},
        {virtio::kStructuresBar, 0xfffffffc, 4},
        {virtio::kStructuresBar, 0, 3},
        {virtio::kStructuresBar, 0, 0xffffffff},
        {virtio::kStructuresBar, 1, 4}}) {
    window(bar, offset, size);
    write(virtio::kPciCapData, 4, 0);
    rig.device().ReadRegion(kConfigRegion, cap + virtio::kPciCapData, 4);
  }
  EXPECT_EQ(rig.driver().status(), virtio::kStatusAcknowledge);
}

TEST(RegistersTest, QueueThatDoesNotExistReadsAsNothing) {
  Rig rig;
  rig.driver().SelectQueue(7);
  EXPECT_EQ(
      rig.driver().ReadCommon(offsetof(virtio::CommonConfig, queue_size), 2),
      0u);
  rig.driver().WriteCommon(offsetof(virtio::CommonConfig, queue_enable), 2, 1);
  rig.driver().WriteCommon(offsetof(virtio::CommonConfig, queue_desc), 4, 1);
  EXPECT_EQ(rig.driver().status(), 0);
}

// While the loop polls, the driver needs no notification; before the loop
// sleeps, the device asks for one.
TEST(PollingTest, DriverIsAskedToNotifyOnlyBeforeTheLoopSleeps) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  ASSERT_EQ(rig.Read(0, 512), std::string(512, '\0'));
  const Buffer buffers[] = {{Rig::kHeaderAt, 16, false},
                            {Rig::kDataAt, 512, true},
                            {Rig::kStatusAt, 1, true}};
  ASSERT_TRUE(rig.queue(0).Add(buffers, 1));
  EXPECT_FALSE(rig.queue(0).Publish());
  EXPECT_TRUE(rig.device().PrepareToSleep()) << "work is there already";
  Turn turn = rig.device().Run(rig.context().Now());
  EXPECT_TRUE(turn.poll);
  EXPECT_TRUE(turn.worked);
  EXPECT_FALSE(rig.device().PrepareToSleep());
  ASSERT_TRUE(rig.queue(0).Add(buffers, 2));
  EXPECT_TRUE(rig.queue(0).Publish());
}

}  // namespace
}  // namespace bulkhead::virtio_blk
