#include "services/block/nbd/write_log.h"

#include <gtest/gtest.h>

#include <string>

namespace bulkhead::block::nbd {
namespace {

void Write(WriteLog* log, uint64_t offset, const std::string& data) {
  ASSERT_TRUE(log->Reserve(data.size()));
  log->Append({.offset_bytes = offset, .length_bytes = data.size()},
              data.data(), data.size());
}

std::string DataOf(const WriteLog& log, uint64_t number) {
  const WriteLog::Entry& entry = log.entry(number);
  std::string data(entry.length_bytes, '\0');
  log.CopyData(entry, reinterpret_cast<uint8_t*>(data.data()));
  return data;
}

TEST(WriteLogTest, FlushDropsWhatItCoversAndKeepsWhatCameAfterIt) {
  WriteLog log(100, 8);
  Write(&log, 0, "before");
  const uint64_t mark = log.mark();
  Write(&log, 4096, "after");
  log.DropBefore(mark);
  ASSERT_EQ(log.first() + 1, log.mark());
  EXPECT_EQ(log.entry(log.first()).offset_bytes, 4096u);
  EXPECT_EQ(DataOf(log, log.first()), "after");
  EXPECT_EQ(log.used_bytes(), 5u);
}

TEST(WriteLogTest, DataThatWrapsAroundTheEndComesBackWhole) {
  WriteLog log(10, 8);
  for (int round = 0; round < 50; ++round) {
    const std::string data = "abcdef" + std::to_string(round % 10);
    Write(&log, 0, data);
    EXPECT_EQ(DataOf(log, log.first()), data);
    log.DropBefore(log.mark());
  }
}

TEST(WriteLogTest, WithoutRoomNothingIsReserved) {
  WriteLog log(10, 2);
  EXPECT_FALSE(log.Reserve(11));
  EXPECT_TRUE(log.Reserve(6));
  EXPECT_FALSE(log.Reserve(5));
  log.Release(6);
  EXPECT_TRUE(log.Reserve(5));
  EXPECT_TRUE(log.Reserve(5));
  EXPECT_FALSE(log.Reserve(0));  // entries are limited as well
}

TEST(WriteLogTest, LateFlushOfAnEarlierMarkChangesNothing) {
  WriteLog log(100, 8);
  Write(&log, 0, "one");
  Write(&log, 1, "two");
  log.DropBefore(2);
  log.DropBefore(1);
  EXPECT_EQ(log.first(), 2u);
  EXPECT_EQ(log.used_bytes(), 0u);
}

}  // namespace
}  // namespace bulkhead::block::nbd
