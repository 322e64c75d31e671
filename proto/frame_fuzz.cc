// A packet from a hostile peer: the first byte is the number of fds that came
// with it, the rest is the packet. Whatever is accepted obeys the fd rules and
// is the same frame after a round trip.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "proto/channel.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t fd_count = data[0] % (bulkhead::kMaxFrameFds + 1);
  bulkhead::Frame frame;
  if (!bulkhead::ParseFrame({data + 1, size - 1}, fd_count,
                            /*expected_sequence=*/1, &frame)
           .ok()) {
    return 0;
  }
  if (frame.sequence() != 1) std::abort();
  switch (frame.body_case()) {
    case bulkhead::Frame::kHello:
    case bulkhead::Frame::kSetInterrupts:
      break;
    case bulkhead::Frame::kSaveState:
    case bulkhead::Frame::kLoadState:
    case bulkhead::Frame::kReplaceChannel:
      if (fd_count != 1) std::abort();
      break;
    default:
      if (fd_count != 0) std::abort();
  }
  const std::string bytes = frame.SerializeAsString();
  bulkhead::Frame again;
  const absl::Status status = bulkhead::ParseFrame(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, fd_count,
      1, &again);
  if (!status.ok() || again.SerializeAsString() != bytes) std::abort();
  return 0;
}
