// LogLines turns what a jailed process writes to its log pipe into lines that
// can be trusted to be what they look like: each stamped with the process's
// name, control bytes escaped, length and rate limited.
//
// TRUST    The bytes are hostile: a guest may have taken the process over. It
//          can say anything after its own name, and neither forge another's
//          line, steer the terminal, nor flood.
// ERRORS   None: what does not fit is cut, counted and said.
// THREADS  One thread.

#ifndef BULKHEAD_CONSOLE_LOG_LINES_H_
#define BULKHEAD_CONSOLE_LOG_LINES_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "base/event_loop.h"

namespace bulkhead::console {

class LogLines {
 public:
  static constexpr size_t kLongestLine = 512;
  // Token bucket.
  static constexpr double kBurst = 40;
  static constexpr double kLinesPerSecond = 5;

  using Sink = std::function<void(const std::string& line)>;

  LogLines(std::string name, Sink sink)
      : name_(std::move(name)), sink_(std::move(sink)) {}

  void Add(absl::string_view bytes, Clock::time_point now);
  // The process is gone: what it had not ended with a newline is a line too.
  void Finish(Clock::time_point now);

 private:
  void EndLine(Clock::time_point now);

  std::string name_;
  Sink sink_;
  std::string line_;
  bool cut_ = false;
  double tokens_ = kBurst;
  uint64_t suppressed_ = 0;
  Clock::time_point refilled_{};
};

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_LOG_LINES_H_
