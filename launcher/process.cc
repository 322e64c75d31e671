#include "launcher/process.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/waiting_child.h"

namespace bulkhead::launcher {
namespace {

constexpr uint64_t kFramesSentByVm = 2;  // Hello, Configure

}  // namespace

std::unique_ptr<Process> Process::Start(const JailedProcess& planned,
                                        EventLoop* loop, OnFrame on_frame,
                                        OnEnd on_end,
                                        sandbox::Report* failure) {
  int trace_error = 0;
  if (!sandbox::Release({planned.pid(), planned.pidfd(), planned.jail_socket()},
                        &trace_error, failure)) {
    return nullptr;
  }
  auto process = std::unique_ptr<Process>(
      new Process(planned, loop, std::move(on_frame), std::move(on_end)));
  process->trace_error_ = trace_error;
  Process* self = process.get();
  loop->Add(self->pidfd_.get(), EPOLLIN, [self](uint32_t) { self->OnExit(); });
  if (planned.role() == JailedProcess::REMOTE) self->ready_ = true;
  return process;
}

Process::Process(const JailedProcess& planned, EventLoop* loop,
                 OnFrame on_frame, OnEnd on_end)
    : planned_(planned),
      loop_(loop),
      on_frame_(std::move(on_frame)),
      on_end_(std::move(on_end)),
      pidfd_(planned.pidfd()) {
  if (planned.control_fd() < 0) return;
  control_ = std::make_unique<Channel>(planned.control_fd(), kFramesSentByVm);
  loop_->Add(control_->fd(), EPOLLIN, [this](uint32_t) { OnControl(); });
}

Process::~Process() {
  CloseControl();
  if (pidfd_.valid()) loop_->Remove(pidfd_.get());
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
      CloseControl();
    } else if (received == Channel::Received::kNothing) {
      return;
    } else {
      TakeFrame(control_->incoming());
    }
  }
}

bool Process::MaySpeak() {
  const Clock::time_point now = Clock::now();
  if (now - speaking_since_ >= std::chrono::seconds(1)) {
    speaking_since_ = now;
    words_ = 0;
  }
  return ++words_ <= kWordsPerSecond;
}

void Process::TakeFrame(const Frame& frame) {
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
      failure_ = frame.fault().message().substr(0, kLongestWords);
      break;
    case Frame::kBackendError:
    case Frame::kServiceLost:
      if (MaySpeak()) on_frame_(this, frame);
      break;
    case Frame::kAck:
    case Frame::kStatistics:
    case Frame::kConsoleRequest:
      on_frame_(this, frame);
      break;
    default:
      Fail("broke the protocol: sent the launcher what only others get");
  }
}

void Process::Fail(const std::string& why) {
  if (failure_.empty()) failure_ = why;
  Kill();
}

void Process::CloseControl() {
  if (control_ == nullptr) return;
  loop_->Remove(control_->fd());
  control_.reset();
}

void Process::Kill() {
  if (pidfd_.valid() && !exited()) {
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
  OnControl();  // its last words
  death_ = sandbox::TakeDeath(planned_.pid());
  end_ = info;
  on_end_(this);
}

bool Process::ended_well() const {
  return exited() && !death_.violation && end_.si_code == CLD_EXITED &&
         end_.si_status == 0;
}

}  // namespace bulkhead::launcher
