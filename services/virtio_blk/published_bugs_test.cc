// What drivers have broken other virtio devices with, tried on this one: each
// ends in an error status or in DEVICE_NEEDS_RESET, from which a reset
// recovers.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "services/virtio_blk/testing/rig.h"

namespace bulkhead::virtio_blk {
namespace {

using virtio::kStatusNeedsReset;

bool NeedsReset(Rig& rig) {
  return (rig.driver().status() & kStatusNeedsReset) != 0;
}

// After a failure nothing moves until the driver resets; then all is well.
void ExpectRecovery(Rig& rig) {
  EXPECT_TRUE(NeedsReset(rig));
  ASSERT_TRUE(rig.Boot());
  EXPECT_EQ(rig.Write(0, std::string(512, 'r')), kStatusOk);
  EXPECT_EQ(rig.Read(0, 512), std::string(512, 'r'));
}

// CVE-2011-2512: a notification of a queue that does not exist.
TEST(PublishedBugsTest, NotificationOfAQueueThatDoesNotExistIsIgnored) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  for (const uint64_t value : {1ull, 64ull, 0xffffull, 0xffffffffull}) {
    for (const uint64_t at : {0ull, 4ull, 0x100ull, 0xffcull}) {
      rig.device().WriteRegion(virtio::kStructuresBar, virtio::kNotifyAt + at,
                               4, value);
    }
  }
  rig.Run();
  EXPECT_FALSE(NeedsReset(rig));
  EXPECT_EQ(rig.Read(0, 512), std::string(512, '\0'));
}

// CVE-2016-5403: submitting without ever taking what is used.
TEST(PublishedBugsTest, SubmittingWithoutReapingEndsWithTheRing) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  uint32_t slot = 0;
  while (rig.Submit(0, slot, kTypeFlush, 0, {})) ++slot;
  rig.Run();
  EXPECT_EQ(slot, Rig::kQueueSize / 2u);
  // A driver that goes on regardless.
  const uint64_t index_at = rig.queue(0).driver() + virtio::kAvailIndex;
  const uint16_t far = static_cast<uint16_t>(slot + Rig::kQueueSize + 1);
  std::memcpy(rig.ram() + index_at, &far, sizeof far);
  rig.Run();
  ExpectRecovery(rig);
}

TEST(PublishedBugsTest, RingSizesOfZeroAndThreeNeedAReset) {
  for (const uint16_t size : {uint16_t{0}, uint16_t{3}}) {
    Rig rig;
    ASSERT_TRUE(rig.driver().Reset());
    ASSERT_TRUE(rig.driver().Negotiate(rig.WantedFeatures()));
    rig.driver().SelectQueue(0);
    rig.driver().WriteCommon(offsetof(virtio::CommonConfig, queue_size), 2,
                             size);
    rig.driver().WriteCommon(offsetof(virtio::CommonConfig, queue_enable), 2,
                             1);
    rig.driver().Start();
    rig.Run();
    ExpectRecovery(rig);
  }
}

TEST(PublishedBugsTest, RingsOutsideRamOrUnalignedNeedAReset) {
  for (const uint64_t at : {uint64_t{1} << 40, ~uint64_t{0} - 15,
                            uint64_t{0x10008}, uint64_t{0x3fffff0}}) {
    Rig rig;
    ASSERT_TRUE(rig.driver().Reset());
    ASSERT_TRUE(rig.driver().Negotiate(rig.WantedFeatures()));
    rig.driver().SelectQueue(0);
    for (const size_t field : {offsetof(virtio::CommonConfig, queue_desc),
                               offsetof(virtio::CommonConfig, queue_driver),
                               offsetof(virtio::CommonConfig, queue_device)}) {
      rig.driver().WriteCommon(field, 8, at);
    }
    rig.driver().WriteCommon(offsetof(virtio::CommonConfig, queue_enable), 2,
                             1);
    rig.driver().Start();
    rig.Run();
    ExpectRecovery(rig);
  }
}

TEST(PublishedBugsTest, ChainWithoutAPlaceForTheStatusNeedsAReset) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  const Buffer only_header[] = {{Rig::kHeaderAt, 16, false}};
  ASSERT_TRUE(rig.queue(0).Add(only_header, 0));
  rig.queue(0).Publish();
  rig.Run();
  ExpectRecovery(rig);
}

TEST(PublishedBugsTest, ShortHeaderIsAnError) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  const Buffer buffers[] = {{Rig::kHeaderAt, 15, false},
                            {Rig::kStatusAt, 1, true}};
  rig.ram()[Rig::kStatusAt] = Rig::kNoAnswer;
  ASSERT_TRUE(rig.queue(0).Add(buffers, 0));
  rig.queue(0).Publish();
  rig.Run();
  EXPECT_EQ(rig.StatusOf(0), kStatusIoError);
  EXPECT_FALSE(NeedsReset(rig));
}

