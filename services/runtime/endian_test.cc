#include "services/runtime/endian.h"

#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

template <typename T>
std::string Bytes(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

TEST(EndianTest, IntegersLieInMemoryInTheirByteOrder) {
  EXPECT_EQ(Bytes(Le32(0x01020304)), "\x04\x03\x02\x01");
  EXPECT_EQ(Bytes(Be32(0x01020304)), "\x01\x02\x03\x04");
  EXPECT_EQ(Bytes(Be24(0x010203)), "\x01\x02\x03");
  EXPECT_EQ(Bytes(Le16(0x0102)), "\x02\x01");
  EXPECT_EQ(Bytes(Be64(0x1122334455667788)),
            "\x11\x22\x33\x44\x55\x66\x77\x88");
}

TEST(EndianTest, StructuresHaveNoPaddingAndFieldsReadBack) {
  struct Entry {
    Le64 address;
    Le32 size_bytes;
    Be16 tag;
    Be24 lba;
  };
  static_assert(sizeof(Entry) == 17);
  Entry entry = {.address = ~uint64_t{1}, .size_bytes = 7, .tag = 0x8001};
  entry.lba = 0x1fffff;
  EXPECT_EQ(entry.address, ~uint64_t{1});
  EXPECT_EQ(entry.size_bytes, 7u);
  EXPECT_EQ(entry.tag, 0x8001);
  EXPECT_EQ(entry.lba, 0x1fffffu);
}

TEST(EndianTest, ValuesTooWideForTheFieldAreCut) {
  EXPECT_EQ(Be24(0xff123456), 0x123456u);
}

TEST(EndianTest, LoadsAndStoresMeetAtUnalignedBytes) {
  uint8_t bytes[9] = {};
  StoreBe64(bytes + 1, 0x0102030405060708);
  EXPECT_EQ(LoadBe64(bytes + 1), 0x0102030405060708u);
  EXPECT_EQ(LoadLe64(bytes + 1), 0x0807060504030201u);
  EXPECT_EQ(LoadBe16(bytes + 1), 0x0102);
  EXPECT_EQ(LoadBe24(bytes + 1), 0x010203u);
  EXPECT_EQ(LoadLe32(bytes + 1), 0x04030201u);
  StoreLe16(bytes, 0xabcd);
  EXPECT_EQ(bytes[0], 0xcd);
  EXPECT_EQ(LoadLe16(bytes), 0xabcd);
}

}  // namespace
}  // namespace bulkhead
