#include "services/virtio/queue.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "services/virtio/testing/driver_queue.h"

namespace bulkhead::virtio {
namespace {

constexpr uint64_t kRamBytes = 1 << 20;
constexpr uint64_t kRingAt = 0x10000;
constexpr uint64_t kDataAt = 0x40000;

struct Kind {
  const char* name;
  bool packed;
  bool indirect;
  bool event_index;
  uint16_t size;
};

// A queue and its driver on the same memory.
class QueueTest : public ::testing::TestWithParam<Kind> {
 protected:
  QueueTest() : memory_(GuestMemory::CreateForTest(kRamBytes)) {
    queue_.Attach(&memory_, &state_);
    chain_.segments = segments_.data();
  }

  uint8_t* ram() { return reinterpret_cast<uint8_t*>(memory_.host_base()); }

  uint64_t Features(uint64_t more = 0) {
    const Kind& kind = GetParam();
    return more | kFeatureVersion1 | (kind.packed ? kFeaturePacked : 0) |
           (kind.indirect ? kFeatureIndirect : 0) |
           (kind.event_index ? kFeatureEventIndex : 0);
  }

  void Start(uint64_t more_features = 0) {
    const Kind& kind = GetParam();
    driver_ = std::make_unique<DriverQueue>(
        DriverQueue::Options{.ram = ram(),
                             .at = kRingAt,
                             .size = kind.size,
                             .packed = kind.packed,
                             .event_index = kind.event_index,
                             .indirect = kind.indirect});
    queue_.Reset(kind.size);
    state_.descriptors = driver_->descriptors();
    state_.driver = driver_->driver();
    state_.device = driver_->device();
    ASSERT_TRUE(queue_.Enable(Features(more_features)));
  }

  bool Add(uint32_t token, uint32_t bytes = 512) {
    const Buffer buffers[] = {{kDataAt, 16, false},
                              {kDataAt + 4096, bytes, true},
                              {kDataAt + 8192, 1, true}};
    return driver_->Add(buffers, token);
  }

  Ticket PopTicket() {
    EXPECT_EQ(queue_.Pop(&chain_), Popped::kChain);
    return chain_.ticket;
  }

  GuestMemory memory_;
  QueueState state_ = {};
  Queue queue_;
  std::unique_ptr<DriverQueue> driver_;
  std::vector<iovec> segments_{kMaxChainSegments};
  Chain chain_;
};

TEST_P(QueueTest, ChainArrivesAsHostSegmentsAndGoesBackWithItsLength) {
  Start();
  ASSERT_TRUE(Add(7));
  EXPECT_FALSE(queue_.HasWork()) << "not published yet";
  driver_->Publish();
  ASSERT_EQ(queue_.Pop(&chain_), Popped::kChain);
  ASSERT_EQ(chain_.readable().size(), 1u);
  ASSERT_EQ(chain_.writable().size(), 2u);
  EXPECT_EQ(chain_.readable()[0].iov_base, ram() + kDataAt);
  EXPECT_EQ(chain_.writable_bytes, 513u);
  EXPECT_TRUE(chain_.last_is_good);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kEmpty);

  queue_.Push(chain_.ticket, 513);
  uint32_t token = 0;
  uint32_t written = 0;
  ASSERT_TRUE(driver_->Take(&token, &written));
  EXPECT_EQ(token, 7u);
  EXPECT_EQ(written, 513u);
  EXPECT_FALSE(driver_->HasUsed());
}

TEST_P(QueueTest, RingIsUsedRoundAndRoundInAnyOrder) {
  Start();
  uint32_t next = 0;
  uint32_t back = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<Ticket> taken;
    for (int i = 0; i < 2 && Add(next); ++i) ++next;
    driver_->Publish();
    while (queue_.Pop(&chain_) == Popped::kChain) {
      taken.push_back(chain_.ticket);
    }
    for (size_t i = taken.size(); i-- > 0;) queue_.Push(taken[i], 1);
    uint32_t token;
    uint32_t written;
    while (driver_->Take(&token, &written)) ++back;
  }
  EXPECT_GE(back, 3000u);
  EXPECT_EQ(back, next);
  EXPECT_EQ(queue_.outstanding(), 0u);
  EXPECT_FALSE(queue_.broken());
}

