// A driver that does anything: register accesses, rings with bytes of its
// choice, real requests, resets, completions held back and let go. Seeds: what
// Linux does to a device of ours from its probe to its end, recorded and cut by
// tests/trace (their steps begin at kTraced), and drivers in trouble, by hand.

#include <cstddef>
#include <cstdint>

#include "services/virtio_blk/testing/fuzzed_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::virtio_blk::DriveFromInput(data, size);
  return 0;
}
