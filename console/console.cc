#include "console/console.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "console/console_fds.h"
#include "console/violation_report.h"
#include "policy/registry.h"
#include "sandbox/step_text.h"
#include "sandbox/violation_text.h"

namespace bulkhead::console {
namespace {

constexpr int kMostReads = 16;

bool EndedWell(const ProcessEnd& end) {
  return end.code() == CLD_EXITED && end.status() == 0;
}

sandbox::Report FromFrame(const JailStep& told) {
  sandbox::Report report;
  report.step = static_cast<sandbox::Step>(std::min(told.step(), 255U));
  report.error = told.error();
  report.detail = told.detail();
  return report;
}

sandbox::Place FromFrame(const CodePlace& told) {
  sandbox::Place place;
  place.instruction_pointer = told.instruction_pointer();
  place.file_offset = told.file_offset();
  place.file_inode = told.file_inode();
  place.file = told.file();
  return place;
}

sandbox::Violation FromFrame(const ProcessViolation& told) {
  sandbox::Violation violation;
  violation.number = told.number();
  violation.abi = static_cast<sandbox::Violation::Abi>(told.abi());
  for (int i = 0; i < 6 && i < told.args_size(); ++i) {
    violation.args[i] = told.args(i);
    if (i < told.strings_size()) violation.strings[i] = told.strings(i);
  }
  static_cast<sandbox::Place&>(violation) = FromFrame(told.place());
  violation.filters = told.filters();
  violation.pid = told.pid();
  violation.thread = told.thread();
  return violation;
}

uint64_t Counter(const Statistics& statistics, const std::string& name) {
  for (const Statistic& counter : statistics.counters()) {
    if (counter.name() == name) return counter.value();
  }
  return 0;
}

}  // namespace

std::string Console::EndText(const Subject& subject) {
  const ProcessEnd& end = *subject.end;
  if (end.crash_signal() != 0) {
    return absl::StrCat("crashed with signal ", end.crash_signal(), " (",
                        strsignal(end.crash_signal()), ") at ",
                        DescribePlace(subject.described, subject.program_fd,
                                      FromFrame(end.crash_place())));
  }
  if (end.code() == CLD_EXITED) {
    return absl::StrCat("exited with status ", end.status());
  }
  return absl::StrCat("was killed by signal ", end.status(), " (",
                      strsignal(end.status()), ")");
}

Console::Console(Channel* control, const ConsoleConfig& config)
    : control_(*control),
      config_(config),
      output_(&loop_),
      qmp_(kMonitorFd),
      guest_open_(config.has_qemu()),
      monitor_open_(config.has_qemu()) {
  loop_.Add(control_.fd(), EPOLLIN, [this](uint32_t) { OnControl(); });
  for (int i = 0; i < config_.processes_size(); ++i) {
    const ConsoleConfig::Process& described = config_.processes(i);
    subjects_.emplace_back(
        new Subject{described,
                    LogLines(described.name(),
                             [this](const std::string& line) { Line(line); }),
                    kFirstLogFd + i, kFirstProgramFd + i});
    Subject* subject = subjects_.back().get();
    loop_.Add(subject->log_fd, EPOLLIN,
              [this, subject](uint32_t) { OnLog(subject); });
  }
  if (!config_.has_qemu()) return;
  WatchGuest();
  loop_.Add(kMonitorFd, EPOLLIN, [this](uint32_t) { OnMonitor(); });
}

void Console::Run() {
  loop_.RunUntil(
      [this] {
        if (output_.console_closed()) LoseTerminal();
        if (guest_paused_ && !output_.console_full() && guest_open_) {
          guest_paused_ = false;
          WatchGuest();
        }
        return over_;
      },
      Clock::time_point::max());
  output_.Flush();
}

void Console::OnControl() {
  for (int i = 0; i < kMostReads && !over_; ++i) {
    Channel::Received received;
    if (!control_.Receive(/*wait=*/false, &received).ok()) {
      over_ = true;  // and so will this process be, with the launcher
    } else if (received == Channel::Received::kNothing) {
      return;
    } else if (control_.incoming().has_launcher_event()) {
      Take(control_.incoming().launcher_event());
    }
  }
}

void Console::OnLog(Subject* subject) {
  if (subject->log_fd < 0) return;
  char piece[4096];
  const ssize_t got = read(subject->log_fd, piece, sizeof(piece));
  if (got > 0) {
    subject->lines.Add(absl::string_view(piece, got), Clock::now());
  } else if (got == 0) {
    loop_.Remove(subject->log_fd);
    subject->log_fd = -1;
  }
}

void Console::WatchGuest() {
  loop_.Add(kGuestFd, EPOLLIN, [this](uint32_t) { OnGuest(); });
}

void Console::OnGuest() {
  char piece[4096];
  const ssize_t got = recv(kGuestFd, piece, sizeof(piece), MSG_DONTWAIT);
  if (got <= 0) {
    loop_.Remove(kGuestFd);
    guest_open_ = false;
  } else if (!output_.Console(absl::string_view(piece, got))) {
    guest_paused_ = true;
    loop_.Remove(kGuestFd);
  }
}

void Console::OnMonitor() {
  const absl::Status status = qmp_.Read();
  if (!status.ok()) {
    loop_.Remove(kMonitorFd);
    monitor_open_ = false;
  }
  if (absl::IsDataLoss(status)) {
    Line(absl::StrCat("qemu: ", status.message()));
    Request(ConsoleRequest::KILL_QEMU);
  }
  if (qmp_.ready() && !qemu_ready_told_) {
    qemu_ready_told_ = true;
    Request(ConsoleRequest::QEMU_READY);
  }
  if (qmp_.stuck() && !stuck_told_) {
    stuck_told_ = true;
    // Nothing would ever happen again.
    TellError(
        {.id = "BH-Q309",
         .what = "QEMU has stopped the guest for good (internal-error): "
                 "under KVM, an instruction that cannot be emulated here",
         .fix = "--accel=tcg, or another host; what qemu wrote says more"});
    Request(ConsoleRequest::KILL_QEMU);
  }
  const std::string& reason = qmp_.shutdown_reason();
  if (guest_end_told_ || (reason.empty() && !qmp_.panicked())) return;
  guest_end_told_ = true;
  Request(qmp_.panicked() || reason == "guest-panic"
              ? ConsoleRequest::GUEST_PANICKED
          : reason == "guest-reset" ? ConsoleRequest::GUEST_RESET
                                    : ConsoleRequest::GUEST_POWERED_OFF);
}

void Console::OnStdin() {
  char piece[256];
  const ssize_t got = read(STDIN_FILENO, piece, sizeof(piece));
  if (got <= 0) {
    loop_.Remove(STDIN_FILENO);
    if (config_.interactive()) LoseTerminal();
    return;
  }
  std::string to_guest;
  for (ssize_t i = 0; i < got; ++i) {
    if (config_.interactive()) {
      TakeKey(piece[i], &to_guest);
    } else {
      to_guest.push_back(piece[i]);
    }
  }
  // A guest that reads nothing loses what is typed, as on a serial line.
  if (guest_open_ && !to_guest.empty()) {
    (void)send(kGuestFd, to_guest.data(), to_guest.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void Console::TakeKey(char byte, std::string* to_guest) {
  switch (keys_.Take(byte, to_guest)) {
    case Keys::Command::kNone:
      break;
    case Keys::Command::kQuit:
      RequestStop(ConsoleRequest::STOP_AT_ONCE);
      break;
    case Keys::Command::kPowerDown:
      if (monitor_open_) qmp_.Execute("system_powerdown");
      break;
    case Keys::Command::kStatus:
      PrintStatus();
      break;
    case Keys::Command::kHelp:
      output_.Line(absl::StrCat("\n", Keys::Help()));
  }
}

void Console::Take(const LauncherEvent& event) {
  if (event.event_case() == LauncherEvent::kStage) {
    TakeStage(event.stage());
    return;
  }
  if (event.process() >= subjects_.size()) return;
  Subject* subject = subjects_[event.process()].get();
  switch (event.event_case()) {
    case LauncherEvent::kReady:
      subject->pid = event.ready().pid();
      TellReady(event.process(), event.ready());
      break;
    case LauncherEvent::kEnd:
      subject->end = event.end();
      TellEnd(subject);
      break;
    case LauncherEvent::kViolation:
      subject->violation = FromFrame(event.violation());
      TellViolation(*subject);
      break;
    case LauncherEvent::kSaid:
      // Through the same limit as its log lines.
      subject->lines.Add(event.said() + "\n", Clock::now());
      break;
    case LauncherEvent::kStatistics:
      subject->statistics = event.statistics();
      break;
    case LauncherEvent::kFailure:
      TellFailure(*subject, event.failure());
      break;
    case LauncherEvent::kKilled:
      Line(absl::StrCat(subject->described.name(), " does not end: killed"));
      break;
    default:
      break;
  }
}

void Console::TakeStage(LauncherEvent::Stage stage) {
  switch (stage) {
    case LauncherEvent::RUNNING:
      running_ = true;
      if (!config_.running_text().empty()) {
        output_.Line(config_.running_text());
      }
      if (config_.interactive() || config_.read_stdin()) {
        loop_.Add(STDIN_FILENO, EPOLLIN, [this](uint32_t) { OnStdin(); });
      }
      break;
    case LauncherEvent::POWER_DOWN:
      Line(absl::StrCat("asking the guest to power off (",
                        config_.grace_seconds(),
                        " s; once more to end at once)"));
      qmp_.Execute("system_powerdown");
      break;
    case LauncherEvent::QUIT:
      qmp_.Execute("quit");
      break;
    case LauncherEvent::TIME_IS_UP:
      output_.Line("the guest did not finish in time");
      break;
    case LauncherEvent::STOPPED_EARLY:
      output_.Line("error BH-D401: stopped while starting");
      break;
    case LauncherEvent::OVER:
      if (running_) PrintSummary();
      over_ = true;
      break;
    default:
      break;
  }
}

void Console::TellReady(size_t index, const ProcessReady& ready) {
  const ConsoleConfig::Process& process = config_.processes(index);
  output_.Line(absl::StrFormat(
      " [%d/%d] %-14s ok %6.0f ms  pid %d  %s  policy %.8s", index + 1,
      config_.processes_size(), process.name(), ready.microseconds() / 1000.0,
      ready.pid(), process.role(), process.policy_sha256()));
  if (index > 0) return;  // the same for all: told once
  for (const JailStep& missing : ready.unavailable()) {
    output_.Line(absl::StrCat(
        "       without ",
        sandbox::UnavailableText(FromFrame(missing),
                                 policy::FindPolicy(process.policy()))));
  }
}

void Console::TellFailure(const Subject& subject, const StartFailure& failure) {
  UserError error{.id = "BH-D402"};
  const std::string& name = subject.described.name();
  if (failure.has_step()) {
    error.id = "BH-S201";
    error.what = absl::StrCat(
        "cannot jail ", name, ": ",
        sandbox::FailureText(FromFrame(failure.step()),
                             policy::FindPolicy(subject.described.policy())));
    error.fix =
        "the jails of others worked: a limit of this host's is reached "
        "(user.max_*_namespaces, ulimit -u, memory)";
  } else if (subject.violation) {
    error.id = "BH-D403";
    error.what = absl::StrCat(name, " was killed by its policy: ",
                              sandbox::DescribeViolation(*subject.violation));
    error.fix = "this is a bug in the process or in its policy: report it";
  } else if (!failure.message().empty()) {
    error.what = absl::StrCat(name, ": ", Escape(failure.message()));
    error.fix = "what it says is about the description or an image";
  } else if (failure.late()) {
    error.id = "BH-D401";
    error.what = absl::StrCat(name, " was not ready in time");
    error.fix = "its lines above may say why";
  } else {
    error.id = Qemu() == &subject ? "BH-Q304" : "BH-D402";
    error.what =
        absl::StrCat(name, " ", subject.end ? EndText(subject) : "ended",
                     " while it started");
    error.fix = "its lines above say why";
  }
  TellError(error);
}

void Console::TellError(const UserError& error) {
  const std::string text = FormatError(error.ToStatus());
  output_.Line(text.substr(0, text.size() - 1));
}

void Console::TellViolation(const Subject& subject) {
  const ViolationReport report = Report(config_.vm_name(), subject.described,
                                        subject.program_fd, *subject.violation);
  for (const std::string& line : report.lines) Line(line);
  output_.Line(report.json);
}

void Console::TellEnd(Subject* subject) {
  // Its last lines first: the pipe holds at most 64 KiB.
  for (int i = 0; i < kMostReads; ++i) OnLog(subject);
  subject->lines.Finish(Clock::now());
  if (subject == Qemu()) {
    if (monitor_open_) OnMonitor();
    for (int i = 0; i < kMostReads && guest_open_ && !guest_paused_; ++i) {
      OnGuest();
    }
    loop_.Remove(STDIN_FILENO);
    output_.Flush();
    return;
  }
  const ProcessEnd& end = *subject->end;
  if (!running_ || end.expected()) return;
  Line(absl::StrCat("DEVICE LOST ", subject->described.device(), ": ",
                    subject->described.name(), " ", EndText(*subject),
                    end.failure().empty() ? "" : ": ", Escape(end.failure()),
                    "; the VM goes on without the device"));
}

void Console::PrintStatus() {
  std::string text =
      absl::StrCat("\n", config_.vm_name(), "  up ", Seconds(), "\n");
  for (const auto& subject : subjects_) {
    absl::StrAppendFormat(
        &text, "  %-14s pid %-8d %s\n", subject->described.name(), subject->pid,
        subject->end ? EndText(*subject) : std::string("running"));
  }
  output_.Line(text);
}

void Console::PrintSummary() {
  std::vector<std::string> parts;
  for (const auto& subject : subjects_) {
    if (!subject->described.is_service()) continue;
    std::string part = subject->described.name();
    if (subject->statistics) {
      absl::StrAppend(
          &part, " ", Counter(*subject->statistics, "region_writes"),
          " stores, ", Counter(*subject->statistics, "region_reads"),
          " loads, ", Counter(*subject->statistics, "interrupts"),
          " interrupts");
    }
    if (subject->violation) {
      absl::StrAppend(&part, ", VIOLATION");
    } else if (!subject->end) {
      absl::StrAppend(&part, ", LOST");
    } else if (!EndedWell(*subject->end)) {
      absl::StrAppend(&part, ", LOST: ", EndText(*subject));
    }
    parts.push_back(part);
  }
  output_.Line(absl::StrFormat(
      "--- %s after %.1f s%s%s", EndOfVm(),
      std::chrono::duration<double>(Clock::now() - started_).count(),
      parts.empty() ? "" : "; ", absl::StrJoin(parts, "; ")));
}

std::string Console::EndOfVm() const {
  const Subject* qemu = Qemu();
  if (qemu == nullptr || !qemu->end) return "stopped";
  const std::string& reason = qmp_.shutdown_reason();
  if (qmp_.panicked() || reason == "guest-panic") return "the guest panicked";
  if (qemu->violation) return "QEMU was killed by its policy";
  if (!EndedWell(*qemu->end)) return "QEMU " + EndText(*qemu);
  if (reason == "guest-shutdown") return "the guest powered off";
  if (reason == "guest-reset") return "the guest asked for a reset";
  return "stopped";
}

void Console::Line(const std::string& text) {
  output_.Line(absl::StrCat(Seconds(), text));
}

void Console::Request(ConsoleRequest::Kind kind) {
  control_.outgoing().mutable_console_request()->set_kind(kind);
  (void)control_.Send();
}

void Console::RequestStop(ConsoleRequest::Kind kind) {
  if (stop_told_) return;
  stop_told_ = true;
  Request(kind);
}

void Console::LoseTerminal() {
  if (stop_told_ || !guest_open_) return;
  const std::string text = FormatError(
      UserError{.id = "BH-D404",
                .what = "the guest's terminal (stdout) is closed: the VM ends",
                .fix = "redirect it to a file, or start the VM inside tmux"}
          .ToStatus());
  output_.Line(text.substr(0, text.size() - 1));
  RequestStop(ConsoleRequest::TERMINAL_CLOSED);
}

const Console::Subject* Console::Qemu() const {
  return config_.has_qemu() && !subjects_.empty() ? subjects_.back().get()
                                                  : nullptr;
}

std::string Console::Seconds() const {
  return absl::StrFormat(
      "[%9.3f] ",
      std::chrono::duration<double>(Clock::now() - started_).count());
}

}  // namespace bulkhead::console
