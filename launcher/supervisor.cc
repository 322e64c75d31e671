#include "launcher/supervisor.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/violation.h"
#include "sandbox/waiting_child.h"

namespace bulkhead::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// From exec to Ready: a few milliseconds, and an image check on a slow disk.
constexpr seconds kServiceStart{15};
constexpr seconds kQemuStart{60};
// From a closed control channel to the exit: what is in flight, and a flush.
constexpr seconds kServiceStop{10};
constexpr seconds kQemuQuit{5};
constexpr seconds kConsoleStop{3};
constexpr seconds kKill{10};
// Its exit follows what a process said before it failed.
constexpr seconds kLastWords{2};
constexpr milliseconds kStatisticsWait{500};

void Print(const std::string& text) {
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, text.data(), text.size());
}

void Fill(const sandbox::Report& report, JailStep* out) {
  out->set_step(static_cast<uint32_t>(report.step));
  out->set_error(report.error);
  out->set_detail(report.detail);
}

void Fill(const sandbox::Place& place, CodePlace* out) {
  out->set_instruction_pointer(place.instruction_pointer);
  out->set_file_offset(place.file_offset);
  out->set_file_inode(place.file_inode);
  out->set_file(place.file);
}

void Fill(const sandbox::Violation& violation, ProcessViolation* out) {
  out->set_number(violation.number);
  out->set_abi(static_cast<uint32_t>(violation.abi));
  for (int i = 0; i < 6; ++i) {
    out->add_args(violation.args[i]);
    out->add_strings(violation.strings[i]);
  }
  out->set_filters(violation.filters);
  out->set_pid(violation.pid);
  out->set_thread(violation.thread);
  Fill(violation, out->mutable_place());
}

// What the console cannot say: that there is none.
void Complain(const Process& console) {
  Print(absl::StrCat("error BH-D402: the console process ended, code ",
                     console.end().si_code, ", status ",
                     console.end().si_status, ": the VM ends with it\n"));
}

}  // namespace

Supervisor::Supervisor(const LaunchPlan& plan)
    : plan_(plan), user_socket_(plan.user_socket_fd(), &loop_, &processes_) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  loop_.Add(signals_.get(), EPOLLIN, [this](uint32_t) { OnSignals(); });
}

Supervisor::~Supervisor() { loop_.Remove(signals_.get()); }

ExitCode Supervisor::Run() {
  const ExitCode failure = StartAll();
  if (failure == kExitOk) AwaitEnd();
  shutting_down_ = true;
  if (qemu_ != nullptr && !qemu_->exited()) EndQemu();
  EndDevices();
  EndConsole();
  // Those that were never let go.
  for (int i = static_cast<int>(processes_.size()); i < plan_.processes_size();
       ++i) {
    sandbox::EndChild(plan_.processes(i).pid(), plan_.processes(i).pidfd());
  }
  return failure != kExitOk ? failure : Result();
}

ExitCode Supervisor::StartAll() {
  for (const JailedProcess& planned : plan_.processes()) {
    const ExitCode failure = StartOne(planned);
    if (failure != kExitOk) return failure;
    if (stop_asked_) {
      TellStage(LauncherEvent::STOPPED_EARLY);
      // The console's death asks to stop, too: Result tells of it.
      const bool died = console_->exited() && !console_->ended_well();
      return died ? kExitOk : kExitNotReady;
    }
  }
  TellStage(LauncherEvent::RUNNING);
  if (plan_.raw_terminal()) terminal_.MakeRaw();
  return kExitOk;
}

ExitCode Supervisor::StartOne(const JailedProcess& planned) {
  const auto start = Clock::now();
  sandbox::Report failure;
  std::unique_ptr<Process> started = Process::Start(
      planned, &loop_,
      [this](Process* process, const Frame& frame) { OnFrame(process, frame); },
      [this](Process* process) { OnEnd(process); }, &failure);
  if (started == nullptr) {
    if (console_ == nullptr) {
      Print(absl::StrCat("error BH-S201: cannot start the console: step ",
                         static_cast<int>(failure.step), ", errno ",
                         failure.error, "\n"));
    } else {
      Fill(failure,
           NewEvent(processes_.size() - 1)->mutable_failure()->mutable_step());
      Tell();
    }
    return kExitMissingFeature;
  }
  processes_.push_back(std::move(started));
  Process* process = processes_.back().get();
  const bool is_qemu = process->planned().role() == JailedProcess::QEMU;
  if (is_qemu) qemu_ = process;
  if (processes_.size() == 1) console_ = process;

  const bool in_time = Await(
      [&] {
        return process->ready() || process->exited() || stop_asked_ ||
               !process->failure().empty();
      },
      is_qemu ? kQemuStart : kServiceStart);
  if (stop_asked_) return kExitOk;  // StartAll says so
  if (!process->ready()) {
    Await([&] { return process->exited(); }, in_time ? kLastWords : seconds(0));
    return FailedToStart(*process, !in_time);
  }
  if (process == console_) return kExitOk;
  ProcessReady* ready = EventOf(process)->mutable_ready();
  ready->set_pid(process->planned().pid());
  ready->set_microseconds(std::chrono::duration_cast<std::chrono::microseconds>(
                              Clock::now() - start)
                              .count());
  *ready->mutable_unavailable() = planned.unavailable();
  if (process->trace_error() != 0) {
    Fill({sandbox::Report::kUnavailable, sandbox::Step::kTracing,
          process->trace_error(), 0},
         ready->add_unavailable());
  }
  Tell();
  return kExitOk;
}