// §2.7.9: with IN_ORDER chains go back in the order in which they came.
TEST_P(QueueTest, InOrderHoldsBackWhatIsDoneTooEarly) {
  Start(kFeatureInOrder);
  ASSERT_TRUE(Add(1));
  ASSERT_TRUE(Add(2));
  driver_->Publish();
  const Ticket first = PopTicket();
  const Ticket second = PopTicket();
  queue_.Push(second, 22);
  EXPECT_FALSE(driver_->HasUsed());
  queue_.Push(first, 11);
  uint32_t token;
  uint32_t written;
  ASSERT_TRUE(driver_->Take(&token, &written));
  EXPECT_EQ(token, 1u);
  EXPECT_EQ(written, 11u);
  ASSERT_TRUE(driver_->Take(&token, &written));
  EXPECT_EQ(token, 2u);
  EXPECT_EQ(written, 22u);
}

TEST_P(QueueTest, InterruptsComeWhenWantedAndOncePerBatch) {
  Start();
  EXPECT_FALSE(queue_.WantsSignal()) << "nothing was used";
  driver_->EnableInterrupts();
  ASSERT_TRUE(Add(1));
  driver_->Publish();
  queue_.Push(PopTicket(), 1);
  EXPECT_TRUE(queue_.WantsSignal());
  queue_.Signalled();
  EXPECT_FALSE(queue_.WantsSignal());
  uint32_t token;
  uint32_t written;
  ASSERT_TRUE(driver_->Take(&token, &written));

  driver_->DisableInterrupts();
  ASSERT_TRUE(Add(2));
  driver_->Publish();
  queue_.Push(PopTicket(), 1);
  EXPECT_FALSE(queue_.WantsSignal());
}

TEST_P(QueueTest, NotificationsAreWantedOnlyWhileTheDeviceSleeps) {
  Start();
  queue_.DisableNotifications();
  queue_.EnableNotifications();
  ASSERT_TRUE(Add(1));
  EXPECT_TRUE(driver_->Publish());
  queue_.DisableNotifications();
  queue_.Push(PopTicket(), 1);
  for (uint32_t i = 2; i < 20; ++i) {
    uint32_t token;
    uint32_t written;
    ASSERT_TRUE(driver_->Take(&token, &written));
    ASSERT_TRUE(Add(i));
    EXPECT_FALSE(driver_->Publish()) << i;
    queue_.Push(PopTicket(), 1);
  }
}

TEST_P(QueueTest, StateGoesOnInAnotherQueue) {
  Start();
  ASSERT_TRUE(Add(1));
  driver_->Publish();
  queue_.Push(PopTicket(), 1);
  QueueState copy = state_;
  Queue other;
  other.Attach(&memory_, &copy);
  ASSERT_TRUE(other.Restore(Features()));
  ASSERT_TRUE(Add(2));
  driver_->Publish();
  ASSERT_EQ(other.Pop(&chain_), Popped::kChain);
  other.Push(chain_.ticket, 5);
  uint32_t token;
  uint32_t written;
  ASSERT_TRUE(driver_->Take(&token, &written));
  ASSERT_TRUE(driver_->Take(&token, &written));
  EXPECT_EQ(token, 2u);
}

