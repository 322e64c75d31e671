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
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bulkhead {

enum class ByteOrder { kLittle, kBig };

namespace endian_internal {

constexpr bool IsNative(ByteOrder order) {
  return (order == ByteOrder::kLittle) ==
         (std::endian::native == std::endian::little);
}

template <typename T>
T Swapped(T value) {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  return static_cast<T>(__builtin_bswap64(value));
}

// An integer of the machine's own sizes is one load or store, and a swap at
// most; a compiler does not always make that of a loop over its bytes.
template <typename T, size_t kBytes, ByteOrder kOrder>
T LoadBytes(const uint8_t* from) {
  if constexpr (kBytes == sizeof(T)) {
    T value;
    std::memcpy(&value, from, kBytes);
    return IsNative(kOrder) ? value : Swapped(value);
  } else {
    T value = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      const size_t place = kOrder == ByteOrder::kLittle ? i : kBytes - 1 - i;
      value |= T{from[place]} << (8 * i);
    }
    return value;
  }
}

template <typename T, size_t kBytes, ByteOrder kOrder>
void StoreBytes(uint8_t* to, T value) {
  if constexpr (kBytes == sizeof(T)) {
    if (!IsNative(kOrder)) value = Swapped(value);
    std::memcpy(to, &value, kBytes);
  } else {
    for (size_t i = 0; i < kBytes; ++i) {
      const size_t place = kOrder == ByteOrder::kLittle ? i : kBytes - 1 - i;
      to[place] = static_cast<uint8_t>(value >> (8 * i));
    }
  }
}

}  // namespace endian_internal

// `kBytes` bytes that hold an unsigned T.
template <typename T, size_t kBytes, ByteOrder kOrder>
class OrderedInteger {
 public:
  OrderedInteger() = default;
  // Implicit both ways: a field is used as the integer that it is.
  // NOLINTNEXTLINE(google-explicit-constructor)
  OrderedInteger(T value) { *this = value; }

  OrderedInteger& operator=(T value) {
    endian_internal::StoreBytes<T, kBytes, kOrder>(bytes_.data(), value);
    return *this;
  }

  // NOLINTNEXTLINE(google-explicit-constructor)
  operator T() const {
    return endian_internal::LoadBytes<T, kBytes, kOrder>(bytes_.data());
  }

 private:
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

// For byte strings that are no structure, such as a CDB. The caller has
// checked that the bytes are there.
inline uint16_t LoadLe16(const uint8_t* from) {
  return endian_internal::LoadBytes<uint16_t, 2, ByteOrder::kLittle>(from);
}
inline uint32_t LoadLe32(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 4, ByteOrder::kLittle>(from);
}
inline uint64_t LoadLe64(const uint8_t* from) {
  return endian_internal::LoadBytes<uint64_t, 8, ByteOrder::kLittle>(from);
}
inline uint16_t LoadBe16(const uint8_t* from) {
  return endian_internal::LoadBytes<uint16_t, 2, ByteOrder::kBig>(from);
}
inline uint32_t LoadBe24(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 3, ByteOrder::kBig>(from);
}
inline uint32_t LoadBe32(const uint8_t* from) {
  return endian_internal::LoadBytes<uint32_t, 4, ByteOrder::kBig>(from);
}
inline uint64_t LoadBe64(const uint8_t* from) {
  return endian_internal::LoadBytes<uint64_t, 8, ByteOrder::kBig>(from);
}
inline void StoreLe16(uint8_t* to, uint16_t value) {
  endian_internal::StoreBytes<uint16_t, 2, ByteOrder::kLittle>(to, value);
}
inline void StoreLe32(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<uint32_t, 4, ByteOrder::kLittle>(to, value);
}
inline void StoreLe64(uint8_t* to, uint64_t value) {
  endian_internal::StoreBytes<uint64_t, 8, ByteOrder::kLittle>(to, value);
}
inline void StoreBe16(uint8_t* to, uint16_t value) {
  endian_internal::StoreBytes<uint16_t, 2, ByteOrder::kBig>(to, value);
}
inline void StoreBe24(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<uint32_t, 3, ByteOrder::kBig>(to, value);
}
inline void StoreBe32(uint8_t* to, uint32_t value) {
  endian_internal::StoreBytes<uint32_t, 4, ByteOrder::kBig>(to, value);
}
inline void StoreBe64(uint8_t* to, uint64_t value) {
  endian_internal::StoreBytes<uint64_t, 8, ByteOrder::kBig>(to, value);
}

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_ENDIAN_H_