ExitCode Supervisor::FailedToStart(const Process& process, bool late) {
  if (&process == console_) {
    Complain(process);
    return process.death().violation ? kExitViolation : kExitInternal;
  }
  StartFailure* failure = EventOf(&process)->mutable_failure();
  failure->set_message(process.failure());
  failure->set_late(late);
  Tell();
  if (process.death().violation) return kExitViolation;
  if (!process.failure().empty()) return kExitBadConfig;
  if (late) return kExitNotReady;
  return &process == qemu_ ? kExitQemuCrashed : kExitDeviceCrashed;
}

void Supervisor::AwaitEnd() {
  const auto over = [this] {
    return stop_asked_ || (qemu_ != nullptr ? qemu_->exited() : AllExited());
  };
  const Clock::duration limit = plan_.limit_seconds() > 0
                                    ? seconds(plan_.limit_seconds())
                                    : Clock::duration::max();
  if (Await(over, limit)) return;
  TellStage(LauncherEvent::TIME_IS_UP);
  AskToStop(/*at_once=*/true);
}

// The guest may say no to the power button, QEMU may not answer: each gets a
// time, and then less is asked for.
void Supervisor::EndQemu() {
  const auto exited = [this] { return qemu_->exited(); };
  if (qemu_->ready() && !stop_at_once_ && plan_.grace_seconds() > 0) {
    TellStage(LauncherEvent::POWER_DOWN);
    Await([this] { return qemu_->exited() || stop_at_once_; },
          seconds(plan_.grace_seconds()));
  }
  // Without the console nobody can ask it.
  if (!exited() && !console_->exited()) {
    TellStage(LauncherEvent::QUIT);
    Await(exited, kQemuQuit);
  }
  if (!exited()) {
    EventOf(qemu_)->set_killed(true);
    Tell();
    qemu_->Kill();
    Await(exited, kKill);
  }
}

void Supervisor::EndDevices() {
  size_t asked = 0;
  for (const auto& process : processes_) {
    if (process->planned().role() != JailedProcess::SERVICE ||
        !process->can_send()) {
      continue;
    }
    process->outgoing().mutable_get_statistics();
    process->Send();
    ++asked;
  }
  Await([&] { return statistics_.size() >= asked || AllExited(); },
        kStatisticsWait);
  for (const auto& process : processes_) {
    if (process.get() != console_) process->CloseControl();
  }
  if (Await([this] { return AllExited(); }, kServiceStop)) return;
  for (const auto& process : processes_) {
    if (process->exited() || process.get() == console_) continue;
    EventOf(process.get())->set_killed(true);
    Tell();
    process->Kill();
  }
  Await([this] { return AllExited(); }, kKill);
}

void Supervisor::EndConsole() {
  if (console_ == nullptr) return;
  TellStage(LauncherEvent::OVER);
  const auto exited = [this] { return console_->exited(); };
  if (Await(exited, kConsoleStop)) return;
  console_->Kill();
  Await(exited, kKill);
}

ExitCode Supervisor::Result() const {
  ExitCode code = kExitOk;
  for (const auto& process : processes_) {
    if (process->death().violation) return kExitViolation;
    // The console is the first: others may have ended badly for want of it.
    if (code == kExitOk && process.get() != qemu_ && !process->ended_well()) {
      code = process.get() == console_ ? kExitInternal : kExitDeviceCrashed;
    }
  }
  if (code == kExitOk && terminal_closed_) return kExitTerminalClosed;
  if (code != kExitOk || qemu_ == nullptr) return code;
  if (guest_end_ == ConsoleRequest::GUEST_PANICKED) return kExitGuestPanic;
  if (!qemu_->ended_well()) return kExitQemuCrashed;
  return guest_end_ == ConsoleRequest::GUEST_RESET ? kExitGuestReset : kExitOk;
}

