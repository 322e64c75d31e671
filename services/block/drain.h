// Drain waits until a backend has nothing in flight: for a device whose
// requests read and write guest memory themselves, before that memory goes away
// or the device is reset. What a disk's limits hold back has half of the time;
// then it ends with kUnavailable: better than a device that is lost whole.
//
// TRUST    Nothing.
// ERRORS   false: the deadline has passed, and requests are still in flight.
// THREADS  The loop. Completions are called from inside.

#ifndef BULKHEAD_SERVICES_BLOCK_DRAIN_H_
#define BULKHEAD_SERVICES_BLOCK_DRAIN_H_

#include <cstdint>

#include "services/block/backend.h"

namespace bulkhead::block {

// `deadline_ns` is on CLOCK_MONOTONIC.
bool Drain(Backend& backend, uint64_t deadline_ns);

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_DRAIN_H_
