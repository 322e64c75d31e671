// CheckConsole reads what the demo guest's self-check prints on its console
// (tools/guest/check.sh):
//
//   BULKHEAD-CHECK phase=mkfs result=ok ms=812
//   BULKHEAD-CHECK file=/file-3 bytes=72008 sha256=0123...
//
// TRUST    The bytes are the guest's. Lines are at most 256 bytes, values
//          are taken from a fixed alphabet, 64 files and phases at most; what
//          does not fit is not a report, and the check fails for want of it.
// ERRORS   None: what is not a report is no report.
// THREADS  One thread.

#ifndef BULKHEAD_DEMO_CHECK_CONSOLE_H_
#define BULKHEAD_DEMO_CHECK_CONSOLE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace bulkhead::demo {

class CheckConsole {
 public:
  static constexpr size_t kLongestLine = 256;
  static constexpr size_t kMostReports = 64;
  static constexpr size_t kLinesKept = 40;

  struct File {
    std::string path;
    uint64_t bytes = 0;
    std::string sha256;
  };

  // `on_phase` is called for each phase as it ends.
  using OnPhase = std::function<void(const std::string& phase, bool ok,
                                     uint64_t ms, const std::string& detail)>;
  explicit CheckConsole(OnPhase on_phase) : on_phase_(std::move(on_phase)) {}

  void Add(absl::string_view bytes);

  // The guest said that all of it held.
  bool passed() const { return done_ && !failed_; }
  const std::vector<File>& files() const { return files_; }
  // The last lines of the console, escaped, for when it went wrong.
  const std::deque<std::string>& last_lines() const { return last_lines_; }

 private:
  void EndLine();
  void TakeReport(absl::string_view report);
  void TakeFile(const std::map<std::string, std::string>& fields);

  OnPhase on_phase_;
  std::string line_;
  bool too_long_ = false;
  bool done_ = false;
  bool failed_ = false;
  size_t reports_ = 0;
  std::vector<File> files_;
  std::deque<std::string> last_lines_;
};

}  // namespace bulkhead::demo

#endif  // BULKHEAD_DEMO_CHECK_CONSOLE_H_
