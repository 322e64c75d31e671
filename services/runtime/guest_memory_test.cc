#include "services/runtime/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kRamBytes = 64 * kPage;

GuestMemory EmptyRam() {
  GuestMemory memory = GuestMemory::CreateForTest(kRamBytes);
  memory.UnmapAll();
  return memory;
}

int Memfd(uint64_t size_bytes, int seals) {
  const int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size_bytes)), 0);
  if (seals != 0) {
    EXPECT_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
  }
  return fd;
}

TEST(GuestMemoryTest, WritesAreSeenThroughTheFile) {
  const int fd = Memfd(kRamBytes, F_SEAL_SHRINK | F_SEAL_GROW);
  auto memory = GuestMemory::Create(fd, kRamBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  ASSERT_TRUE(memory->Map({0x100000}, kPage, 3 * kPage, true, true).ok());
  ASSERT_TRUE(memory->Write({0x100010}, "hello", 5));
  std::string seen(5, '\0');
  EXPECT_EQ(pread(fd, seen.data(), 5, 3 * kPage + 0x10), 5);
  EXPECT_EQ(seen, "hello");
  close(fd);
}

TEST(GuestMemoryTest, MemfdThatCanShrinkIsRefusedUnlessAskedFor) {
  const int fd = Memfd(kRamBytes, 0);
  EXPECT_EQ(GuestMemory::Create(fd, kRamBytes).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(
      GuestMemory::Create(fd, kRamBytes, GuestMemory::Source::kPlainFile).ok());
  close(fd);
}

TEST(GuestMemoryTest, WrongSizeIsRefused) {
  const int fd = Memfd(kRamBytes, F_SEAL_SHRINK);
  EXPECT_FALSE(GuestMemory::Create(fd, kRamBytes + kPage).ok());
  EXPECT_FALSE(GuestMemory::Create(fd, 0).ok());
  close(fd);
}

TEST(GuestMemoryTest, NothingIsReachableBeforeItIsMapped) {
  const GuestMemory memory = EmptyRam();
  char byte;
  EXPECT_FALSE(memory.Read({0}, &byte, 1));
}

TEST(GuestMemoryTest, AccessAcrossTwoMappingsIsWhole) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0x1000}, kPage, 5 * kPage, true, true).ok());
  ASSERT_TRUE(memory.Map({0x2000}, kPage, 9 * kPage, true, true).ok());
  ASSERT_TRUE(memory.Write({0x1ffe}, "abcd", 4));
  EXPECT_EQ(char(memory.host_base()[6 * kPage - 1]), 'b');
  EXPECT_EQ(char(memory.host_base()[9 * kPage]), 'c');
  char back[4];
  ASSERT_TRUE(memory.Read({0x1ffe}, back, 4));
  EXPECT_EQ(std::string(back, 4), "abcd");
}

TEST(GuestMemoryTest, AccessThatLeavesTheMappingCopiesNothing) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0x1000}, kPage, 0, true, true).ok());
  EXPECT_FALSE(memory.Write({0x1ffe}, "abcd", 4));
  EXPECT_EQ(memory.host_base()[kPage - 2], std::byte{0});
  char back[4] = {'u', 'u', 'u', 'u'};
  EXPECT_FALSE(memory.Read({0x1ffe}, back, 4));
  EXPECT_EQ(std::string(back, 4), "uuuu");
}

TEST(GuestMemoryTest, AddressesThatWrapAreNotInRam) {
  GuestMemory memory = GuestMemory::CreateForTest(kRamBytes);
  char bytes[16];
  EXPECT_FALSE(memory.Read({~0ull - 3}, bytes, 16));
  EXPECT_FALSE(memory.Read({~0ull}, bytes, 1));
  EXPECT_FALSE(memory.Write({kRamBytes - 8}, bytes, 16));
  EXPECT_FALSE(memory.Read({8}, bytes, ~size_t{0}));
}

TEST(GuestMemoryTest, DirectionIsRespected) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0}, kPage, 0, true, /*writable=*/false).ok());
  ASSERT_TRUE(memory.Map({kPage}, kPage, kPage, /*readable=*/false, true).ok());
  char byte = 1;
  EXPECT_TRUE(memory.Read({0}, &byte, 1));
  EXPECT_FALSE(memory.Write({0}, &byte, 1));
  EXPECT_FALSE(memory.Read({kPage}, &byte, 1));
  EXPECT_TRUE(memory.Write({kPage}, &byte, 1));
  iovec segment;
  size_t count = 0;
  EXPECT_FALSE(
      memory.Translate({0}, 4, DmaDirection::kToGuest, &segment, 1, &count));
}

