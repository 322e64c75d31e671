#include "console/log_lines.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/error.h"

namespace bulkhead::console {

void LogLines::Add(absl::string_view bytes, Clock::time_point now) {
  for (const char c : bytes) {
    if (c == '\n') {
      EndLine(now);
    } else if (line_.size() < kLongestLine) {
      line_.push_back(c);
    } else {
      cut_ = true;
    }
  }
}

void LogLines::Finish(Clock::time_point now) {
  if (!line_.empty()) EndLine(now);
  if (suppressed_ > 0) {
    sink_(absl::StrCat(name_, ": ", suppressed_, " lines suppressed"));
    suppressed_ = 0;
  }
}

void LogLines::EndLine(Clock::time_point now) {
  const std::chrono::duration<double> since = now - refilled_;
  refilled_ = now;
  tokens_ = std::min(kBurst, tokens_ + since.count() * kLinesPerSecond);
  if (tokens_ < 1) {
    ++suppressed_;
  } else {
    tokens_ -= 1;
    if (suppressed_ > 0) {
      sink_(absl::StrCat(name_, ": ", suppressed_, " lines suppressed"));
      suppressed_ = 0;
    }
    sink_(absl::StrCat(name_, ": ", Escape(line_), cut_ ? " ..." : ""));
  }
  line_.clear();
  cut_ = false;
}

}  // namespace bulkhead::console
