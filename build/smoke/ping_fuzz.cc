#include <cstdint>
#include <cstdlib>
#include <string>

#include "build/smoke/ping.pb.h"

// What parses also survives being written and parsed again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::smoke::Ping ping;
  if (!ping.ParseFromArray(data, static_cast<int>(size))) return 0;
  bulkhead::smoke::Ping again;
  if (!again.ParseFromString(ping.SerializeAsString())) std::abort();
  if (again.payload() != ping.payload()) std::abort();
  return 0;
}
