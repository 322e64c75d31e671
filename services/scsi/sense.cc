#include "services/scsi/sense.h"

#include <cstring>
#include <limits>

#include "services/runtime/endian.h"

namespace bulkhead::scsi {
namespace {

constexpr uint8_t kSksValid = 0x80;
constexpr uint8_t kCommandData = 0x40;  // the pointer is into the CDB
constexpr uint8_t kBitPointerValid = 0x08;

Sense InvalidField(SenseCode code, uint8_t where, uint16_t byte, int bit) {
  Sense sense = MakeSense(SenseKey::kIllegalRequest, code);
  sense.field_pointer = byte;
  sense.field_flags = kSksValid | where;
  if (bit >= 0) {
    sense.field_flags |= kBitPointerValid | static_cast<uint8_t>(bit & 7);
  }
  return sense;
}

size_t EncodeFixed(const Sense& sense, uint8_t* to) {
  std::memset(to, 0, kFixedSenseBytes);
  to[0] = 0x70;
  // The field has 32 bits: a larger number is left out (SPC-4 §4.5.3).
  if (sense.has_information &&
      sense.information <= std::numeric_limits<uint32_t>::max()) {
    to[0] |= 0x80;
    StoreBe32(to + 3, static_cast<uint32_t>(sense.information));
  }
  to[2] = static_cast<uint8_t>(sense.key) | (sense.incorrect_length ? 0x20 : 0);
  to[7] = kFixedSenseBytes - 8;
  to[12] = sense.asc;
  to[13] = sense.ascq;
  if (sense.field_flags != 0) {
    to[15] = sense.field_flags;
    StoreBe16(to + 16, sense.field_pointer);
  }
  return kFixedSenseBytes;
}

size_t EncodeDescriptors(const Sense& sense, uint8_t* to) {
  std::memset(to, 0, kMaxEncodedSenseBytes);
  to[0] = 0x72;
  to[1] = static_cast<uint8_t>(sense.key);
  to[2] = sense.asc;
  to[3] = sense.ascq;
  size_t size = 8;
  if (sense.has_information) {
    to[size + 1] = 0x0a;
    to[size + 2] = 0x80;
    StoreBe64(to + size + 4, sense.information);
    size += 12;
  }
  if (sense.field_flags != 0) {
    to[size] = 0x02;
    to[size + 1] = 0x06;
    to[size + 4] = sense.field_flags;
    StoreBe16(to + size + 5, sense.field_pointer);
    size += 8;
  }
  to[7] = static_cast<uint8_t>(size - 8);
  return size;
}

}  // namespace

Sense MakeSense(SenseKey key, SenseCode code) {
  const auto number = static_cast<uint16_t>(code);
  return {.key = key,
          .asc = static_cast<uint8_t>(number >> 8),
          .ascq = static_cast<uint8_t>(number)};
}

Sense MakeSense(SenseKey key, SenseCode code, uint64_t information) {
  Sense sense = MakeSense(key, code);
  sense.has_information = true;
  sense.information = information;
  return sense;
}

Sense InvalidFieldInCdb(uint16_t byte, int bit) {
  return InvalidField(SenseCode::kInvalidFieldInCdb, kCommandData, byte, bit);
}

Sense InvalidFieldInParameterList(uint16_t byte, int bit) {
  return InvalidField(SenseCode::kInvalidFieldInParameterList, 0, byte, bit);
}

size_t EncodeSense(const Sense& sense, bool descriptor_format,
                   absl::Span<uint8_t> to) {
  if (to.size() < kMaxEncodedSenseBytes) return 0;
  return descriptor_format ? EncodeDescriptors(sense, to.data())
                           : EncodeFixed(sense, to.data());
}

}  // namespace bulkhead::scsi
