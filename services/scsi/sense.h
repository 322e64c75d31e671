// Sense data: why a command did not end well, in the form that its reader
// asked for.
//
// TRUST    Plain values of our own.
// ERRORS   None.
// THREADS  None needed.
// SPEC     SPC-4 §4.5 (descriptor format §4.5.2, fixed format §4.5.3).

#ifndef BULKHEAD_SERVICES_SCSI_SENSE_H_
#define BULKHEAD_SERVICES_SCSI_SENSE_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "services/scsi/spec.h"

namespace bulkhead::scsi {

// Trivially copyable: it is part of what a bus saves.
struct Sense {
  SenseKey key = SenseKey::kNoSense;
  uint8_t asc = 0;
  uint8_t ascq = 0;
  // SPC-4 §4.5.2.4.2: FIELD POINTER with C/D, BPV and BIT POINTER.
  uint8_t field_flags = 0;  // 0: no field pointer
  uint16_t field_pointer = 0;
  bool has_information = false;
  bool incorrect_length = false;
  uint64_t information = 0;

  SenseCode code() const { return static_cast<SenseCode>(asc << 8 | ascq); }
};

Sense MakeSense(SenseKey key, SenseCode code);
// With an LBA (or another number, where a command's section says so).
Sense MakeSense(SenseKey key, SenseCode code, uint64_t information);

// ILLEGAL REQUEST, INVALID FIELD IN CDB, at CDB byte `byte`. `bit`: the
// highest bit of the field, or -1 when the field is whole bytes.
Sense InvalidFieldInCdb(uint16_t byte, int bit = -1);
Sense InvalidFieldInParameterList(uint16_t byte, int bit = -1);

inline constexpr size_t kFixedSenseBytes = 18;
inline constexpr size_t kMaxEncodedSenseBytes = 8 + 12 + 8;

// Writes sense data to `to` (at least kMaxEncodedSenseBytes); returns its size.
size_t EncodeSense(const Sense& sense, bool descriptor_format,
                   absl::Span<uint8_t> to);

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_SENSE_H_
