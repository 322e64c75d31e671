// CheckAndComplete checks everything about a description that can be checked
// without looking at the host, and fills in the defaults: name, memory, CPUs,
// formats left open stay AUTO, and each device has a slot.
//
// TRUST    The owner's own words.
// ERRORS   All mistakes at once, joined; each UserError names its field.
// THREADS  Any.

#ifndef BULKHEAD_VM_CHECK_H_
#define BULKHEAD_VM_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "vm/description.h"

namespace bulkhead::vm {

absl::Status CheckAndComplete(Description* description);

// The slot's device number of a checked "00:04.0".
uint32_t SlotNumber(const VmDevice& device);

// Of a checked description.
uint64_t RamBytes(const VmSpec& spec);

}  // namespace bulkhead::vm

#endif  // BULKHEAD_VM_CHECK_H_
