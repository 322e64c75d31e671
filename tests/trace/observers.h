// How to follow the drivers of our disks through guest memory.
//
// TRUST    For tests: drivers are believed.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §4.1, §5.7; VIRTIO 1.2 §2.7, §2.8, §4.1.4.3.

#ifndef BULKHEAD_TESTS_TRACE_OBSERVERS_H_
#define BULKHEAD_TESTS_TRACE_OBSERVERS_H_

#include <cstdio>
#include <memory>

#include "services/runtime/guest_memory.h"
#include "tests/trace/recording_device.h"

namespace bulkhead::testing {

// Of BAR 0.
std::unique_ptr<DriverObserver> ObserveNvme(GuestMemory& memory, FILE* trace);
// Of virtio's structures in their BAR, as services/virtio lays them out.
std::unique_ptr<DriverObserver> ObserveVirtioBlk(GuestMemory& memory,
                                                 FILE* trace);

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_TRACE_OBSERVERS_H_
