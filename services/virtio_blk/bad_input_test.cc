// What a hostile driver can put into registers and rings, given to the real
// program under its real filters: it answers as the specification says or needs
// a reset, and after that reset all is well.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "services/virtio/transport.h"
#include "services/virtio_blk/testing/live_device.h"

namespace bulkhead::virtio_blk {
namespace {

using virtio::Buffer;
using virtio::kDescIndirect;
using virtio::kDescNext;
using virtio::kDescWrite;

constexpr uint64_t kTable = 0x180000;  // for indirect descriptors
constexpr uint64_t kHoleAt = uint64_t{1} << 40;

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

class BadInputTest : public ::testing::Test {
 protected:
  ~BadInputTest() override {
    EXPECT_EQ(live_.rig().Finish(), 0) << "the service ends as it should";
  }

  void WriteDescriptor(uint64_t table, unsigned index, const Descriptor& d) {
    const virtio::SplitDescriptor entry = {d.address, d.length, d.flags,
                                           d.next};
    std::memcpy(live_.ram() + table + index * sizeof entry, &entry,
                sizeof entry);
  }
  // Puts a chain's head into the available ring and notifies.
  void Offer(uint16_t head) {
    const uint64_t ring = live_.queue().driver();
    uint16_t index = ReadIndex();
    std::memcpy(live_.ram() + ring + virtio::kAvailRing +
                    2 * (index % LiveDevice::kQueueSize),
                &head, sizeof head);
    SetIndex(static_cast<uint16_t>(index + 1));
  }
  uint16_t ReadIndex() {
    uint16_t index;
    std::memcpy(&index,
                live_.ram() + live_.queue().driver() + virtio::kAvailIndex,
                sizeof index);
    return index;
  }
  void SetIndex(uint16_t index) {
    auto* at = reinterpret_cast<uint16_t*>(
        live_.ram() + live_.queue().driver() + virtio::kAvailIndex);
    __atomic_store_n(at, index, __ATOMIC_RELEASE);
    live_.driver().Notify(0);
  }
  uint8_t Answer() {
    for (int i = 0; i < 1000; ++i) {
      const uint8_t status = __atomic_load_n(
          live_.ram() + LiveDevice::kStatusAt, __ATOMIC_ACQUIRE);
      if (status != LiveDevice::kNoAnswer) return status;
      usleep(1000);
    }
    return LiveDevice::kNoAnswer;
  }
  void WriteHeader(uint32_t type, uint64_t sector) {
    const RequestHeader header = {type, 0u, sector};
    std::memcpy(live_.ram() + LiveDevice::kHeaderAt, &header, sizeof header);
    live_.ram()[LiveDevice::kStatusAt] = LiveDevice::kNoAnswer;
  }

  void ExpectHealthyAfterReset() {
    EXPECT_TRUE(live_.NeedsReset());
    ASSERT_TRUE(live_.Boot());
    EXPECT_EQ(live_.Do(kTypeIn, 0, 4096), kStatusOk);
  }

  // Queue 0 with areas and a size of the test's choice.
  void SetUpQueue(bool packed, uint16_t size, uint64_t descriptors,
                  uint64_t driver, uint64_t device) {
    ASSERT_TRUE(live_.Negotiate(packed));
    virtio::PciDriver& at = live_.driver();
    at.SelectQueue(0);
    at.WriteCommon(offsetof(virtio::CommonConfig, queue_size), 2, size);
    at.WriteCommon(offsetof(virtio::CommonConfig, queue_desc), 8, descriptors);
    at.WriteCommon(offsetof(virtio::CommonConfig, queue_driver), 8, driver);
    at.WriteCommon(offsetof(virtio::CommonConfig, queue_device), 8, device);
    at.WriteCommon(offsetof(virtio::CommonConfig, queue_enable), 2, 1);
    at.Start();
    at.Notify(0);
  }