TEST_P(QueueTest, BufferOutsideRamIsAFaultyChainNotABrokenQueue) {
  Start();
  const Buffer outside[] = {
      {kDataAt, 16, false}, {kRamBytes - 4, 8, true}, {kDataAt, 1, true}};
  ASSERT_TRUE(driver_->Add(outside, 1));
  const Buffer wraps[] = {{~uint64_t{0} - 3, 16, false}, {kDataAt, 1, true}};
  ASSERT_TRUE(driver_->Add(wraps, 2));
  const Buffer huge[] = {{kDataAt, 0xffffffff, true}};
  ASSERT_TRUE(driver_->Add(huge, 3));
  const Buffer empty[] = {{kDataAt, 0, true}};
  ASSERT_TRUE(driver_->Add(empty, 4));
  driver_->Publish();
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(queue_.Pop(&chain_), Popped::kChain) << i;
    EXPECT_TRUE(chain_.faulty);
    EXPECT_EQ(chain_.last_is_good, i < 2);
    queue_.Push(chain_.ticket, 0);
  }
}

TEST_P(QueueTest, WritableBeforeReadableBreaksTheQueue) {
  Start();
  const Buffer buffers[] = {{kDataAt, 16, true}, {kDataAt, 16, false}};
  ASSERT_TRUE(driver_->Add(buffers, 1));
  driver_->Publish();
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kBroken);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kBroken);
  EXPECT_FALSE(queue_.HasWork());
}