// Data where there is no RAM, such as another device's BAR: an I/O error, and
// no access.
TEST(PublishedBugsTest, DataOutsideRamIsAnError) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  for (const uint64_t at :
       {uint64_t{0xfebf0000}, uint64_t{0x400000} - 100, ~uint64_t{0} - 100}) {
    EXPECT_EQ(rig.Do(kTypeIn, 0, {{at, 512, true}}), kStatusIoError);
    EXPECT_EQ(rig.Do(kTypeOut, 0, {{at, 512, false}}), kStatusIoError);
  }
  EXPECT_TRUE(rig.backend().log().empty());
  EXPECT_FALSE(NeedsReset(rig));
}

// CVE-2024-3446's shape: a request whose buffers are the rings themselves.
TEST(PublishedBugsTest, RequestThatOverwritesItsOwnRingHarmsOnlyTheDriver) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  ASSERT_EQ(rig.Write(0, std::string(4096, '\xff')), kStatusOk);
  rig.Do(kTypeIn, 0, {{rig.queue(0).descriptors(), 4096, true}});
  rig.Do(kTypeIn, 0, {{rig.queue(0).driver(), 512, true}});
  rig.Run();
  ASSERT_TRUE(rig.Boot());
  EXPECT_EQ(rig.Read(0, 512), std::string(512, '\xff'));
}

TEST(PublishedBugsTest, ResetWhileDmaIsUnderWayWaitsForIt) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  for (int round = 0; round < 20; ++round) {
    rig.backend().Hold();
    for (uint32_t i = 0; i < 16; ++i) {
      ASSERT_TRUE(
          rig.Submit(0, i, kTypeIn, 0, {{Rig::kDataAt + 512 * i, 512, true}}));
    }
    rig.Run();
    ASSERT_EQ(rig.backend().in_flight(), 16u);
    rig.driver().set_status(0);
    rig.backend().ReleaseAll();
    rig.Run();
    ASSERT_EQ(rig.driver().status(), 0);
    ASSERT_TRUE(rig.Boot());
  }
}

// A function reset, or RAM that goes away, drains as well.
TEST(PublishedBugsTest, NothingTouchesMemoryAfterQuiesce) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  rig.backend().CompleteInPoll();
  ASSERT_TRUE(rig.Submit(0, 0, kTypeIn, 0, {{Rig::kDataAt, 512, true}}));
  rig.device().Run(rig.context().Now());
  EXPECT_EQ(rig.backend().in_flight(), 1u);
  EXPECT_TRUE(rig.device().Quiesce().ok());
  EXPECT_EQ(rig.backend().in_flight(), 0u);
  rig.device().Resume();
  EXPECT_EQ(rig.StatusOf(0), kStatusOk);
}

TEST(PublishedBugsTest, DeviceWithoutBusMasteringLooksAtNoRing) {
  Rig rig;
  ASSERT_TRUE(rig.Boot());
  rig.device().WriteRegion(kConfigRegion, 4, 2, 2);  // memory only
  ASSERT_TRUE(rig.Submit(0, 0, kTypeFlush, 0, {}));
  rig.Run();
  EXPECT_EQ(rig.StatusOf(0), Rig::kNoAnswer);
  rig.device().WriteRegion(kConfigRegion, 4, 2, 6);
  rig.Run();
  EXPECT_EQ(rig.StatusOf(0), kStatusOk);
}

// Every register, every width, every value that means something, in any state.
TEST(PublishedBugsTest, RegistersTakeAnything) {
  Rig rig;
  uint64_t seed = 1;
  for (int i = 0; i < 200'000; ++i) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    const unsigned size = 1u << ((seed >> 33) % 4);
    const uint64_t offset =
        ((seed >> 40) % 4) * 0x1000 + ((seed >> 48) % 64) / size * size;
    const uint64_t value = (seed >> 20) % 5 == 0 ? seed : (seed >> 55) % 17;
    if ((seed & 3) == 0) {
      rig.device().ReadRegion(virtio::kStructuresBar, offset, size);
    } else {
      rig.device().WriteRegion(virtio::kStructuresBar, offset, size, value);
    }
    if ((seed & 0x70) == 0) rig.device().Run(rig.context().Now());
  }
  ASSERT_TRUE(rig.Boot());
  EXPECT_EQ(rig.Read(0, 512), std::string(512, '\0'));
}

}  // namespace
}  // namespace bulkhead::virtio_blk