  LiveDevice live_;
};

// CVE-2011-2512.
TEST_F(BadInputTest, NotificationOfAQueueThatDoesNotExistIsIgnored) {
  ASSERT_TRUE(live_.Boot());
  for (const uint64_t value : {1ull, 64ull, 0xffffull, 0xffffffffull}) {
    for (const uint64_t at : {0ull, 4ull, 0x100ull, 0xffcull}) {
      live_.rig().Write(virtio::kStructuresBar, virtio::kNotifyAt + at, 4,
                        value);
    }
  }
  EXPECT_EQ(live_.Do(kTypeIn, 0, 4096), kStatusOk);
  EXPECT_GE(live_.rig().Statistics()["virtio_bad_notifications"], 15u);
}

// CVE-2016-5403.
TEST_F(BadInputTest, SubmittingWithoutReapingEndsWithTheRing) {
  ASSERT_TRUE(live_.Boot());
  WriteHeader(kTypeIn, 0);
  const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                            {LiveDevice::kDataAt, 4096, true},
                            {LiveDevice::kStatusAt, 1, true}};
  unsigned added = 0;
  while (live_.queue().Add(buffers, 1)) ++added;
  EXPECT_EQ(added, LiveDevice::kQueueSize / 3u);
  live_.queue().Publish();
  live_.driver().Notify(0);
  EXPECT_EQ(Answer(), kStatusOk);
  // On and on, as if what is used were free: a whole ring more than there is.
  SetIndex(static_cast<uint16_t>(added + LiveDevice::kQueueSize + 1));
  ExpectHealthyAfterReset();
  EXPECT_LE(live_.rig().Statistics()["virtio_chains"], added + 2u);
}

TEST_F(BadInputTest, IndexThatRunsBackwardsNeedsAReset) {
  ASSERT_TRUE(live_.Boot());
  for (int i = 0; i < 3; ++i) ASSERT_EQ(live_.Do(kTypeIn, 0, 512), kStatusOk);
  SetIndex(static_cast<uint16_t>(ReadIndex() - 1));
  ExpectHealthyAfterReset();
}

TEST_F(BadInputTest, HeadsAndLinksOutsideTheTableNeedAReset) {
  for (const uint16_t bad :
       {uint16_t{LiveDevice::kQueueSize}, uint16_t{0x7fff}, uint16_t{0xffff}}) {
    ASSERT_TRUE(live_.Boot());
    Offer(bad);
    ExpectHealthyAfterReset();

    WriteDescriptor(live_.queue().descriptors(), 0,
                    {LiveDevice::kHeaderAt, 16, kDescNext, bad});
    Offer(0);
    ExpectHealthyAfterReset();
  }
}

TEST_F(BadInputTest, LoopsInChainsNeedAReset) {
  ASSERT_TRUE(live_.Boot());
  const uint64_t table = live_.queue().descriptors();
  // To itself.
  WriteDescriptor(table, 0, {LiveDevice::kDataAt, 512, kDescNext, 0});
  Offer(0);
  ExpectHealthyAfterReset();
  // Two that lead to each other.
  const uint16_t writable = kDescNext | kDescWrite;
  WriteDescriptor(table, 0, {LiveDevice::kHeaderAt, 16, kDescNext, 1});
  WriteDescriptor(table, 1, {LiveDevice::kDataAt, 512, writable, 2});
  WriteDescriptor(table, 2, {LiveDevice::kDataAt, 512, writable, 1});
  Offer(0);
  ExpectHealthyAfterReset();
  // The whole table, and back to its start.
  for (uint16_t i = 0; i < LiveDevice::kQueueSize; ++i) {
    WriteDescriptor(table, i,
                    {LiveDevice::kDataAt, 512, writable,
                     static_cast<uint16_t>((i + 1) % LiveDevice::kQueueSize)});
  }
  Offer(5);
  ExpectHealthyAfterReset();
}

// §2.7.5.3.1. The driver of this test agrees to indirect descriptors in this
// case alone.
TEST_F(BadInputTest, BadIndirectTablesNeedAReset) {
  const struct {
    Descriptor outer;
    std::vector<Descriptor> inner;
  } cases[] = {
      // A loop in the table.
      {{kTable, 32, kDescIndirect, 0},
       {{LiveDevice::kDataAt, 512, kDescNext, 1},
        {LiveDevice::kDataAt, 512, kDescNext, 0}}},
      // A table in a table: itself.
      {{kTable, 16, kDescIndirect, 0}, {{kTable, 16, kDescIndirect, 0}}},
      // Part of a descriptor; none.
      {{kTable, 24, kDescIndirect, 0}, {}},
      {{kTable, 0, kDescIndirect, 0}, {}},
      // Together with a chain.
      {{kTable, 16, kDescIndirect | kDescNext, 1},
       {{LiveDevice::kHeaderAt, 16, 0, 0}}},
      // A link out of the table; a table outside RAM; one as large as can be.
      {{kTable, 16, kDescIndirect, 0},
       {{LiveDevice::kHeaderAt, 16, kDescNext, 9}}},
      {{kHoleAt, 32, kDescIndirect, 0}, {}},
      {{kTable, 0xfffffff0, kDescIndirect, 0},
       {{LiveDevice::kDataAt, 512, kDescNext, 0}}},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    SCOPED_TRACE(i);
    ASSERT_TRUE(live_.Boot());
    ASSERT_TRUE(live_.driver().Reset());
    ASSERT_TRUE(live_.driver().Negotiate(live_.driver().DeviceFeatures() &
                                         ~virtio::kFeaturePacked));
    live_.driver().SetUpQueue(0, live_.queue(), 1);
    live_.driver().Start();
    std::memset(live_.ram() + LiveDevice::kRingAt, 0, 0x4000);
    for (unsigned n = 0; n < cases[i].inner.size(); ++n) {
      WriteDescriptor(kTable, n, cases[i].inner[n]);
    }
    WriteDescriptor(live_.queue().descriptors(), 0, cases[i].outer);
    Offer(0);
    ExpectHealthyAfterReset();
  }
}

// §2.7.1: a power of two; §4.1.4.3: zero is no queue.
TEST_F(BadInputTest, SplitRingsOfSizeZeroAndThreeNeedAReset) {
  for (const uint16_t size : {0, 3}) {
    SetUpQueue(false, size, 0x10000, 0x12000, 0x13000);
    ExpectHealthyAfterReset();
  }
}

// §2.8.10.1: a packed ring may have any size, only not zero.
TEST_F(BadInputTest, PackedRingOfSizeThreeWorksAndOfZeroNeedsAReset) {
  SetUpQueue(true, 0, 0x10000, 0x12000, 0x13000);
  ExpectHealthyAfterReset();

  ASSERT_TRUE(live_.Negotiate(true));
  virtio::DriverQueue queue({.ram = live_.ram(),
                             .at = LiveDevice::kRingAt,
                             .size = 3,
                             .packed = true,
                             .event_index = true});
  live_.driver().SetUpQueue(0, queue, 1);
  live_.driver().Start();
  for (int i = 0; i < 10; ++i) {
    WriteHeader(kTypeIn, 0);
    const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                              {LiveDevice::kDataAt, 512, true},
                              {LiveDevice::kStatusAt, 1, true}};
    ASSERT_TRUE(queue.Add(buffers, 1));
    if (queue.Publish()) live_.driver().Notify(0);
    EXPECT_EQ(Answer(), kStatusOk) << i;
    uint32_t token;
    uint32_t written;
    while (!queue.Take(&token, &written)) usleep(100);
  }
}