// §2.7.10.1, §2.8.10.1: sizes and alignments that no driver may choose.
TEST_P(QueueTest, ImpossibleRingsAreNotEnabled) {
  const bool packed = GetParam().packed;
  const struct {
    uint16_t size;
    uint64_t descriptors, driver, device;
    bool good;
  } cases[] = {
      {8, kRingAt, kRingAt + 0x2000, kRingAt + 0x3000, true},
      {0, kRingAt, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {3, kRingAt, kRingAt + 0x2000, kRingAt + 0x3000, packed},
      {kMaxQueueSize + 1, kRingAt, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {0xffff, kRingAt, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {8, kRingAt + 8, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {8, kRingAt, kRingAt + 0x2001, kRingAt + 0x3000, false},
      {8, kRingAt, kRingAt + 0x2000, kRingAt + 0x3002, false},
      {8, kRamBytes, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {8, kRamBytes - 64, kRingAt + 0x2000, kRingAt + 0x3000, false},
      {8, kRingAt, kRamBytes - 2, kRingAt + 0x3000, false},
      {8, kRingAt, kRingAt + 0x2000, ~uint64_t{3}, false},
      {8, ~uint64_t{15}, kRingAt + 0x2000, kRingAt + 0x3000, false},
  };
  for (const auto& c : cases) {
    queue_.Reset(c.size);
    state_.descriptors = c.descriptors;
    state_.driver = c.driver;
    state_.device = c.device;
    EXPECT_EQ(queue_.Enable(Features()), c.good)
        << c.size << " " << c.descriptors << " " << c.driver << " " << c.device;
    if (!c.good) {
      EXPECT_NE(queue_.Pop(&chain_), Popped::kChain);
    }
  }
}

// A guest whose memory is moved about: what the rings held is found again.
TEST_P(QueueTest, UnmappedRingsAreEmptyUntilTheyAreBack) {
  Start();
  ASSERT_TRUE(Add(1));
  driver_->Publish();
  memory_.UnmapAll();
  queue_.ForgetMapping();
  EXPECT_FALSE(queue_.HasWork());
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kEmpty);
  ASSERT_TRUE(memory_.Map({0}, kRamBytes, 0, true, true).ok());
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kChain);
}

INSTANTIATE_TEST_SUITE_P(
    , QueueTest,
    ::testing::Values(Kind{"Split", false, false, false, 16},
                      Kind{"SplitEventIndex", false, false, true, 256},
                      Kind{"SplitIndirect", false, true, true, 8},
                      Kind{"Packed", true, false, false, 16},
                      Kind{"PackedOddSize", true, false, true, 11},
                      Kind{"PackedIndirect", true, true, true, 7}),
    [](const auto& info) { return info.param.name; });

// ---- rings that no driver writes: by hand

class HostileSplitTest : public ::testing::Test {
 protected:
  HostileSplitTest() : memory_(GuestMemory::CreateForTest(kRamBytes)) {
    chain_.segments = segments_.data();
    queue_.Attach(&memory_, &state_);
    queue_.Reset(kSize);
    state_.descriptors = kRingAt;
    state_.driver = kRingAt + 0x2000;
    state_.device = kRingAt + 0x3000;
    EXPECT_TRUE(queue_.Enable(kFeatureVersion1 | kFeatureIndirect));
  }

  void Describe(uint64_t table, uint16_t at, uint64_t address, uint32_t length,
                uint16_t flags, uint16_t next) {
    const SplitDescriptor d = {address, length, flags, next};
    std::memcpy(memory_.host_base() + table + at * kDescriptorBytes, &d,
                sizeof d);
  }
  void Available(uint16_t slot, uint16_t head) {
    std::memcpy(memory_.host_base() + state_.driver + kAvailRing + 2 * slot,
                &head, sizeof head);
  }
  void SetIndex(uint16_t index) {
    std::memcpy(memory_.host_base() + state_.driver + kAvailIndex, &index,
                sizeof index);
  }
  Popped PopOne(uint16_t head) {
    Available(0, head);
    SetIndex(1);
    return queue_.Pop(&chain_);
  }

  static constexpr uint16_t kSize = 8;
  GuestMemory memory_;
  QueueState state_ = {};
  Queue queue_;
  std::vector<iovec> segments_{kMaxChainSegments};
  Chain chain_;
};

TEST_F(HostileSplitTest, LoopOfDescriptorsBreaksTheQueue) {
  Describe(kRingAt, 0, kDataAt, 16, kDescNext, 1);
  Describe(kRingAt, 1, kDataAt, 16, kDescNext, 0);
  EXPECT_EQ(PopOne(0), Popped::kBroken);
}

TEST_F(HostileSplitTest, DescriptorThatFollowsItselfBreaksTheQueue) {
  Describe(kRingAt, 0, kDataAt, 16, kDescNext, 0);
  EXPECT_EQ(PopOne(0), Popped::kBroken);
}

TEST_F(HostileSplitTest, HeadBeyondTheRingBreaksTheQueue) {
  EXPECT_EQ(PopOne(kSize), Popped::kBroken);
}

TEST_F(HostileSplitTest, NextBeyondTheRingBreaksTheQueue) {
  Describe(kRingAt, 0, kDataAt, 16, kDescNext, 0xffff);
  EXPECT_EQ(PopOne(0), Popped::kBroken);
}

// CVE-2016-5403: chains are submitted without waiting for any to be used.
TEST_F(HostileSplitTest, MoreChainsThanTheRingHoldsBreaksTheQueue) {
  Describe(kRingAt, 0, kDataAt, 16, kDescWrite, 0);
  for (uint16_t i = 0; i < kSize; ++i) Available(i, 0);
  SetIndex(kSize);
  for (int i = 0; i < kSize; ++i)
    ASSERT_EQ(queue_.Pop(&chain_), Popped::kChain);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kEmpty);
  SetIndex(kSize + 1);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kBroken);
}

TEST_F(HostileSplitTest, IndexThatRunsBackwardsBreaksTheQueue) {
  SetIndex(0xffff);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kBroken);
}

// Behind what the device has taken, but not behind what it has given back.
TEST_F(HostileSplitTest, IndexThatTakesChainsBackBreaksTheQueue) {
  Describe(kRingAt, 0, kDataAt, 16, kDescWrite, 0);
  for (uint16_t i = 0; i < kSize; ++i) Available(i, 0);
  SetIndex(4);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(queue_.Pop(&chain_), Popped::kChain);
  SetIndex(2);
  EXPECT_EQ(queue_.Pop(&chain_), Popped::kBroken);
}

