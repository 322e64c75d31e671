// Console is the process of a VM that speaks to people: it owns the user's
// terminal, the guest's serial port, QEMU's monitor and every process's log
// pipe, and puts into words what the launcher tells it. The launcher itself
// reads none of these.
//
// TRUST    The guest's bytes go to the terminal as they are. Log lines, QMP and
//          messages that the launcher relays are hostile: bounded, escaped and
//          limited. The launcher's events are believed; the process is jailed
//          all the same, because so much hostile text ends here.
// ERRORS   The end of the control channel ends it.
// THREADS  One thread.

#ifndef BULKHEAD_CONSOLE_CONSOLE_H_
#define BULKHEAD_CONSOLE_CONSOLE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/error.h"
#include "base/event_loop.h"
#include "console/keys.h"
#include "console/log_lines.h"
#include "console/output.h"
#include "console/qmp.h"
#include "proto/channel.h"
#include "sandbox/violation.h"

namespace bulkhead::console {

class Console {
 public:
  // `control` has delivered `config` and outlives the Console.
  Console(Channel* control, const ConsoleConfig& config);

  // Until the launcher says that all is over, or is gone.
  void Run();

 private:
  // One process, as far as its log and the launcher tell of it.
  struct Subject {
    const ConsoleConfig::Process& described;
    LogLines lines;
    int log_fd;      // -1: closed
    int program_fd;  // or none is there: see program_inode
    int pid = 0;
    std::optional<ProcessEnd> end;
    std::optional<sandbox::Violation> violation;
    std::optional<Statistics> statistics;
  };

  // "crashed with signal 11 (Segmentation fault) at ...": it has ended.
  static std::string EndText(const Subject& subject);

  void OnControl();
  void OnLog(Subject* subject);
  void WatchGuest();
  void OnGuest();
  void OnMonitor();
  void OnStdin();
  void TakeKey(char byte, std::string* to_guest);

  void Take(const LauncherEvent& event);
  void TakeStage(LauncherEvent::Stage stage);
  void TellReady(size_t index, const ProcessReady& ready);
  void TellFailure(const Subject& subject, const StartFailure& failure);
  void TellViolation(const Subject& subject);
  void TellEnd(Subject* subject);
  void PrintStatus();
  void PrintSummary();
  std::string EndOfVm() const;

  void Line(const std::string& text);  // with the time in front
  void TellError(const UserError& error);
  void Request(ConsoleRequest::Kind kind);
  void RequestStop(ConsoleRequest::Kind kind);
  void LoseTerminal();
  const Subject* Qemu() const;
  std::string Seconds() const;

  Channel& control_;
  const ConsoleConfig config_;
  const Clock::time_point started_ = Clock::now();
  EventLoop loop_;
  Output output_;
  Keys keys_;
  Qmp qmp_;
  std::vector<std::unique_ptr<Subject>> subjects_;
  bool guest_open_ = false;
  bool monitor_open_ = false;
  bool guest_paused_ = false;
  bool qemu_ready_told_ = false;
  bool stuck_told_ = false;
  bool guest_end_told_ = false;
  bool stop_told_ = false;
  bool running_ = false;
  bool over_ = false;
};

}  // namespace bulkhead::console

#endif  // BULKHEAD_CONSOLE_CONSOLE_H_