TEST_F(BadInputTest, UnalignedRingsAndRingsOutsideRamNeedAReset) {
  const uint64_t end = 16 << 20;  // of RAM
  for (const bool packed : {false, true}) {
    for (const uint64_t bad : {uint64_t{0x10001}, uint64_t{0x10008} + 3, end,
                               end - 16, kHoleAt, ~uint64_t{0} - 15}) {
      SCOPED_TRACE(bad);
      SetUpQueue(packed, 128, bad, 0x12000, 0x13000);
      ExpectHealthyAfterReset();
      // The other areas of a packed ring are four bytes long.
      if (packed && bad == end - 16) continue;
      SetUpQueue(packed, 128, 0x10000, bad, 0x13000);
      ExpectHealthyAfterReset();
      SetUpQueue(packed, 128, 0x10000, 0x12000, bad);
      ExpectHealthyAfterReset();
    }
  }
}

TEST_F(BadInputTest, DataOutsideRamIsAnErrorOfTheRequestAlone) {
  ASSERT_TRUE(live_.Boot());
  // The device's own registers, by whatever address: no memory either.
  live_.rig().Write(kConfigRegion, 0x20, 4, 0xfebf0000);
  for (const uint64_t at : {uint64_t{0xfebf0000}, uint64_t{16 << 20} - 256,
                            kHoleAt, ~uint64_t{0} - 100}) {
    for (const uint32_t type : {kTypeIn, kTypeOut}) {
      WriteHeader(type, 0);
      const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                                {at, 512, type == kTypeIn},
                                {LiveDevice::kStatusAt, 1, true}};
      ASSERT_TRUE(live_.queue().Add(buffers, 1));
      live_.queue().Publish();
      live_.driver().Notify(0);
      EXPECT_EQ(Answer(), kStatusIoError) << at;
      uint32_t token;
      uint32_t written;
      while (!live_.queue().Take(&token, &written)) usleep(100);
    }
  }
  EXPECT_EQ(live_.Do(kTypeIn, 0, 4096), kStatusOk);
}