TEST(GuestMemoryTest, BadMappingsAreRefusedAndChangeNothing) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0x10000}, 4 * kPage, 0, true, true).ok());
  const struct {
    uint64_t address, size_bytes, ram_offset;
  } bad[] = {
      {0x10000, kPage, 0},                  // the same place
      {0xf000, 2 * kPage, 0},               // from below
      {0x13000, 2 * kPage, 0},              // from above
      {0, 64 * kPage, 0},                   // around it
      {0x80000, kPage, kRamBytes},          // beyond RAM
      {0x80000, kRamBytes, 1},              // the last byte beyond RAM
      {0x80000, kPage, ~0ull - kPage + 2},  // RAM offset wraps
      {~0ull - kPage + 1, kPage, 0},        // address wraps
      {0x80000, 0, 0},                      // empty
  };
  for (const auto& map : bad) {
    EXPECT_EQ(
        memory.Map({map.address}, map.size_bytes, map.ram_offset, true, true)
            .code(),
        absl::StatusCode::kInvalidArgument)
        << std::hex << map.address;
  }
  EXPECT_FALSE(memory.IsMapped({0}, 0x10000));
  EXPECT_TRUE(memory.IsMapped({0x13fff}, 1));
  EXPECT_FALSE(memory.IsMapped({0x14000}, kPage));
}

TEST(GuestMemoryTest, UnmapSplitsAtItsEdges) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0}, 8 * kPage, 0, true, true).ok());
  memory.Unmap({3 * kPage}, 2 * kPage);
  uint8_t byte = 7;
  EXPECT_TRUE(memory.Write({3 * kPage - 1}, &byte, 1));
  EXPECT_FALSE(memory.Write({3 * kPage}, &byte, 1));
  EXPECT_FALSE(memory.Write({5 * kPage - 1}, &byte, 1));
  EXPECT_TRUE(memory.Write({5 * kPage}, &byte, 1));
  EXPECT_EQ(memory.host_base()[5 * kPage], std::byte{7});
}

TEST(GuestMemoryTest, FullTableLosesTheUpperPartRatherThanKeepingTheHole) {
  GuestMemory memory = EmptyRam();
  for (uint64_t i = 0; i < GuestMemory::kMaxMappings; ++i) {
    ASSERT_TRUE(memory.Map({i * kPage}, 16, 0, true, true).ok());
  }
  EXPECT_EQ(memory.Map({~0ull - kPage}, 16, 0, true, true).code(),
            absl::StatusCode::kResourceExhausted);
  memory.Unmap({kPage + 4}, 4);
  EXPECT_TRUE(memory.IsMapped({kPage}, 4));
  EXPECT_FALSE(memory.IsMapped({kPage + 4}, 12));
  EXPECT_TRUE(memory.IsMapped({2 * kPage}, 1));
}

TEST(GuestMemoryTest, TranslateJoinsNeighboursAndRespectsCapacity) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0}, kPage, 0, true, true).ok());
  ASSERT_TRUE(memory.Map({kPage}, kPage, kPage, true, true).ok());
  ASSERT_TRUE(memory.Map({2 * kPage}, kPage, 7 * kPage, true, true).ok());
  iovec segments[3] = {};
  size_t count = 1;
  ASSERT_TRUE(memory.Translate({100}, 3 * kPage - 100, DmaDirection::kToGuest,
                               segments, 3, &count));
  ASSERT_EQ(count, 3u);
  EXPECT_EQ(segments[1].iov_base, memory.host_base() + 100);
  EXPECT_EQ(segments[1].iov_len, 2 * kPage - 100);
  EXPECT_EQ(segments[2].iov_base, memory.host_base() + 7 * kPage);

  count = 1;
  EXPECT_FALSE(memory.Translate({100}, 3 * kPage - 100, DmaDirection::kToGuest,
                                segments, 2, &count));
  EXPECT_EQ(count, 1u);
}

