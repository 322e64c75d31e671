// Our disks with RecordingDevice before them.
//
// TRUST    For tests: drivers are believed.
// ERRORS   The device's own.
// THREADS  The service's loop writes to the trace.

#ifndef BULKHEAD_TESTS_TRACE_RECORDER_H_
#define BULKHEAD_TESTS_TRACE_RECORDER_H_

#include <cstdio>

#include "services/runtime/testing/frame_rig.h"

namespace bulkhead::testing {

// `trace` outlives the device.
DeviceFactory RecordedNvme(FILE* trace);
DeviceFactory RecordedVirtioBlk(FILE* trace);

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_TRACE_RECORDER_H_
