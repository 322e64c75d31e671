// A driver that does anything: register accesses, commands of any content,
// doorbells in registers and memory, resets, a backend that finishes late.
//
// An input is a list of short steps, so that libFuzzer can cut and join them.
// Commands come from templates that a driver would send, with some bytes
// changed; or they are a real driver's. Seeds: what Linux does to a controller
// of ours from its probe to its end, recorded and cut by tests/trace (their
// steps begin at kTraced), and drivers in trouble, by hand.

#include <cstddef>
#include <cstdint>

#include "services/nvme/testing/fuzzed_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::nvme::DriveFromInput(data, size);
  return 0;
}
