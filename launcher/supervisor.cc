#include "launcher/supervisor.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launcher/host.h"
#include "sandbox/violation.h"

namespace bulkhead::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Role = PlannedProcess::Role;

// From exec to Ready: a few milliseconds, and an image check on a slow disk.
constexpr seconds kServiceStart{15};
constexpr seconds kQemuStart{60};
// From a closed control channel to the exit: what is in flight, and a flush.
constexpr seconds kServiceStop{10};
constexpr seconds kQemuQuit{5};
constexpr seconds kKill{10};
constexpr milliseconds kStatisticsWait{500};

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  return set;
}

uint64_t Counter(const Statistics& statistics, const std::string& name) {
  for (const Statistic& counter : statistics.counters()) {
    if (counter.name() == name) return counter.value();
  }
  return 0;
}

}  // namespace

void BlockWatchedSignals() {
  const sigset_t set = WatchedSignals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

Supervisor::Supervisor(const Plan& plan, Resources* resources, EventLoop* loop,
                       Output* output, SupervisorOptions options)
    : plan_(plan),
      resources_(resources),
      loop_(loop),
      output_(output),
      options_(std::move(options)) {
  BlockWatchedSignals();
  const sigset_t set = WatchedSignals();
  signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  loop_->Add(signals_.get(), EPOLLIN, [this](uint32_t) { OnSignals(); });
}

Supervisor::~Supervisor() {
  Shutdown();
  processes_.clear();
  loop_->Remove(signals_.get());
}

absl::Status Supervisor::Start() {
  for (const PlannedProcess& planned : plan_.processes) {
    absl::Status status = StartOne(planned);
    if (!status.ok()) return status;
    if (stop_asked_) {
      return UserError{.exit_code = kExitNotReady,
                       .id = "BH-D401",
                       .what = "stopped while starting"}
          .ToStatus();
    }
  }
  return absl::OkStatus();
}

absl::Status Supervisor::StartOne(const PlannedProcess& planned) {
  const auto start = Clock::now();
  absl::StatusOr<std::unique_ptr<Process>> process =
      Process::Start(planned, resources_, ConfigureFor(planned), loop_,
                     [this](const std::string& line) {
                       output_->Line(absl::StrCat(Seconds(), line));
                     });
  if (!process.ok()) {
    if (!absl::IsFailedPrecondition(process.status()) ||
        ExitCodeOf(process.status()) != kExitInternal) {
      return process.status();
    }
    return UserError{.exit_code = kExitMissingFeature,
                     .id = "BH-S201",
                     .what = absl::StrCat("cannot jail ", planned.name, ": ",
                                          process.status().message())}
        .ToStatus();
  }
  processes_.push_back(*std::move(process));
  noticed_.push_back(false);
  Process* started = processes_.back().get();
  if (planned.role == Role::kQemu) {
    qemu_ = started;
    qmp_ = std::make_unique<Qmp>(qemu_->monitor_fd());
    loop_->Add(qemu_->monitor_fd(), EPOLLIN, [this](uint32_t) { OnMonitor(); });
    loop_->Add(qemu_->console_fd(), EPOLLIN, [this](uint32_t) { OnConsole(); });
  }
  absl::Status status = WaitReady(started);
  if (!status.ok() || stop_asked_) return status;

  const std::string what =
      planned.role == Role::kService
          ? absl::StrCat(plan_.devices[planned.device].model->name, " at ",
                         plan_.devices[planned.device].slot)
      : planned.role == Role::kShim ? "vfio-user to QEMU"
                                    : "the machine is built";
  output_->Line(absl::StrFormat(
      " [%d/%d] %-14s ok %6.0f ms  pid %d  %s  policy %.8s", processes_.size(),
      plan_.processes.size(), planned.name, Milliseconds(Clock::now() - start),
      started->pid(), what, planned.policy->sha256));
  for (const std::string& missing : started->unavailable()) {
    // The same for all: told once.
    if (processes_.size() == 1) {
      output_->Line(absl::StrCat("       without ", Escape(missing)));
    }
  }
  return absl::OkStatus();
}

Configure Supervisor::ConfigureFor(const PlannedProcess& planned) const {
  Configure configure;
  if (planned.role == Role::kService) {
    plan_.devices[planned.device].config.SerializeToString(
        configure.mutable_service_config());
  } else if (planned.role == Role::kShim) {
    ShimConfig* shim = configure.mutable_shim();
    struct stat ram;
    if (fstat(resources_->Lend({Resource::Kind::kRam}), &ram) == 0) {
      shim->set_ram_device(ram.st_dev);
      shim->set_ram_inode(ram.st_ino);
    }
    shim->set_ram_bytes(plan_.ram_bytes);
    shim->set_access_deadline_ms(plan_.access_deadline_ms);
    shim->set_spin_limit_us(
        plan_.devices[planned.device].config.polling().spin_limit_us());
  }
  return configure;
}

absl::Status Supervisor::WaitReady(Process* process) {
  const bool is_qemu = process == qemu_;
  const auto done = [&] {
    return process->exited() || !process->failure().empty() || stop_asked_ ||
           (is_qemu ? qmp_->ready() : process->ready());
  };
  const bool in_time = loop_->RunUntil(
      done, Clock::now() + (is_qemu ? kQemuStart : kServiceStart));
  if (is_qemu ? qmp_->ready() : process->ready()) return absl::OkStatus();
  if (stop_asked_) return absl::OkStatus();  // Start says so
  // It has said why; its last lines and its exit follow.
  loop_->RunUntil([&] { return process->exited(); },
                  Clock::now() + (in_time ? seconds(2) : seconds(0)));
  return StartFailure(*process, !in_time);
}

absl::Status Supervisor::StartFailure(const Process& process, bool late) const {
  UserError error{.exit_code = kExitDeviceCrashed, .id = "BH-D402"};
  const bool is_qemu = &process == qemu_;
  if (process.violation().has_value()) {
    error.exit_code = kExitViolation;
    error.id = "BH-D403";
    error.what = absl::StrCat(process.name(), " was killed by its policy: ",
                              Escape(process.violation()->ToString()));
    error.fix = "this is a bug in the process or in its policy: report it";
  } else if (!process.failure().empty()) {
    error.exit_code = kExitBadConfig;
    error.what = absl::StrCat(process.name(), ": ", process.failure());
    error.fix = "what it says is about the description or an image";
  } else if (late) {
    error.exit_code = kExitNotReady;
    error.id = "BH-D401";
    error.what = absl::StrCat(process.name(), " was not ready in time");
    error.fix = "its lines above may say why";
  } else {
    error.exit_code = is_qemu ? kExitQemuCrashed : kExitDeviceCrashed;
    error.id = is_qemu ? "BH-Q304" : "BH-D402";
    error.what = absl::StrCat(process.name(), " ", process.EndText(),
                              " while it started");
    error.fix = "its lines above say why";
  }
  return error.ToStatus();
}

void Supervisor::Run() {
  running_ = true;
  if (options_.interactive) {
    output_->Line(
        "--- the guest's console (Ctrl-A X quits, Ctrl-A H helps) ---");
    terminal_.MakeRaw();
  }
  if (options_.interactive || options_.read_stdin) {
    loop_->Add(STDIN_FILENO, EPOLLIN, [this](uint32_t) { OnStdin(); });
  }
  const auto over = [this] {
    NoticeEnds();
    if (output_->console_closed() && !options_.console) AskToStop(true);
    if (console_paused_ && !output_->console_full() && qemu_ != nullptr) {
      console_paused_ = false;
      loop_->Change(qemu_->console_fd(), EPOLLIN);
    }
    return stop_asked_ || (qemu_ != nullptr ? qemu_->exited() : AllExited());
  };
  deadline_passed_ = !loop_->RunUntil(over, options_.deadline);
  if (deadline_passed_) AskToStop(true);
}

void Supervisor::OnSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    switch (info.ssi_signo) {
      case SIGCHLD:
        break;
      case SIGHUP:
      case SIGQUIT:
        AskToStop(/*at_once=*/true);
        break;
      default:
        // The second one is for those who do not want to wait.
        AskToStop(/*at_once=*/stop_asked_);
    }
  }
  for (const sandbox::Violation& violation : sandbox::HandleStops()) {
    for (const auto& process : processes_) {
      if (process->pid() != violation.pid) continue;
      process->set_violation(violation);
      output_->Line(absl::StrFormat(
          "%sVIOLATION %s: %s at 0x%x (file offset 0x%x), %s call %d: killed "
          "by policy %s %.12s",
          Seconds(), process->name(), Escape(violation.ToString()),
          violation.instruction_pointer, violation.file_offset, violation.abi,
          violation.number, process->planned().policy->name,
          process->planned().policy->sha256));
    }
  }
}

