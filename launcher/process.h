// Process is one jailed child while it lives: its log, its control channel, its
// end.
//
// TRUST    Everything that comes from the child is hostile: log lines are
//          stamped and limited, frames are checked by Channel, and a child that
//          breaks the protocol is killed. Its messages are shown, escaped.
// ERRORS   Start: what sandbox::Spawn says. Later: `failure()`.
// THREADS  One thread.

#ifndef BULKHEAD_LAUNCHER_PROCESS_H_
#define BULKHEAD_LAUNCHER_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "launcher/event_loop.h"
#include "launcher/fd.h"
#include "launcher/log_lines.h"
#include "launcher/plan.h"
#include "launcher/resources.h"
#include "proto/channel.h"
#include "sandbox/jail.h"
#include "sandbox/violation.h"

namespace bulkhead::launcher {

class Process {
 public:
  // Spawns it, watches it in `loop`, and, unless it is QEMU, sends Hello and
  // `configure`. Lines go to `sink`.
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const PlannedProcess& planned, Resources* resources,
      const Configure& configure, EventLoop* loop, LogLines::Sink sink);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const PlannedProcess& planned() const { return planned_; }
  const std::string& name() const { return planned_.name; }
  pid_t pid() const { return child_.pid; }
  const std::vector<std::string>& unavailable() const {
    return child_.unavailable;
  }

  bool ready() const { return ready_; }
  bool exited() const { return exited_; }
  // It ended by itself with success, or because it was told to.
  bool ended_well() const;
  // "killed by signal 9 (Killed)", "exited with status 1"
  std::string EndText() const;
  // What it said before it failed (Fault), or what was wrong with its frames.
  const std::string& failure() const { return failure_; }
  const std::optional<Statistics>& statistics() const { return statistics_; }
  void set_violation(const sandbox::Violation& violation) {
    violation_ = violation;
  }
  const std::optional<sandbox::Violation>& violation() const {
    return violation_;
  }

  void RequestStatistics();
  // Tells it to end: its control channel closes.
  void CloseControl();
  void Kill();
  void SetStopping() { stopping_ = true; }

  // QEMU's console and monitor; invalid for others.
  int console_fd() const { return console_.get(); }
  int monitor_fd() const { return monitor_.get(); }

 private:
  Process(const PlannedProcess& planned, EventLoop* loop, LogLines::Sink sink)
      : planned_(planned), loop_(loop), lines_(planned.name, std::move(sink)) {}

  absl::Status Spawn(Resources* resources);
  void SendFirstFrames(const Configure& configure);
  void OnLog();
  void OnControl();
  void TakeFrame(const Frame& frame);
  void OnExit();
  void Fail(const std::string& why);

  const PlannedProcess planned_;
  EventLoop* const loop_;
  LogLines lines_;
  sandbox::Process child_;
  Fd pidfd_;
  Fd log_;
  Fd console_;
  Fd monitor_;
  std::unique_ptr<Channel> control_;
  bool ready_ = false;
  bool exited_ = false;
  bool stopping_ = false;
  int exit_code_ = 0;    // siginfo_t.si_code
  int exit_status_ = 0;  // siginfo_t.si_status
  std::string failure_;
  std::optional<Statistics> statistics_;
  std::optional<sandbox::Violation> violation_;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_PROCESS_H_
