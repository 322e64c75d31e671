// Supervisor starts what is planned, keeps it company, and ends all of it,
// whatever ends first: the guest, QEMU, a device, the user, the terminal.
//
//   Start      each process in its order, with a line when it is ready
//   Run        until the VM is over
//   Shutdown   asks, waits, kills, reaps; afterwards no process is left
//   Result     what `vm` exits with
//
// A device that dies takes nobody with it: the guest sees its errors, the VM
// goes on, and the exit status tells of it.
//
// THREADS  One thread. SIGCHLD, SIGINT, SIGTERM, SIGHUP and SIGQUIT are blocked
//          and read by it.

#ifndef BULKHEAD_LAUNCHER_SUPERVISOR_H_
#define BULKHEAD_LAUNCHER_SUPERVISOR_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/error.h"
#include "launcher/event_loop.h"
#include "launcher/output.h"
#include "launcher/plan.h"
#include "launcher/process.h"
#include "launcher/qmp.h"
#include "launcher/resources.h"
#include "launcher/terminal.h"

namespace bulkhead::launcher {

struct SupervisorOptions {
  bool interactive = false;  // the user's terminal is the guest's
  bool read_stdin = false;   // or what comes from a pipe is
  std::chrono::seconds grace{10};
  // Takes the guest's console instead of stdout.
  std::function<void(absl::string_view bytes)> console;
  // The VM is given up when it has not ended by itself by then.
  Clock::time_point deadline = Clock::time_point::max();
};

// Holds back the signals that a Supervisor answers until there is one. To be
// called before anything is made that has to be taken away again.
void BlockWatchedSignals();

class Supervisor {
 public:
  Supervisor(const Plan& plan, Resources* resources, EventLoop* loop,
             Output* output, SupervisorOptions options);
  ~Supervisor();

  absl::Status Start();
  // The console is the guest's from here on.
  void Run();
  void Shutdown();
  // Prints the summary.
  ExitCode Result();

  bool deadline_passed() const { return deadline_passed_; }
  const std::vector<std::unique_ptr<Process>>& processes() const {
    return processes_;
  }

 private:
  absl::Status StartOne(const PlannedProcess& planned);
  absl::Status WaitReady(Process* process);
  absl::Status StartFailure(const Process& process, bool late) const;
  Configure ConfigureFor(const PlannedProcess& planned) const;
  void OnSignals();
  void OnMonitor();
  void OnConsole();
  void OnStdin();
  void NoticeEnds();
  void PrintStatus();
  void AskToStop(bool at_once);
  bool AllExited() const;
  void EndQemu();
  std::string Seconds() const;

  const Plan& plan_;
  Resources* const resources_;
  EventLoop* const loop_;
  Output* const output_;
  const SupervisorOptions options_;
  const Clock::time_point started_ = Clock::now();

  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<bool> noticed_;  // whose end has been told
  Process* qemu_ = nullptr;
  std::unique_ptr<Qmp> qmp_;
  Fd signals_;
  Terminal terminal_;
  Keys keys_;
  std::string to_guest_;
  bool console_paused_ = false;
  bool stop_asked_ = false;  // the user wants the VM to end
  bool stop_at_once_ = false;
  bool running_ = false;
  bool shutting_down_ = false;
  bool deadline_passed_ = false;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_SUPERVISOR_H_