void Supervisor::OnMonitor() {
  const absl::Status status = qmp_->Read();
  if (status.ok()) return;
  loop_->Remove(qemu_->monitor_fd());
  if (!absl::IsUnavailable(status)) {
    output_->Line(absl::StrCat(Seconds(), "qemu: ", status.message()));
    qemu_->Kill();
  }
}

void Supervisor::OnConsole() {
  char piece[4096];
  const ssize_t got =
      recv(qemu_->console_fd(), piece, sizeof(piece), MSG_DONTWAIT);
  if (got <= 0) {
    loop_->Remove(qemu_->console_fd());
    return;
  }
  const absl::string_view bytes(piece, got);
  if (options_.console) {
    options_.console(bytes);
  } else if (!output_->Console(bytes)) {
    console_paused_ = true;
    loop_->Change(qemu_->console_fd(), 0);
  }
}

void Supervisor::OnStdin() {
  char piece[256];
  const ssize_t got = read(STDIN_FILENO, piece, sizeof(piece));
  if (got <= 0) {
    loop_->Remove(STDIN_FILENO);
    if (options_.interactive) AskToStop(/*at_once=*/true);
    return;
  }
  std::string to_guest;
  for (ssize_t i = 0; i < got; ++i) {
    if (!options_.interactive) {
      to_guest.push_back(piece[i]);
      continue;
    }
    switch (keys_.Take(piece[i], &to_guest)) {
      case Keys::Command::kNone:
        break;
      case Keys::Command::kQuit:
        AskToStop(/*at_once=*/true);
        break;
      case Keys::Command::kPowerDown:
        if (qmp_ != nullptr) qmp_->Execute("system_powerdown");
        break;
      case Keys::Command::kStatus:
        PrintStatus();
        break;
      case Keys::Command::kHelp:
        output_->Line(absl::StrCat("\n", Keys::Help()));
    }
  }
  // A guest that reads nothing loses what is typed, as on a serial line.
  if (qemu_ != nullptr && !to_guest.empty()) {
    (void)send(qemu_->console_fd(), to_guest.data(), to_guest.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void Supervisor::NoticeEnds() {
  for (size_t i = 0; i < processes_.size(); ++i) {
    const Process& process = *processes_[i];
    if (noticed_[i] || !process.exited()) continue;
    noticed_[i] = true;
    if (&process == qemu_ || !running_ || shutting_down_) continue;
    output_->Line(absl::StrCat(
        Seconds(), "DEVICE LOST ", plan_.devices[process.planned().device].id,
        ": ", process.name(), " ", process.EndText(),
        process.failure().empty() ? "" : ": ", process.failure(),
        "; the VM goes on without the device"));
  }
}

void Supervisor::PrintStatus() {
  std::string text = absl::StrCat("\n", plan_.name, "  up ", Seconds(), "\n");
  for (const auto& process : processes_) {
    absl::StrAppendFormat(
        &text, "  %-14s pid %-8d %s\n", process->name(), process->pid(),
        process->exited() ? process->EndText() : std::string("running"));
  }
  output_->Line(text);
}

void Supervisor::AskToStop(bool at_once) {
  stop_asked_ = true;
  stop_at_once_ |= at_once;
}

bool Supervisor::AllExited() const {
  return std::all_of(processes_.begin(), processes_.end(),
                     [](const auto& process) { return process->exited(); });
}

// The guest may say no to the power button, QEMU may not answer: each gets a
// time, and then less is asked for.
void Supervisor::EndQemu() {
  const auto exited = [this] { return qemu_->exited(); };
  const auto exited_or_at_once = [this] {
    return qemu_->exited() || stop_at_once_;
  };
  if (qmp_->ready() && !stop_at_once_ && options_.grace.count() > 0) {
    output_->Line(absl::StrCat(Seconds(), "asking the guest to power off (",
                               options_.grace.count(),
                               " s; once more to end at once)"));
    qmp_->Execute("system_powerdown");
    loop_->RunUntil(exited_or_at_once, Clock::now() + options_.grace);
  }
  if (!exited()) {
    qmp_->Execute("quit");
    loop_->RunUntil(exited, Clock::now() + kQemuQuit);
  }
  if (!exited()) {
    output_->Line(absl::StrCat(Seconds(), "qemu does not end: killed"));
    qemu_->Kill();
    loop_->RunUntil(exited, Clock::now() + kKill);
  }
}

void Supervisor::Shutdown() {
  if (shutting_down_) return;
  NoticeEnds();
  shutting_down_ = true;
  loop_->Remove(STDIN_FILENO);
  if (qemu_ != nullptr && !qemu_->exited()) EndQemu();
  terminal_.Restore();
  output_->Flush();

  for (const auto& process : processes_) {
    process->SetStopping();
    process->RequestStatistics();
  }
  loop_->RunUntil(
      [this] {
        return std::all_of(
            processes_.begin(), processes_.end(), [](const auto& process) {
              return process->exited() || process->statistics().has_value() ||
                     process->planned().role == Role::kQemu;
            });
      },
      Clock::now() + kStatisticsWait);
  for (const auto& process : processes_) process->CloseControl();
  const auto all_exited = [this] { return AllExited(); };
  if (loop_->RunUntil(all_exited, Clock::now() + kServiceStop)) return;
  for (const auto& process : processes_) {
    if (process->exited()) continue;
    output_->Line(
        absl::StrCat(Seconds(), process->name(), " does not end: killed"));
    process->Kill();
  }
  loop_->RunUntil(all_exited, Clock::now() + kKill);
}

ExitCode Supervisor::Result() {
  ExitCode code = kExitOk;
  std::vector<std::string> parts;
  for (const auto& process : processes_) {
    if (process->violation().has_value()) {
      code = kExitViolation;
    } else if (code == kExitOk && process.get() != qemu_ &&
               !process->ended_well()) {
      code = kExitDeviceCrashed;
    }
    if (process->planned().role != Role::kService) continue;
    std::string part = process->name();
    if (process->statistics().has_value()) {
      const Statistics& statistics = *process->statistics();
      absl::StrAppend(&part, " ", Counter(statistics, "region_writes"),
                      " stores, ", Counter(statistics, "region_reads"),
                      " loads, ", Counter(statistics, "interrupts"),
                      " interrupts");
    }
    absl::StrAppend(&part, process->violation().has_value() ? ", VIOLATION"
                           : process->ended_well()
                               ? ""
                               : ", LOST: " + process->EndText());
    parts.push_back(part);
  }
  std::string end = "stopped";
  if (qemu_ != nullptr) {
    const std::string& reason = qmp_->shutdown_reason();
    if (qmp_->panicked() || reason == "guest-panic") {
      end = "the guest panicked";
      if (code == kExitOk) code = kExitGuestPanic;
    } else if (qemu_->violation().has_value()) {
      end = "QEMU was killed by its policy";
    } else if (!qemu_->ended_well()) {
      end = "QEMU " + qemu_->EndText();
      if (code == kExitOk) code = kExitQemuCrashed;
    } else if (reason == "guest-shutdown") {
      end = "the guest powered off";
    } else if (reason == "guest-reset") {
      end = "the guest asked for a reset";
      if (code == kExitOk) code = kExitGuestReset;
    }
  }
  output_->Line(absl::StrFormat(
      "--- %s after %.1f s%s%s", end,
      std::chrono::duration<double>(Clock::now() - started_).count(),
      parts.empty() ? "" : "; ", absl::StrJoin(parts, "; ")));
  return code;
}

std::string Supervisor::Seconds() const {
  return absl::StrFormat(
      "[%9.3f] ",
      std::chrono::duration<double>(Clock::now() - started_).count());
}

}  // namespace bulkhead::launcher
