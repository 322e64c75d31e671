// What an input of controller_fuzz makes a driver do to a controller.
//
// TRUST    Any input will do.
// ERRORS   None.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_NVME_TESTING_FUZZED_DRIVER_H_
#define BULKHEAD_SERVICES_NVME_TESTING_FUZZED_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::nvme {

// What the first disk was asked for in the end.
std::vector<scsi::MemoryBackend::Record> DriveFromInput(const uint8_t* data,
                                                        size_t size);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_TESTING_FUZZED_DRIVER_H_
