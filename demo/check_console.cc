#include "demo/check_console.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/error.h"

namespace bulkhead::demo {
namespace {

constexpr absl::string_view kMark = "BULKHEAD-CHECK ";

// key=value key="some words": false when it is not that.
bool Split(absl::string_view text, std::map<std::string, std::string>* fields) {
  while (!text.empty()) {
    const size_t equals = text.find('=');
    if (equals == absl::string_view::npos || equals == 0) return false;
    const std::string key(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    const bool quoted = !text.empty() && text[0] == '"';
    if (quoted) text.remove_prefix(1);
    const size_t end = text.find(quoted ? '"' : ' ');
    if (quoted && end == absl::string_view::npos) return false;
    (*fields)[key] = std::string(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end == absl::string_view::npos
                                                 ? text.size()
                                                 : end + (quoted ? 1 : 0)));
    while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  }
  return true;
}

bool IsWord(const std::string& text, const char* others) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [others](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::StrContains(others, std::string(1, c));
         });
}

}  // namespace

void CheckConsole::Add(absl::string_view bytes) {
  for (const char c : bytes) {
    if (c == '\n') {
      EndLine();
    } else if (line_.size() == kLongestLine) {
      too_long_ = true;
    } else if (c != '\r') {
      line_.push_back(c);
    }
  }
}

void CheckConsole::EndLine() {
  // Firmware and kernel may have left something in front of it.
  const size_t mark = line_.find(kMark.data());
  if (!too_long_ && mark != std::string::npos) {
    TakeReport(absl::string_view(line_).substr(mark + kMark.size()));
  }
  last_lines_.push_back(Escape(line_));
  if (last_lines_.size() > kLinesKept) last_lines_.pop_front();
  line_.clear();
  too_long_ = false;
}

void CheckConsole::TakeReport(absl::string_view report) {
  std::map<std::string, std::string> fields;
  if (++reports_ > kMostReports || !Split(report, &fields)) return;
  if (fields.count("file") != 0) {
    TakeFile(fields);
    return;
  }
  const std::string& phase = fields["phase"];
  const std::string& result = fields["result"];
  uint64_t ms = 0;
  if (!IsWord(phase, "-_") || !absl::SimpleAtoi(fields["ms"], &ms) ||
      (result != "ok" && result != "fail")) {
    return;
  }
  const bool ok = result == "ok";
  if (!ok) failed_ = true;
  if (phase == "done") done_ = true;
  on_phase_(phase, ok, ms, Escape(fields["detail"]));
}

void CheckConsole::TakeFile(const std::map<std::string, std::string>& fields) {
  const auto value = [&](const char* key) {
    const auto found = fields.find(key);
    return found == fields.end() ? std::string() : found->second;
  };
  File file{value("file"), 0, value("sha256")};
  // The path becomes an argument of debugfs.
  if (file.path.size() < 2 || file.path[0] != '/' ||
      !IsWord(file.path.substr(1), "-_") ||
      !absl::SimpleAtoi(value("bytes"), &file.bytes) ||
      file.sha256.size() != 64 || !IsWord(file.sha256, "")) {
    return;
  }
  files_.push_back(file);
}

}  // namespace bulkhead::demo
