// What an input of device_fuzz makes a driver do to a device.
//
// TRUST    Any input will do.
// ERRORS   A device that does not work for a driver that starts anew afterwards
//          ends the program.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_FUZZED_DRIVER_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_FUZZED_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::virtio_blk {

// What the disk was asked for in the end.
std::vector<scsi::MemoryBackend::Record> DriveFromInput(const uint8_t* data,
                                                        size_t size);

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_TESTING_FUZZED_DRIVER_H_
