// Integers with a byte order, made of bytes: wire and guest structures are
// built of them, so they have no padding, need no alignment, and read the same
// on every host.
//
//   struct Entry { Le64 address; Le32 size_bytes; Be16 tag; };
//   static_assert(sizeof(Entry) == 14);
//   entry.size_bytes = 7;  uint32_t n = entry.size_bytes;
//
// TRUST    Only representation: a value from a guest is hostile still. Copy
//          the structure out of guest memory first, then read its fields.
// ERRORS   None.
// THREADS  As plain integers.

#ifndef BULKHEAD_SERVICES_RUNTIME_ENDIAN_H_
#define BULKHEAD_SERVICES_RUNTIME_ENDIAN_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace bulkhead {

enum class ByteOrder { kLittle, kBig };

// `kBytes` bytes that hold an unsigned T.
template <typename T, size_t kBytes, ByteOrder kOrder>
class OrderedInteger {
 public:
  constexpr OrderedInteger() = default;
  // Implicit both ways: a field is used as the integer that it is.
  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr OrderedInteger(T value) { *this = value; }

  constexpr OrderedInteger& operator=(T value) {
    for (size_t i = 0; i < kBytes; ++i) {
      bytes_[Place(i)] = static_cast<uint8_t>(uint64_t{value} >> (8 * i));
    }
    return *this;
  }

  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr operator T() const {
    uint64_t value = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      value |= uint64_t{bytes_[Place(i)]} << (8 * i);
    }
    return static_cast<T>(value);
  }

 private:
  // Where the byte of significance `i` lies.
  static constexpr size_t Place(size_t i) {
    return kOrder == ByteOrder::kLittle ? i : kBytes - 1 - i;
  }

  std::array<uint8_t, kBytes> bytes_ = {};
};

using Le16 = OrderedInteger<uint16_t, 2, ByteOrder::kLittle>;
using Le24 = OrderedInteger<uint32_t, 3, ByteOrder::kLittle>;
using Le32 = OrderedInteger<uint32_t, 4, ByteOrder::kLittle>;
using Le64 = OrderedInteger<uint64_t, 8, ByteOrder::kLittle>;
using Be16 = OrderedInteger<uint16_t, 2, ByteOrder::kBig>;
using Be24 = OrderedInteger<uint32_t, 3, ByteOrder::kBig>;
using Be32 = OrderedInteger<uint32_t, 4, ByteOrder::kBig>;
using Be64 = OrderedInteger<uint64_t, 8, ByteOrder::kBig>;

static_assert(sizeof(Le64) == 8 && alignof(Le64) == 1);
static_assert(sizeof(Be24) == 3 && alignof(Be24) == 1);

namespace endian_internal {
template <typename T, size_t kBytes, ByteOrder kOrder>
constexpr T LoadBytes(const uint8_t* from) {
  uint64_t value = 0;
  for (size_t i = 0; i < kBytes; ++i) {
    const size_t place = kOrder == ByteOrder::kLittle ? i : kBytes - 1 - i;
    value |= uint64_t{from[place]} << (8 * i);
  }
  return static_cast<T>(value);
}
template <size_t kBytes, ByteOrder kOrder>
constexpr void StoreBytes(uint8_t* to, uint64_t value) {
  for (size_t i = 0; i < kBytes; ++i) {
    const size_t place = kOrder == ByteOrder::kLittle ? i : kBytes - 1 - i;
    to[place] = static_cast<uint8_t>(value >> (8 * i));
  }
}
}  // namespace endian_internal

// For byte strings that are no structure, such as a CDB. The caller has
// checked that the bytes are there.
constexpr uint16_t LoadLe16(const uint8_t* from) {
  return endian_internal::LoadBytes<uint16_t, 2, ByteOrder::kLittle>(from);
}
constexpr uint32_t LoadLe32(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 4, ByteOrder::kLittle>(from);
}
constexpr uint64_t LoadLe64(const uint8_t* from) {
  return endian_internal::LoadBytes<uint64_t, 8, ByteOrder::kLittle>(from);
}
constexpr uint16_t LoadBe16(const uint8_t* from) {
  return endian_internal::LoadBytes<uint16_t, 2, ByteOrder::kBig>(from);
}
constexpr uint32_t LoadBe24(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 3, ByteOrder::kBig>(from);
}
constexpr uint32_t LoadBe32(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 4, ByteOrder::kBig>(from);
}
constexpr uint64_t LoadBe64(const uint8_t* from) {
  return endian_internal::LoadBytes<uint64_t, 8, ByteOrder::kBig>(from);
}
constexpr void StoreLe16(uint8_t* to, uint16_t value) {
  endian_internal::StoreBytes<2, ByteOrder::kLittle>(to, value);
}
constexpr void StoreLe32(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<4, ByteOrder::kLittle>(to, value);
}
constexpr void StoreLe64(uint8_t* to, uint64_t value) {
  endian_internal::StoreBytes<8, ByteOrder::kLittle>(to, value);
}
constexpr void StoreBe16(uint8_t* to, uint16_t value) {
  endian_internal::StoreBytes<2, ByteOrder::kBig>(to, value);
}
constexpr void StoreBe24(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<3, ByteOrder::kBig>(to, value);
}
constexpr void StoreBe32(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<4, ByteOrder::kBig>(to, value);
}
constexpr void StoreBe64(uint8_t* to, uint64_t value) {
  endian_internal::StoreBytes<8, ByteOrder::kBig>(to, value);
}

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_ENDIAN_H_
