// PRPs and SGLs, good and bad.

#include "services/nvme/data_pointer.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

class DataPointerTest : public ::testing::Test {
 protected:
  DataPointerTest() : dma_(context_.memory()) { dma_.SetBusMaster(true); }

  Outcome Map(const Command& command, uint64_t bytes, size_t capacity = 1024,
              bool sgl_allowed = true) {
    segments_ = {.first = room_.data(), .capacity = capacity};
    return MapData(command, bytes, 12, sgl_allowed, DmaDirection::kToGuest,
                   dma_, &segments_);
  }
  static Command Prps(uint64_t prp1, uint64_t prp2) {
    Command command = {};
    command.prp1 = prp1;
    command.prp2 = prp2;
    return command;
  }
  static Command Sgl(uint64_t address, uint32_t length, uint8_t type) {
    Command command = {};
    command.flags = 1 << 6;
    command.prp1 = address;
    command.prp2 = length | uint64_t{type} << 56;
    return command;
  }
  void SetList(uint64_t at, const std::vector<uint64_t>& entries) {
    for (size_t i = 0; i < entries.size(); ++i) {
      const Le64 entry = entries[i];
      context_.memory().Write({at + 8 * i}, &entry, 8);
    }
  }
  void SetSgl(uint64_t at, const std::vector<SglDescriptor>& descriptors) {
    context_.memory().Write({at}, descriptors.data(),
                            descriptors.size() * sizeof(SglDescriptor));
  }
  static SglDescriptor Descriptor(uint64_t address, uint32_t length,
                                  uint8_t type) {
    SglDescriptor descriptor = {};
    descriptor.address = address;
    descriptor.length = length;
    descriptor.type = type;
    return descriptor;
  }
  uint64_t Offset(size_t i) const {
    return static_cast<uint64_t>(
        static_cast<std::byte*>(segments_.first[i].iov_base) -
        const_cast<FakeServiceContext&>(context_).memory().host_base());
  }

  FakeServiceContext context_{16};
  Dma dma_;
  std::array<iovec, 1024> room_;
  Segments segments_;
};

// §4.3, figure 112.
TEST_F(DataPointerTest, OnePrpMayStartInsideAPage) {
  ASSERT_TRUE(Map(Prps(0x1200, 0), 512).ok());
  ASSERT_EQ(segments_.count, 1u);
  EXPECT_EQ(Offset(0), 0x1200u);
  EXPECT_EQ(segments_.first[0].iov_len, 512u);
}

TEST_F(DataPointerTest, TwoPrpsCrossOnePageBoundary) {
  ASSERT_TRUE(Map(Prps(0x1e00, 0x5000), 4096).ok());
  ASSERT_EQ(segments_.count, 2u);
  EXPECT_EQ(segments_.first[0].iov_len, 0x200u);
  EXPECT_EQ(Offset(1), 0x5000u);
  EXPECT_EQ(segments_.first[1].iov_len, 0xe00u);
}

TEST_F(DataPointerTest, NeighbouringPagesBecomeOneSegment) {
  std::vector<uint64_t> entries;
  for (uint64_t i = 1; i < 256; ++i) entries.push_back(0x100000 + i * 4096);
  SetList(0x8000, entries);
  ASSERT_TRUE(Map(Prps(0x100000, 0x8000), 1 << 20, /*capacity=*/1).ok());
  ASSERT_EQ(segments_.count, 1u);
  EXPECT_EQ(segments_.first[0].iov_len, 1u << 20);
}

// Neighbours of the bus may be strangers in the host.
TEST_F(DataPointerTest, EachPageMayLieInAMappingOfItsOwn) {
  constexpr uint64_t kPages = 200;
  constexpr uint64_t kBus = 0x100000;
  context_.memory().Unmap({kBus}, kPages * 4096);
  std::vector<uint64_t> entries;
  for (uint64_t i = 0; i < kPages; ++i) {
    const uint64_t ram = kBus + (kPages - 1 - i) * 4096;
    ASSERT_TRUE(
        context_.memory().Map({kBus + i * 4096}, 4096, ram, true, true).ok());
    if (i > 0) entries.push_back(kBus + i * 4096);
  }
  SetList(0x8000, entries);
  ASSERT_TRUE(Map(Prps(kBus, 0x8000), kPages * 4096 - 512).ok());
  ASSERT_EQ(segments_.count, kPages);
  for (size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(Offset(i), kBus + (kPages - 1 - i) * 4096);
    EXPECT_EQ(segments_.first[i].iov_len, i + 1 < kPages ? 4096u : 3584u);
  }
}