TEST_F(HostileSplitTest, IndirectTablesAreCheckedLikeRings) {
  const uint64_t table = 0x20000;
  const struct {
    const char* what;
    uint64_t address;
    uint32_t length;
    uint16_t flags;
  } bad[] = {
      {"empty", table, 0, kDescIndirect},
      {"no multiple of 16", table, 24, kDescIndirect},
      {"outside RAM", kRamBytes, 16, kDescIndirect},
      {"across RAM's end", kRamBytes - 16, 32, kDescIndirect},
      {"with NEXT", table, 16, kDescIndirect | kDescNext},
      {"loop", table, 32, kDescIndirect},
      {"indirect inside", table + 64, 16, kDescIndirect},
      {"next beyond it", table + 128, 16, kDescIndirect},
      {"gigantic", table + 256, 0xfffffff0, kDescIndirect},
  };
  Describe(table, 0, kDataAt, 8, kDescNext, 1);
  Describe(table, 1, kDataAt, 8, kDescNext, 0);
  Describe(table + 64, 0, table, 16, kDescIndirect, 0);
  Describe(table + 128, 0, kDataAt, 8, kDescNext, 1);
  Describe(kRamBytes - 16, 0, kDataAt, 8, kDescNext, 1);
  for (uint16_t i = 0; i < 1000; ++i) {
    Describe(table + 256, i, kDataAt, 8, kDescNext,
             static_cast<uint16_t>(i + 1));
  }
  for (const auto& c : bad) {
    const QueueState before = state_;
    queue_.Reset(kSize);
    state_.descriptors = before.descriptors;
    state_.driver = before.driver;
    state_.device = before.device;
    ASSERT_TRUE(queue_.Enable(kFeatureVersion1 | kFeatureIndirect));
    Describe(kRingAt, 0, c.address, c.length, c.flags, 0);
    EXPECT_EQ(PopOne(0), Popped::kBroken) << c.what;
  }
}

TEST_F(HostileSplitTest, IndirectThatWasNotAgreedOnBreaksTheQueue) {
  ASSERT_TRUE(queue_.Enable(kFeatureVersion1));
  Describe(kRingAt, 0, 0x20000, 16, kDescIndirect, 0);
  EXPECT_EQ(PopOne(0), Popped::kBroken);
}

TEST(HostilePackedTest, EndlessChainAndForeignIdBreakTheQueue) {
  GuestMemory memory = GuestMemory::CreateForTest(kRamBytes);
  QueueState state = {};
  Queue queue;
  queue.Attach(&memory, &state);
  std::vector<iovec> segments(kMaxChainSegments);
  Chain chain;
  chain.segments = segments.data();
  const auto start = [&](uint16_t flags, uint16_t id) {
    for (uint16_t i = 0; i < 8; ++i) {
      const PackedDescriptor d = {kDataAt, 8u, id, flags};
      std::memcpy(memory.host_base() + kRingAt + i * kDescriptorBytes, &d,
                  sizeof d);
    }
    queue.Reset(8);
    state.descriptors = kRingAt;
    state.driver = kRingAt + 0x2000;
    state.device = kRingAt + 0x3000;
    return queue.Enable(kFeatureVersion1 | kFeaturePacked);
  };
  ASSERT_TRUE(start(kPackedAvail | kDescNext, 0));
  EXPECT_EQ(queue.Pop(&chain), Popped::kBroken);
  ASSERT_TRUE(start(kPackedAvail, 8));
  EXPECT_EQ(queue.Pop(&chain), Popped::kBroken);
  // Descriptors that are out already are not taken a second time.
  ASSERT_TRUE(start(kPackedAvail, 1));
  for (int i = 0; i < 8; ++i) ASSERT_EQ(queue.Pop(&chain), Popped::kChain);
  const PackedDescriptor again = {kDataAt, 8u, uint16_t{1}, kPackedUsed};
  std::memcpy(memory.host_base() + kRingAt, &again, sizeof again);
  EXPECT_EQ(queue.Pop(&chain), Popped::kBroken);
}

}  // namespace
}  // namespace bulkhead::virtio
