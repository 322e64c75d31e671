#include "proxy/memory_table.h"

#include <map>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace bulkhead::proxy {
namespace {

// What a service would hold after all changes.
class MirroredTable {
 public:
  bool Insert(uint64_t address, uint64_t size_bytes, uint64_t ram_offset) {
    return table_.Insert({address, size_bytes, ram_offset, true, true, true});
  }
  bool Remove(uint64_t address, uint64_t size_bytes) {
    return table_.Remove(address, size_bytes);
  }
  absl::Span<const MemoryRange> ranges() const { return table_.ranges(); }
  const std::map<uint64_t, MemoryRange>& mirror() const { return mirror_; }

 private:
  void Change(const MemoryRange& range, bool mapped) {
    if (!mapped) {
      // A service knows a range only as it was told of it.
      ASSERT_EQ(mirror_.count(range.address), 1u);
      ASSERT_EQ(mirror_[range.address], range);
      mirror_.erase(range.address);
      return;
    }
    for (const auto& [address, other] : mirror_) {
      ASSERT_TRUE(other.last() < range.address || address > range.last());
    }
    mirror_[range.address] = range;
  }

  MemoryTable table_{
      [this](const MemoryRange& range, bool mapped) { Change(range, mapped); }};
  std::map<uint64_t, MemoryRange> mirror_;
};

TEST(MemoryTableTest, WholeAddressSpaceCanBeMappedAndCut) {
  MirroredTable table;
  EXPECT_TRUE(table.Insert(0, ~uint64_t{0}, 0));
  EXPECT_TRUE(table.Remove(~uint64_t{1}, 1));
  EXPECT_FALSE(table.Remove(~uint64_t{0}, 2));  // wraps
  EXPECT_EQ(table.ranges().size(), 1u);
}

// Against a model that knows each page by itself.
TEST(MemoryTableTest, RandomMapsAndUnmapsAgreeWithAMapOfPages) {
  MirroredTable table;
  std::map<uint64_t, uint64_t> pages;
  std::mt19937 random(1);
  for (int step = 0; step < 5000; ++step) {
    const uint64_t first = random() % 64;
    const uint64_t count = 1 + random() % 16;
    if (random() % 2 == 0) {
      const uint64_t offset = (random() % 1000) * 0x1000;
      ASSERT_TRUE(table.Insert(first * 0x1000, count * 0x1000, offset));
      for (uint64_t i = 0; i < count; ++i) {
        pages[first + i] = offset + i * 0x1000;
      }
    } else {
      bool any = false;
      for (uint64_t i = 0; i < count; ++i) any |= pages.erase(first + i) != 0;
      ASSERT_EQ(table.Remove(first * 0x1000, count * 0x1000), any);
    }
    std::map<uint64_t, uint64_t> seen;
    for (const auto& [address, range] : table.mirror()) {
      for (uint64_t i = 0; i < range.size_bytes / 0x1000; ++i) {
        seen[address / 0x1000 + i] = range.ram_offset + i * 0x1000;
      }
    }
    ASSERT_EQ(seen, pages);
    ASSERT_EQ(table.ranges().size(), table.mirror().size());
  }
}

TEST(MemoryTableTest, FullTableRefusesAndKeepsWhatItHas) {
  MirroredTable table;
  for (uint64_t i = 0; i < MemoryTable::kMaxRanges; ++i) {
    ASSERT_TRUE(table.Insert(i * 0x4000, 0x3000, 0));
  }
  EXPECT_FALSE(table.Insert(uint64_t{1} << 40, 0x1000, 0));
  EXPECT_FALSE(table.Remove(0x1000, 0x1000));  // would leave two for one
  EXPECT_TRUE(table.Insert(0, 0x3000, 0x9000));
  EXPECT_EQ(table.ranges().size(), MemoryTable::kMaxRanges);
}

}  // namespace
}  // namespace bulkhead::proxy
