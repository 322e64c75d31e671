#include "services/runtime/log.h"

#include <inttypes.h>
#include <stdio.h>

#include <algorithm>
#include <iterator>

#include "services/runtime/fd_io.h"

namespace bulkhead {
namespace {

// Appends `text` escaped to [at, end); returns the new end of what is written.
// Stops before an escape that does not fit.
char* Escape(absl::string_view text, char* at, const char* end) {
  static constexpr char kHex[] = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
      if (end - at < 1) break;
      *at++ = c;
    } else {
      if (end - at < 4) break;
      *at++ = '\\';
      *at++ = 'x';
      *at++ = kHex[byte >> 4];
      *at++ = kHex[byte & 15];
    }
  }
  return at;
}

}  // namespace

bool Log::TakeToken(Nanoseconds now) {
  if (now > refilled_) {
    const Nanoseconds earned = (now - refilled_) / kPerLine;
    tokens_ =
        static_cast<uint32_t>(std::min<Nanoseconds>(kBurst, tokens_ + earned));
    refilled_ = tokens_ == kBurst ? now : refilled_ + earned * kPerLine;
  }
  if (tokens_ == 0) return false;
  --tokens_;
  return true;
}

void Log::Write(Nanoseconds now, absl::string_view line) {
  if (!TakeToken(now)) {
    ++suppressed_;
    return;
  }
  if (suppressed_ != reported_) {
    char note[64];
    snprintf(note, sizeof note, "%" PRIu64 " lines suppressed",
             suppressed_ - reported_);
    reported_ = suppressed_;
    WriteAlways(note);
  }
  WriteAlways(line);
}

void Log::WriteAlways(absl::string_view line) {
  char buffer[kMaxLineBytes];
  char* end = Escape(line, buffer, std::end(buffer) - 1);
  *end++ = '\n';
  const ssize_t size_bytes = end - buffer;
  if (WriteFd(fd_, buffer, static_cast<size_t>(size_bytes)) != size_bytes) {
    ++suppressed_;
  }
}

}  // namespace bulkhead