TEST_F(DataPointerTest, AListGoesOnInTheNextWhereItsPageEnds) {
  // Three entries fit before the page's end: two pages, and the next list.
  SetList(0x8000 + 509 * 8, {0x20000, 0x30000, 0x9000});
  SetList(0x9000, {0x40000, 0x50000});
  ASSERT_TRUE(Map(Prps(0x10000, 0x8000 + 509 * 8), 5 * 4096).ok());
  ASSERT_EQ(segments_.count, 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(Offset(i), 0x10000 * (i + 1));
}

TEST_F(DataPointerTest, MisalignedPrpsAreRefused) {
  const auto status = [this](const Command& command, uint64_t bytes) {
    return Map(command, bytes).status;
  };
  EXPECT_EQ(status(Prps(0x1001, 0), 512), Status::kPrpOffsetInvalid);
  EXPECT_EQ(status(Prps(0x1000, 0x2004), 8192), Status::kPrpOffsetInvalid);
  EXPECT_EQ(status(Prps(0x1000, 0x8004), 3 * 4096), Status::kPrpOffsetInvalid);
  SetList(0x8000, {0x3000, 0x4008});
  EXPECT_EQ(status(Prps(0x1000, 0x8000), 3 * 4096), Status::kPrpOffsetInvalid);
}

TEST_F(DataPointerTest, AListThatPointsToItselfEndsWithTheData) {
  std::vector<uint64_t> entries(512, 0x8000);
  SetList(0x8000, entries);
  EXPECT_TRUE(Map(Prps(0x1000, 0x8000 + 511 * 8), 1 << 20).ok());
}

TEST_F(DataPointerTest, OutsideRamIsADataTransferError) {
  const uint64_t outside = 16 << 20;
  EXPECT_EQ(Map(Prps(outside, 0), 512).status, Status::kDataTransferError);
  EXPECT_EQ(Map(Prps(~uint64_t{0xfff}, 0), 4096).status,
            Status::kDataTransferError);
  EXPECT_EQ(Map(Prps(0x1000, outside), 8192).status,
            Status::kDataTransferError);
  EXPECT_EQ(Map(Prps(0x1000, outside), 1 << 20).status,
            Status::kDataTransferError)
      << "the list itself";
}

// ---- §4.4

TEST_F(DataPointerTest, OneDataBlockNeedsNoList) {
  ASSERT_TRUE(Map(Sgl(0x1001, 8192, kSglDataBlock), 8192).ok());
  ASSERT_EQ(segments_.count, 1u);
  EXPECT_EQ(Offset(0), 0x1001u);
}

TEST_F(DataPointerTest, SegmentsLeadToTheLastSegment) {
  SetSgl(0x8000, {Descriptor(0x10000, 1000, kSglDataBlock),
                  Descriptor(0, 0, kSglDataBlock),
                  Descriptor(0x9000, 32, kSglLastSegment)});
  SetSgl(0x9000, {Descriptor(0x20000, 24, kSglDataBlock),
                  Descriptor(0x30000, 9999, kSglDataBlock)});
  ASSERT_TRUE(Map(Sgl(0x8000, 48, kSglSegment), 2048).ok());
  ASSERT_EQ(segments_.count, 3u);
  EXPECT_EQ(segments_.first[2].iov_len, 1024u) << "what is too much is left";
}

TEST_F(DataPointerTest, BadSglsAreRefusedEachForItsReason) {
  const auto list = [this](std::vector<SglDescriptor> descriptors,
                           uint8_t type = kSglLastSegment) {
    SetSgl(0x8000, descriptors);
    const auto bytes = static_cast<uint32_t>(descriptors.size() * 16);
    return Map(Sgl(0x8000, bytes, type), 4096).status;
  };
  const SglDescriptor data = Descriptor(0x10000, 512, kSglDataBlock);
  EXPECT_EQ(list({data}), Status::kDataSglLengthInvalid);
  EXPECT_EQ(list({Descriptor(0, 4096, 0x40)}), Status::kSglTypeInvalid);
  EXPECT_EQ(list({Descriptor(0, 4096, 0x01)}), Status::kSglTypeInvalid);
  EXPECT_EQ(list({data, Descriptor(0x9000, 16, kSglSegment)}),
            Status::kInvalidSglCount)
      << "the last segment leads nowhere";
  EXPECT_EQ(list({Descriptor(0x9000, 16, kSglSegment), data}, kSglSegment),
            Status::kInvalidSglCount)
      << "a segment before the end";
  EXPECT_EQ(Map(Sgl(0x8000, 15, kSglLastSegment), 4096).status,
            Status::kInvalidSglSegment);
  EXPECT_EQ(Map(Sgl(0x8000, 0, kSglLastSegment), 4096).status,
            Status::kInvalidSglSegment);
  EXPECT_EQ(Map(Sgl(uint64_t{1} << 40, 16, kSglLastSegment), 4096).status,
            Status::kDataTransferError);
}

TEST_F(DataPointerTest, ALoopOfSegmentsEnds) {
  SetSgl(0x8000, {Descriptor(0x8000, 16, kSglSegment)});
  EXPECT_EQ(Map(Sgl(0x8000, 16, kSglSegment), 4096).status,
            Status::kInvalidSglCount);
}

TEST_F(DataPointerTest, ReservedPsdtAndSglsOfAdminCommandsAreInvalid) {
  Command command = Prps(0x1000, 0);
  command.flags = 3 << 6;
  EXPECT_EQ(Map(command, 512).status, Status::kInvalidField);
  EXPECT_EQ(Map(Sgl(0x1000, 512, kSglDataBlock), 512, 1024, false).status,
            Status::kInvalidField);
}

TEST_F(DataPointerTest, TooLittleRoomIsSaidSo) {
  SetList(0x8000, {0x30000, 0x50000});
  EXPECT_FALSE(Map(Prps(0x10000, 0x8000), 3 * 4096, /*capacity=*/2).ok());
  EXPECT_TRUE(segments_.too_few);
  EXPECT_FALSE(Map(Prps(0x10000, 0x8000), 4 << 20, /*capacity=*/64).ok());
}

}  // namespace
}  // namespace bulkhead::nvme