void Supervisor::OnSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP || info.ssi_signo == SIGQUIT) {
      terminal_closed_ |= info.ssi_signo == SIGHUP;
      AskToStop(/*at_once=*/true);
    } else if (info.ssi_signo != SIGCHLD) {
      // The second one is for those who do not want to wait.
      AskToStop(/*at_once=*/stop_asked_);
    }
  }
  sandbox::HandleStops();
}

void Supervisor::OnFrame(Process* process, const Frame& frame) {
  const bool from_console = process == console_;
  if (frame.has_console_request()) {
    if (from_console) TakeRequest(frame.console_request().kind());
  } else if (from_console) {
    return;
  } else if (frame.has_ack()) {
    user_socket_.TakeAnswer(process, frame);
  } else if (frame.has_statistics()) {
    // Once, when all are asked: see EndDevices.
    if (!shutting_down_ || !statistics_.insert(process).second) return;
    *EventOf(process)->mutable_statistics() = frame.statistics();
    Tell();
  } else if (frame.has_backend_error()) {
    EventOf(process)->set_said(absl::StrCat(
        "backend ", frame.backend_error().backend(), ": ",
        frame.backend_error().message().substr(0, Process::kLongestWords)));
    Tell();
  } else if (frame.has_service_lost() && !shutting_down_) {
    EventOf(process)->set_said(absl::StrCat(
        "gives the device up: ",
        frame.service_lost().message().substr(0, Process::kLongestWords)));
    Tell();
  }
}

void Supervisor::OnEnd(Process* process) {
  if (process == console_) {
    if (process->death().violation) {
      Print(absl::StrCat("VIOLATION console: system call ",
                         process->death().violation->number, "\n"));
    }
    if (!shutting_down_) Complain(*process);
    AskToStop(/*at_once=*/true);
    return;
  }
  if (process == qemu_) terminal_.Restore();
  if (process->death().violation) {
    Fill(*process->death().violation, EventOf(process)->mutable_violation());
    Tell();
  }
  ProcessEnd* end = EventOf(process)->mutable_end();
  end->set_code(process->end().si_code);
  end->set_status(process->end().si_status);
  end->set_failure(process->failure());
  end->set_expected(shutting_down_);
  if (process->death().crash) {
    end->set_crash_signal(process->death().crash->signal);
    Fill(*process->death().crash, end->mutable_crash_place());
  }
  Tell();
}

void Supervisor::TakeRequest(ConsoleRequest::Kind kind) {
  if (kind == ConsoleRequest::STOP_AT_ONCE ||
      kind == ConsoleRequest::TERMINAL_CLOSED) {
    terminal_closed_ |= kind == ConsoleRequest::TERMINAL_CLOSED;
    AskToStop(/*at_once=*/true);
  } else if (kind == ConsoleRequest::QEMU_READY && qemu_ != nullptr) {
    qemu_->set_ready();
  } else if (kind == ConsoleRequest::KILL_QEMU && qemu_ != nullptr) {
    qemu_->Kill();
  } else {
    guest_end_ = kind;
  }
}

void Supervisor::AskToStop(bool at_once) {
  stop_asked_ = true;
  stop_at_once_ |= at_once;
}

bool Supervisor::AllExited() const {
  return std::all_of(processes_.begin(), processes_.end(),
                     [this](const auto& process) {
                       return process->exited() || process.get() == console_;
                     });
}

bool Supervisor::Await(const std::function<bool()>& done,
                       Clock::duration limit) {
  const auto now = Clock::now();
  return loop_.RunUntil(done, limit < Clock::time_point::max() - now
                                  ? now + limit
                                  : Clock::time_point::max());
}

LauncherEvent* Supervisor::NewEvent(size_t process) {
  event_.Clear();
  event_.set_process(process);
  return &event_;
}

LauncherEvent* Supervisor::EventOf(const Process* process) {
  size_t index = 0;
  while (processes_[index].get() != process) ++index;
  return NewEvent(index - 1);  // the console does not count itself
}

void Supervisor::Tell() {
  if (console_ == nullptr || !console_->can_send()) return;
  *console_->outgoing().mutable_launcher_event() = event_;
  console_->Send();
}

void Supervisor::TellStage(LauncherEvent::Stage stage) {
  NewEvent(0)->set_stage(stage);
  Tell();
}

}  // namespace bulkhead::launcher
