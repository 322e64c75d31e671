#include "launcher/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/error.h"
#include "launcher/runfiles.h"

namespace bulkhead::launcher {
namespace {

using Kind = Resource::Kind;

// A pair of connected sockets: {ours, the child's}.
absl::StatusOr<std::pair<Fd, Fd>> MakePair(int type) {
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::InternalError("socketpair: " + ErrnoText(errno));
  }
  return std::make_pair(Fd(ends[0]), Fd(ends[1]));
}

absl::StatusOr<std::pair<Fd, Fd>> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::InternalError("pipe: " + ErrnoText(errno));
  }
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return std::make_pair(Fd(ends[0]), Fd(ends[1]));
}

// The program that is executed: a runfile, or a file of QEMU's tree.
absl::StatusOr<Fd> OpenProgram(const PlannedProcess& planned) {
  const std::string path = planned.role == PlannedProcess::Role::kQemu
                               ? planned.tree + planned.program
                               : FindRunfile(planned.program);
  Fd program(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (program.valid()) return program;
  return UserError{.exit_code = kExitMissingFeature,
                   .id = "BH-S204",
                   .what = absl::StrCat("the program ", planned.program,
                                        " is missing: ", ErrnoText(errno)),
                   .fix = "./bazelw run //launcher:vm builds all of it"}
      .ToStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const PlannedProcess& planned, Resources* resources,
    const Configure& configure, EventLoop* loop, LogLines::Sink sink) {
  auto process =
      std::unique_ptr<Process>(new Process(planned, loop, std::move(sink)));
  absl::Status status = process->Spawn(resources);
  if (!status.ok()) return status;
  Process* self = process.get();
  loop->Add(self->pidfd_.get(), EPOLLIN, [self](uint32_t) { self->OnExit(); });
  loop->Add(self->log_.get(), EPOLLIN, [self](uint32_t) { self->OnLog(); });
  if (self->control_ != nullptr) {
    loop->Add(self->control_->fd(), EPOLLIN,
              [self](uint32_t) { self->OnControl(); });
    self->SendFirstFrames(configure);
  }
  return process;
}

absl::Status Process::Spawn(Resources* resources) {
  sandbox::JailSpec jail;
  jail.policy = planned_.policy;
  jail.arguments = planned_.arguments;
  jail.outside_id = planned_.outside_id;
  jail.mapped_bytes = planned_.mapped_bytes;
  if (planned_.role == PlannedProcess::Role::kQemu) {
    jail.tree = planned_.tree;
    jail.program_path = planned_.program;
    jail.binds = planned_.binds;
    jail.scratch = planned_.scratch;
    jail.mount_proc = true;
  }
  absl::StatusOr<Fd> program = OpenProgram(planned_);
  if (!program.ok()) return program.status();
  jail.program_fd = program->get();

  std::vector<Fd> childs;  // closed here when the child has them
  absl::StatusOr<std::pair<Fd, Fd>> log = MakePipe();
  if (!log.ok()) return log.status();
  log_ = std::move(log->first);
  const int log_end = log->second.get();
  // A full pipe costs a service lines, not time.
  if (planned_.role != PlannedProcess::Role::kQemu) {
    fcntl(log_end, F_SETFL, O_NONBLOCK);
  }
  childs.push_back(std::move(log->second));
  for (const PlannedFd& planned : planned_.fds) {
    const Kind kind = planned.resource.kind;
    int source = -1;
    if (kind == Kind::kLog) {
      source = log_end;
    } else if (kind == Kind::kControl || kind == Kind::kConsole ||
               kind == Kind::kMonitor) {
      absl::StatusOr<std::pair<Fd, Fd>> pair =
          MakePair(kind == Kind::kControl ? SOCK_SEQPACKET : SOCK_STREAM);
      if (!pair.ok()) return pair.status();
      if (kind == Kind::kControl) {
        control_ = std::make_unique<Channel>(pair->first.Release());
      } else {
        (kind == Kind::kConsole ? console_ : monitor_) = std::move(pair->first);
      }
      source = pair->second.get();
      childs.push_back(std::move(pair->second));
    } else if (IsShared(kind)) {
      source = resources->Lend(planned.resource);
    } else {
      childs.push_back(resources->Take(planned.resource));
      source = childs.back().get();
    }
    if (source < 0) {
      return absl::InternalError(
          absl::StrCat(name(), ": nothing was made for fd ", planned.target));
    }
    jail.fds.push_back({source, planned.target});
  }
  absl::StatusOr<sandbox::Process> child = sandbox::Spawn(jail);
  if (!child.ok()) return child.status();
  child_ = *std::move(child);
  pidfd_ = Fd(child_.pidfd);
  return absl::OkStatus();
}

Process::~Process() {
  CloseControl();
  if (pidfd_.valid()) {
    if (!exited_) {
      // Only on the way out of an error; the supervisor ends what it started.
      Kill();
      loop_->RunUntil([this] { return exited_; },
                      Clock::now() + std::chrono::seconds(5));
    }
    loop_->Remove(pidfd_.get());
  }
  if (log_.valid()) loop_->Remove(log_.get());
  if (console_.valid()) loop_->Remove(console_.get());
  if (monitor_.valid()) loop_->Remove(monitor_.get());
}

void Process::SendFirstFrames(const Configure& configure) {
  Hello* hello = control_->outgoing().mutable_hello();
  hello->set_version(kProtocolVersion);
  absl::Status status = control_->Send();
  if (status.ok()) {
    *control_->outgoing().mutable_configure() = configure;
    status = control_->Send();
  }
  // A child that died at once: its exit tells more.
  if (!status.ok() && status.code() != absl::StatusCode::kUnavailable) {
    Fail(std::string(status.message()));
  }
}

void Process::OnLog() {
  char piece[4096];
  const ssize_t got = read(log_.get(), piece, sizeof(piece));
  if (got > 0) {
    lines_.Add(absl::string_view(piece, got), Clock::now());
  } else if (got == 0) {
    loop_->Remove(log_.get());
    log_.Close();
  }
}

void Process::OnControl() {
  // A flood of frames must not keep the loop from the others.
  constexpr int kFramesAtOnce = 32;
  for (int i = 0; i < kFramesAtOnce && control_ != nullptr; ++i) {
    Channel::Received received;
    const absl::Status status = control_->Receive(/*wait=*/false, &received);
    if (absl::IsUnavailable(status)) {
      CloseControl();
    } else if (!status.ok()) {
      Fail(absl::StrCat("broke the protocol: ", status.message()));
    } else if (received == Channel::Received::kNothing) {
      return;
    } else {
      TakeFrame(control_->incoming());
    }
  }
}

void Process::TakeFrame(const Frame& frame) {
  constexpr size_t kLongestMessage = 1000;
  const auto say = [this](const std::string& what, const std::string& why) {
    lines_.Add(
        absl::StrCat(what, ": ", Escape(why.substr(0, kLongestMessage)), "\n"),
        Clock::now());
  };
  switch (frame.body_case()) {
    case Frame::kHello:
      if (frame.hello().version() != kProtocolVersion) {
        Fail(absl::StrCat("speaks protocol version ", frame.hello().version(),
                          ", not ", kProtocolVersion));
      }
      break;
    case Frame::kReady:
      ready_ = true;
      break;
    case Frame::kFault:
      failure_ = Escape(frame.fault().message().substr(0, kLongestMessage));
      break;
    case Frame::kStatistics:
      statistics_ = frame.statistics();
      break;
    case Frame::kBackendError:
      say(absl::StrCat("backend ", frame.backend_error().backend()),
          frame.backend_error().message());
      break;
    case Frame::kServiceLost:
      if (!stopping_) {
        say("gives the device up", frame.service_lost().message());
      }
      break;
    case Frame::kFrontEndState:
    case Frame::kAck:
      break;
    default:
      Fail("broke the protocol: sent the launcher what only others get");
  }
}

void Process::Fail(const std::string& why) {
  if (failure_.empty()) failure_ = Escape(why);
  Kill();
}

void Process::RequestStatistics() {
  if (control_ == nullptr || exited_) return;
  control_->outgoing().mutable_get_statistics();
  (void)control_->Send();
}

void Process::CloseControl() {
  if (control_ == nullptr) return;
  loop_->Remove(control_->fd());
  control_.reset();
}

void Process::Kill() {
  if (pidfd_.valid() && !exited_) {
    syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  }
}

void Process::OnExit() {
  siginfo_t info = {};
  if (waitid(static_cast<idtype_t>(P_PIDFD), pidfd_.get(), &info,
             WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0) {
    return;
  }
  loop_->Remove(pidfd_.get());
  // Its last words: the pipe holds at most 64 KiB.
  for (int i = 0; i < 16 && log_.valid(); ++i) OnLog();
  if (control_ != nullptr) OnControl();
  lines_.Finish(Clock::now());
  exited_ = true;
  exit_code_ = info.si_code;
  exit_status_ = info.si_status;
}

bool Process::ended_well() const {
  return exited_ && !violation_.has_value() && exit_code_ == CLD_EXITED &&
         exit_status_ == 0;
}

std::string Process::EndText() const {
  if (!exited_) return "is still running";
  if (exit_code_ == CLD_EXITED) {
    return absl::StrCat("exited with status ", exit_status_);
  }
  return absl::StrCat("was killed by signal ", exit_status_, " (",
                      strsignal(exit_status_), ")");
}

}  // namespace bulkhead::launcher
