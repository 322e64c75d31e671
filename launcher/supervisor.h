// Supervisor starts what is planned, keeps it company, and ends all of it,
// whatever ends first: the guest, QEMU, a device, the user, the terminal.
//
// A device that dies takes nobody with it: the guest sees its errors, the VM
// goes on, and the exit status tells of it. What happens is told to the console
// process, which alone speaks to people; the VM does not outlive it.
//
// TRUST    The plan is `vm`'s, who was the same process before. What comes from
//          children is hostile: see process.h.
// ERRORS   The exit status; the console says why in words.
// THREADS  One thread. SIGCHLD, SIGINT, SIGTERM, SIGHUP and SIGQUIT are blocked
//          and read by it.

#ifndef BULKHEAD_LAUNCHER_SUPERVISOR_H_
#define BULKHEAD_LAUNCHER_SUPERVISOR_H_

#include <memory>
#include <set>
#include <vector>

#include "base/event_loop.h"
#include "base/exit_code.h"
#include "base/fd.h"
#include "launcher/process.h"
#include "launcher/terminal.h"
#include "launcher/user_socket.h"
#include "proto/launch.pb.h"

namespace bulkhead::launcher {

class Supervisor {
 public:
  explicit Supervisor(const LaunchPlan& plan);
  ~Supervisor();

  // From the first start to the last end. No process is left afterwards.
  ExitCode Run();

 private:
  ExitCode StartAll();
  ExitCode StartOne(const JailedProcess& planned);
  ExitCode FailedToStart(const Process& process, bool late);
  void AwaitEnd();
  void EndQemu();
  void EndDevices();
  void EndConsole();
  ExitCode Result() const;

  void OnSignals();
  void OnFrame(Process* process, const Frame& frame);
  void OnEnd(Process* process);
  void TakeRequest(ConsoleRequest::Kind kind);
  void AskToStop(bool at_once);

  // All but the console.
  bool AllExited() const;
  bool Await(const std::function<bool()>& done, Clock::duration limit);
  // An event for the console, to be filled in and told.
  LauncherEvent* NewEvent(size_t process);
  LauncherEvent* EventOf(const Process* process);
  void Tell();
  void TellStage(LauncherEvent::Stage stage);

  const LaunchPlan& plan_;
  EventLoop loop_;
  Terminal terminal_;
  Fd signals_;
  std::vector<std::unique_ptr<Process>> processes_;  // the console first
  UserSocket user_socket_;
  Process* console_ = nullptr;
  Process* qemu_ = nullptr;
  LauncherEvent event_;
  std::set<const Process*> statistics_;  // who has sent his
  bool stop_asked_ = false;
  bool stop_at_once_ = false;
  bool terminal_closed_ = false;
  bool shutting_down_ = false;
  ConsoleRequest::Kind guest_end_ = ConsoleRequest::NOTHING;
};

}  // namespace bulkhead::launcher

#endif  // BULKHEAD_LAUNCHER_SUPERVISOR_H_
