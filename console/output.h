// Output prints: status and log lines to stderr, the guest's console to stdout.
// A reader who has stopped reading must not stop the supervisor: lines that do
// not fit are dropped and counted, console bytes wait and slow the guest down.
//
// TRUST    Lines are escaped by who makes them; the guest's bytes go out as
//          they are.
// ERRORS   None: a reader who is gone shows in console_closed().
// THREADS  One thread.

#ifndef BULKHEAD_CONSOLE_OUTPUT_H_
#define BULKHEAD_CONSOLE_OUTPUT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "base/event_loop.h"

namespace bulkhead::console {

class Output {
 public:
  explicit Output(EventLoop* loop);
  ~Output();

  // One line to stderr; a newline is added.
  void Line(const std::string& text);

  // Bytes to stdout. False: too many are waiting already; try when Drained.
  bool Console(absl::string_view bytes);
  bool console_full() const { return waiting_.size() >= kMostWaiting; }
  // stdout is gone (a closed terminal or pipe).
  bool console_closed() const { return closed_; }
  // Writes what waits, for at most a second.
  void Flush();

 private:
  static constexpr size_t kMostWaiting = 64 * 1024;

  void WriteSome();

  EventLoop* loop_;
  std::string waiting_;
  bool watching_ = false;
  bool closed_ = false;
  uint64_t dropped_ = 0;
};

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_OUTPUT_H_