TEST_F(BadInputTest, ChainsWithoutAPlaceForTheStatusNeedAReset) {
  const std::vector<Buffer> chains[] = {
      {{LiveDevice::kHeaderAt, 16, false}},
      {{LiveDevice::kHeaderAt, 16, false}, {kHoleAt, 1, true}},
      {{LiveDevice::kHeaderAt, 16, false}, {LiveDevice::kStatusAt, 0, true}}};
  for (const std::vector<Buffer>& chain : chains) {
    ASSERT_TRUE(live_.Boot());
    WriteHeader(kTypeFlush, 0);
    ASSERT_TRUE(live_.queue().Add(chain, 1));
    live_.queue().Publish();
    live_.driver().Notify(0);
    ExpectHealthyAfterReset();
  }
}

// CVE-2024-3446's shape: the data of a request are the rings it stands in.
TEST_F(BadInputTest, RequestThatOverwritesItsOwnRingHarmsOnlyTheDriver) {
  ASSERT_TRUE(live_.Boot());
  std::memset(live_.ram() + LiveDevice::kDataAt, 0xff, 4096);
  ASSERT_EQ(live_.Do(kTypeOut, 0, 4096), kStatusOk);
  for (const uint64_t area :
       {live_.queue().descriptors(), live_.queue().driver()}) {
    WriteHeader(kTypeIn, 0);
    const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                              {area, 512, true},
                              {LiveDevice::kStatusAt, 1, true}};
    ASSERT_TRUE(live_.queue().Add(buffers, 1));
    live_.queue().Publish();
    live_.driver().Notify(0);
    EXPECT_EQ(live_.rig().Ping(), OK);
    live_.NeedsReset();
    ASSERT_TRUE(live_.Boot());
    EXPECT_EQ(live_.Do(kTypeIn, 0, 4096), kStatusOk);
  }
}

