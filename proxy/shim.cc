#include "proxy/shim.h"

#include <poll.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace bulkhead::proxy {
namespace {

constexpr Nanoseconds kMillisecond = 1'000'000;
constexpr Nanoseconds kMicrosecond = 1'000;
constexpr Nanoseconds kMaxSpin = 200 * kMicrosecond;

// Turns in which only QEMU was looked at, before everything is.
constexpr int kMaxTurnsWithoutWait = 32;

}  // namespace

absl::StatusOr<ShimSettings> ReceiveSettings(Channel& control) {
  Channel::Received received;
  absl::Status status = control.Receive(/*wait=*/true, &received);
  if (!status.ok()) return status;
  if (control.incoming().hello().version() != kProtocolVersion) {
    return absl::FailedPreconditionError("the launcher is of another version");
  }
  control.outgoing().mutable_hello()->set_version(kProtocolVersion);
  if (status = control.Send(); !status.ok()) return status;
  status = control.Receive(/*wait=*/true, &received);
  if (!status.ok()) return status;
  if (!control.incoming().configure().has_shim()) {
    return absl::InvalidArgumentError("the second frame is no ShimConfig");
  }
  const ShimConfig& config = control.incoming().configure().shim();
  ShimSettings settings;
  settings.ram = {config.ram_device(), config.ram_inode(), config.ram_bytes()};
  if (config.access_deadline_ms() != 0) {
    settings.deadlines.access = config.access_deadline_ms() * kMillisecond;
    settings.deadlines.reset =
        std::max(settings.deadlines.reset, settings.deadlines.access);
  }
  settings.deadlines.spin =
      std::min(config.spin_limit_us() * kMicrosecond, kMaxSpin);
  return settings;
}

void Shim::Run() {
  while (!ended_) {
    Turn();
    device_.Settle();
    Report();
  }
}

// Right after QEMU has been served its next message is often near.
bool Shim::Spin() {
  if (idle_since_ != 0 || !front_end_.connected() ||
      turns_without_wait_ == kMaxTurnsWithoutWait) {
    return false;
  }
  idle_since_ = MonotonicNow();
  situation_ = device_.recent().situation();
  if (!spin_.Spin(situation_, [this] { return front_end_.Serve(); })) {
    return false;
  }
  idle_since_ = 0;
  return true;
}

void Shim::ServeFrontEnd() {
  const Nanoseconds now = MonotonicNow();
  if (!front_end_.Serve()) return;
  if (idle_since_ != 0) spin_.Woken(now - idle_since_, situation_);
  idle_since_ = 0;
}

void Shim::Turn() {
  if (Spin()) {
    ++turns_without_wait_;
    return;
  }
  const bool has_more = front_end_.HasMore();
  const Nanoseconds deadline =
      has_more
          ? 0
          : std::min(device_.link().handshake_deadline(), device_.deadline());
  const Nanoseconds now = deadline == kNoDeadline ? 0 : MonotonicNow();
  const timespec timeout = ToTimespec(now < deadline ? deadline - now : 0);
  // QEMU is not let in before it is known what it will find.
  const bool waits_for_service =
      !front_end_.connected() &&
      (device_.link().state() == ServiceLink::State::kHandshaking ||
       device_.link().state() == ServiceLink::State::kDescribed);
  pollfd entries[] = {{waits_for_service ? -1 : front_end_.fd(), POLLIN, 0},
                      {device_.link().fd(), POLLIN, 0},
                      {control_.fd(), POLLIN, 0},
                      {device_.intx_unmask_fd(), POLLIN, 0}};
  ppoll(entries, std::size(entries),
        deadline == kNoDeadline ? nullptr : &timeout, nullptr);
  turns_without_wait_ = 0;

  if (entries[1].revents != 0 || MonotonicNow() >= deadline)
    device_.link().Poll();
  if (entries[3].revents != 0) device_.OnIntxUnmaskFd();
  if (entries[2].revents != 0) HandleControl();
  if (has_more || entries[0].revents != 0) ServeFrontEnd();
}

void Shim::Report() {
  const bool lost = device_.link().state() == ServiceLink::State::kLost;
  if (lost && !reported_lost_) {
    control_.outgoing().mutable_service_lost()->set_message(
        device_.link().loss());
    SendControl();
  }
  reported_lost_ = lost;
}

void Shim::HandleControl() {
  Channel::Received received;
  if (!control_.Receive(/*wait=*/false, &received).ok()) {
    ended_ = true;
    return;
  }
  if (received == Channel::Received::kNothing) return;
  const Frame& request = control_.incoming();
  control_.outgoing().set_in_reply_to(request.sequence());
  Ack* ack = control_.outgoing().mutable_ack();
  if (request.has_replace_channel()) {
    device_.link().Connect(control_.TakeFd(0));
    reported_lost_ = false;
  } else {
    ack->set_error(UNKNOWN_REQUEST);
  }
  SendControl();
}

void Shim::SendControl() {
  const absl::Status status = control_.Send();
  // A launcher that does not read loses reports; one that is gone ends us.
  if (!status.ok() && !absl::IsResourceExhausted(status)) ended_ = true;
}

}  // namespace bulkhead::proxy