TEST(GuestMemoryTest, OneMappingIsAllThatInOneMappingGives) {
  GuestMemory memory = EmptyRam();
  ASSERT_TRUE(memory.Map({0x1000}, kPage, 5 * kPage, true, true).ok());
  ASSERT_TRUE(memory.Map({0x2000}, kPage, 6 * kPage, true, false).ok());
  const auto from = DmaDirection::kFromGuest;
  EXPECT_EQ(memory.InOneMapping({0x1ffc}, 4, from),
            memory.host_base() + 6 * kPage - 4);
  EXPECT_EQ(memory.InOneMapping({0x1ffc}, 5, from), nullptr) << "straddles";
  EXPECT_EQ(memory.InOneMapping({0x3000}, 1, from), nullptr) << "not mapped";
  EXPECT_EQ(memory.InOneMapping({0x2ffc}, 5, from), nullptr) << "leaves it";
  EXPECT_EQ(memory.InOneMapping({0x2000}, ~uint64_t{0}, from), nullptr);
  EXPECT_EQ(memory.InOneMapping({~uint64_t{0}}, 2, from), nullptr) << "wraps";
  EXPECT_EQ(memory.InOneMapping({0x2000}, 4, DmaDirection::kToGuest), nullptr);
  // A hint for any of them does nothing.
  memory.Prefetch({0x1ffc}, 5);
  memory.Prefetch({~uint64_t{0}}, 256);
}

TEST(GuestMemoryTest, RingIndicesMustBeAligned) {
  GuestMemory memory = GuestMemory::CreateForTest(kRamBytes);
  ASSERT_TRUE(memory.StoreRelease16({6}, 0xbeef));
  uint16_t half = 0;
  ASSERT_TRUE(memory.LoadAcquire16({6}, &half));
  EXPECT_EQ(half, 0xbeef);
  uint32_t word;
  EXPECT_FALSE(memory.LoadAcquire32({6}, &word));
  EXPECT_FALSE(memory.StoreRelease16({7}, 1));
  EXPECT_FALSE(memory.LoadAcquire32({kRamBytes}, &word));

  memory.UnmapAll();
  ASSERT_TRUE(memory.Map({0x1000}, 64, 1, true, true).ok());
  EXPECT_FALSE(memory.LoadAcquire32({0x1000}, &word));  // odd on the host
}

// Whatever the order of maps and unmaps, the table equals a plain list of
// bytes.
TEST(GuestMemoryTest, RandomMapsAndUnmapsAgreeWithAModel) {
  constexpr uint64_t kSpan = 96;
  std::mt19937 random(1);
  GuestMemory memory = EmptyRam();
  std::map<uint64_t, uint64_t> model;  // address -> RAM offset
  for (int round = 0; round < 4000; ++round) {
    const uint64_t address = random() % kSpan;
    const uint64_t size_bytes = 1 + random() % 12;
    if (random() % 2 == 0) {
      const uint64_t offset = random() % 256;
      bool free = true;
      for (uint64_t i = 0; i < size_bytes; ++i) {
        free &= model.count(address + i) == 0;
      }
      EXPECT_EQ(memory.Map({address}, size_bytes, offset, true, true).ok(),
                free);
      for (uint64_t i = 0; free && i < size_bytes; ++i) {
        model[address + i] = offset + i;
      }
    } else {
      memory.Unmap({address}, size_bytes);
      for (uint64_t i = 0; i < size_bytes; ++i) model.erase(address + i);
    }
    const uint64_t probe = random() % (kSpan + 16);
    iovec segment;
    size_t count = 0;
    const bool mapped = memory.Translate({probe}, 1, DmaDirection::kFromGuest,
                                         &segment, 1, &count);
    ASSERT_EQ(mapped, model.count(probe) != 0) << "round " << round;
    if (mapped) {
      ASSERT_EQ(segment.iov_base, memory.host_base() + model[probe]);
    }
    ASSERT_EQ(memory.IsMapped({probe}, 1), mapped);
  }
}

TEST(GuestMemoryTest, MovedFromMemoryLetsGo) {
  GuestMemory one = GuestMemory::CreateForTest(kRamBytes);
  const std::byte* base = one.host_base();
  GuestMemory two = std::move(one);
  EXPECT_EQ(two.host_base(), base);
  uint32_t word;
  EXPECT_TRUE(two.ReadValue({0}, &word));
  two = GuestMemory::CreateForTest(kPage);
  EXPECT_EQ(two.ram_bytes(), kPage);
}

}  // namespace
}  // namespace bulkhead