// As service_test's, with packed rings: what is available and where it ends
// changes at any moment.
TEST_F(BadInputTest, RacingMutatorOfPackedRingsBreaksNothingButItsQueue) {
  ASSERT_TRUE(live_.Boot(/*packed=*/true));
  std::atomic<bool> stop{false};
  std::thread mutator([&] {
    uint64_t seed = 11;
    volatile uint8_t* ring = live_.ram() + LiveDevice::kRingAt;
    while (!stop.load(std::memory_order_relaxed)) {
      seed = seed * 6364136223846793005 + 1442695040888963407;
      const uint64_t at =
          (seed >> 60) == 0 ? 0x2000 + (seed >> 40) % 4 : (seed >> 40) % 0x800;
      ring[at] = static_cast<uint8_t>(seed >> 32);
    }
  });
  WriteHeader(kTypeIn, 0);
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 20; ++i) {
      const Buffer buffers[] = {{LiveDevice::kHeaderAt, 16, false},
                                {LiveDevice::kDataAt, 4096, true},
                                {LiveDevice::kStatusAt, 1, true}};
      if (!live_.queue().Add(buffers, 1)) break;
      live_.queue().Publish();
      live_.driver().Notify(0);
    }
    ASSERT_EQ(live_.rig().Ping(), OK);
    ASSERT_TRUE(live_.Boot(/*packed=*/true));
  }
  stop = true;
  mutator.join();
  ASSERT_TRUE(live_.Boot());
  EXPECT_EQ(live_.Do(kTypeIn, 0, 4096), kStatusOk);
}

// §2.4.1: when the device says that it is reset, nothing of before writes to
// memory any more. The disk is a file that the host has to fetch, so that reads
// are truly under way.
TEST(ColdDiskTest, ResetWhileDmaIsUnderWayIsOverWhenTheDeviceSaysSo) {
  constexpr uint64_t kBytes = 64 << 20;
  const std::string name =
      std::string(getenv("TEST_TMPDIR")) + "/bulkhead-cold-disk";
  const int disk = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  ASSERT_GE(disk, 0);
  unlink(name.c_str());
  const std::string data(kBytes, 'd');
  ASSERT_EQ(write(disk, data.data(), kBytes), static_cast<ssize_t>(kBytes));
  {
    LiveDevice live({.disk_bytes = kBytes, .disk_fd = disk});
    for (int round = 0; round < 12; ++round) {
      ASSERT_EQ(fdatasync(disk), 0);
      posix_fadvise(disk, 0, 0, POSIX_FADV_DONTNEED);
      ASSERT_TRUE(live.Boot());
      std::memset(live.ram() + LiveDevice::kDataAt, 0, 4 << 20);
      for (uint32_t i = 0; i < LiveDevice::kQueueSize / 3; ++i) {
        const uint64_t header_at = LiveDevice::kHeaderAt + 16 * i;
        const RequestHeader header = {kTypeIn, 0u, (i * 37 % 42) * 2048ull};
        std::memcpy(live.ram() + header_at, &header, sizeof header);
        const Buffer buffers[] = {
            {header_at, 16, false},
            {LiveDevice::kDataAt + i * 65536ull, 65536, true},
            {LiveDevice::kStatusAt + i, 1, true}};
        ASSERT_TRUE(live.queue().Add(buffers, i));
      }
      live.queue().Publish();
      live.driver().Notify(0);
      if (round % 2 == 0) {
        ASSERT_TRUE(live.driver().Reset());
      } else {
        ASSERT_EQ(live.rig().Reset(), OK);
      }
      // What is written from now on would be overwritten by a late read.
      std::memset(live.ram() + LiveDevice::kDataAt, 'g', 4 << 20);
      const timespec pause = {0, 20'000'000};
      nanosleep(&pause, nullptr);
      EXPECT_EQ(
          std::string(reinterpret_cast<char*>(live.ram()) + LiveDevice::kDataAt,
                      4 << 20),
          std::string(4 << 20, 'g'));
    }
    ASSERT_TRUE(live.Boot());
    EXPECT_EQ(live.Do(kTypeIn, 0, 4096), kStatusOk);
    EXPECT_EQ(live.rig().Finish(), 0);
  }
  close(disk);
}

}  // namespace
}  // namespace bulkhead::virtio_blk
