// Log writes lines to the service's log fd, at a limited rate, each with one
// write. The launcher stamps the device's identity on them.
//
// TRUST    A line may hold what a guest or an image chose: control bytes and
//          bytes above ASCII are written as \xNN, so a line cannot be forged or
//          a terminal be driven.
// ERRORS   None: a line that does not fit the pipe is dropped and counted, if
//          the launcher has made the pipe non-blocking, as it should.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_RUNTIME_LOG_H_
#define BULKHEAD_SERVICES_RUNTIME_LOG_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "services/runtime/device.h"

namespace bulkhead {

class Log {
 public:
  static constexpr size_t kMaxLineBytes = 512;
  static constexpr uint32_t kBurst = 50;  // lines at once
  static constexpr Nanoseconds kPerLine = 100'000'000;

  explicit Log(int fd) : fd_(fd) {}

  void Write(Nanoseconds now, absl::string_view line);
  // Past the limit: for the last words of a service.
  void WriteAlways(absl::string_view line);

  // Lines that were never written.
  uint64_t suppressed() const { return suppressed_; }

 private:
  bool TakeToken(Nanoseconds now);

  int fd_;
  uint32_t tokens_ = kBurst;
  Nanoseconds refilled_ = 0;
  uint64_t suppressed_ = 0;
  uint64_t reported_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_LOG_H_
