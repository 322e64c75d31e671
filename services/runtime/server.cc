#include "services/runtime/server.h"

#include <errno.h>
#include <sched.h>

#include <algorithm>
#include <ctime>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

constexpr size_t kControlEntry = 0;
constexpr size_t kShimEntry = 1;

// A wait that ends sooner has not been one: something was there already.
constexpr Nanoseconds kAtOnce = 3'000;

// Looks at every descriptor, not only the shim's, this often while spinning.
constexpr int kSpinsPerPoll = 4;

// While a device's rings are polled, the shim's channel is looked at this
// often.
constexpr Nanoseconds kLookInterval = 20'000;

}  // namespace

unsigned CpusOfThisProcess() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&allowed));
}

Server::Server(LiveContext& context, Device& device, Channel& shim,
               Channel& control, const Options& options)
    : context_(context),
      device_(device),
      shim_(shim),
      control_(control),
      options_(options),
      loaded_state_(new std::byte[device.State().size()]),
      state_bytes_(device.State().size()),
      spin_(options.spin_limit) {
  DeviceDescription description;
  device_.Describe(&description);
  for (const Region& region : description.regions()) {
    if (region.index() >= regions_.size()) continue;
    regions_[region.index()] = {region.size_bytes(), region.readable(),
                                region.writable()};
  }
  poll_.push_back({control_.fd(), POLLIN, 0});
  poll_.push_back({shim_.fd(), POLLIN, 0});
  for (const LiveContext::Watched& watched : context_.watched()) {
    poll_.push_back({watched.fd, POLLIN, 0});
  }
  if (options_.threads != nullptr) {
    poll_.push_back({-1, POLLIN, 0});
  }
}

absl::Status Server::Serve() {
  absl::Status status = Loop();
  Rest();
  if (const absl::Status quiet = Freeze(); !quiet.ok()) {
    // Not destroyed either: requests of its disks would end into it.
    context_.Fail(quiet.message());
  }
  return status;
}

absl::Status Server::Loop() {
  int turns_without_poll = 0;
  while (control_open_) {
    int frames = 0;
    if (absl::Status status = TakeShimFrames(&frames); !status.ok()) {
      return status;
    }
    Turn turn;
    if (!quiesced_) {
      turn = RunDevice(context_.Now());
      RunApart();
    }
    if (frames == kBatch || turn.busy) {
      frames_come_together_ = true;  // a turn later would be late
      if (++turns_without_poll >= kBusyTurns) {
        turns_without_poll = 0;
        bool ready;
        const timespec now = {};
        if (absl::Status status = Poll(&now, &ready); !status.ok()) {
          return status;
        }
      }
      continue;
    }
    turns_without_poll = 0;
    if (absl::Status status = Idle(turn); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::DrainShim(int limit, int* frames) {
  while (*frames < limit && shim_open_ && !quiesced_) {
    Channel::Received received;
    ++counters_.receives;
    if (absl::Status status = shim_.Receive(/*wait=*/false, &received);
        !status.ok()) {
      if (absl::IsUnavailable(status)) {
        ShimClosed();
        return absl::OkStatus();
      }
      return absl::Status(status.code(),
                          absl::StrCat("from the shim: ", status.message()));
    }
    if (received == Channel::Received::kNothing) break;
    ++*frames;
    if (absl::Status status = ServeShimFrame(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::TakeShimFrames(int* frames) {
  const bool together = frames_come_together_;
  absl::Status status = DrainShim(together ? kBatch : 1, frames);
  if (together && *frames == 1) frames_come_together_ = false;
  return status;
}

absl::Status Server::DrainControl() {
  for (int i = 0; i < kBatch; ++i) {
    Channel::Received received;
    if (absl::Status status = control_.Receive(/*wait=*/false, &received);
        !status.ok()) {
      if (absl::IsUnavailable(status)) {
        control_open_ = false;
        return absl::OkStatus();
      }
      return absl::Status(
          status.code(), absl::StrCat("from the launcher: ", status.message()));
    }
    if (received == Channel::Received::kNothing) break;
    if (absl::Status status = ServeControlFrame(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::Freeze() {
  if (quiesced_) return absl::OkStatus();
  absl::Status status = device_.Quiesce();
  quiesced_ = status.ok();
  return status;
}

// QEMU is gone. What the device has in flight still reaches its disk; then the
// service waits for the launcher. What takes too long may still end until then.
void Server::ShimClosed() {
  shim_open_ = false;
  Rest();
  if (Freeze().ok()) context_.memory().UnmapAll();
}

absl::Status Server::Idle(const Turn& turn) {
  Nanoseconds deadline = turn.deadline;
  Nanoseconds start = context_.Now();
  // After an interrupt the driver comes soon; after its answer it may not.
  const uint64_t raised = context_.eventfd_interrupts().raised();
  waits_.Note(raised == raised_before_ ? 1 : 2);
  raised_before_ = raised;
  const uint32_t situation = waits_.situation();
  const Nanoseconds budget = spin_.budget(situation);
  if (budget > 0 && deadline > start) {
    ++counters_.spins;
    bool found = false;
    absl::Status status =
        turn.poll && !quiesced_
            ? SpinOnDevice(budget, &start, &deadline, &found)
            : Spin(std::min(deadline, start + budget), &found);
    if (!status.ok()) return status;
    if (found) {
      ++counters_.spins_that_paid;
      spin_.Paid(situation);
      return absl::OkStatus();
    }
  }
  const Nanoseconds asleep_since = context_.Now();
  if (absl::Status status = Sleep(deadline); !status.ok()) return status;
  const Nanoseconds end = context_.Now();
  if (end - asleep_since < kAtOnce) frames_come_together_ = true;
  if (end < deadline) spin_.Woken(end - start, situation);
  return absl::OkStatus();
}

absl::Status Server::Spin(Nanoseconds until, bool* found) {
  const timespec no_wait = {};
  for (int i = 1; context_.Now() < until; ++i) {
    const bool was_open = shim_open_;
    int frames = 0;
    if (absl::Status status = TakeShimFrames(&frames); !status.ok()) {
      return status;
    }
    *found = frames > 0 || shim_open_ != was_open;
    if (frames > 0 && i == 1) frames_come_together_ = true;
    if (!*found && i % kSpinsPerPoll == 0) {
      if (absl::Status status = Poll(&no_wait, found); !status.ok()) {
        return status;
      }
    }
    if (*found) return absl::OkStatus();
    sched_yield();  // whom we have just woken may have been put on this CPU
  }
  return absl::OkStatus();
}

// As Spin, for a device whose driver may bring work through guest memory. Each
// find gives it the whole budget again; the descriptors are looked at in
// between, and the first frame ends the spin. `*idle_since` becomes the time of
// the last work, `*deadline` what the device asked for last.
absl::Status Server::SpinOnDevice(Nanoseconds budget, Nanoseconds* idle_since,
                                  Nanoseconds* deadline, bool* found) {
  const timespec no_wait = {};
  Nanoseconds now = context_.Now();
  Nanoseconds until = now + budget;
  Nanoseconds look_at = now + kLookInterval;
  uint64_t raised = context_.eventfd_interrupts().raised();
  for (int looks = 1; now < until; now = context_.Now()) {
    const Turn turn = RunDevice(now);
    *deadline = turn.deadline;
    if (turn.worked || turn.busy) {
      spin_.Paid(waits_.situation());
      *idle_since = now;
      until = now + budget;
    }
    if (!turn.poll) {
      *found = turn.busy || turn.worked;
      return absl::OkStatus();
    }
    if (const uint64_t now_raised = context_.eventfd_interrupts().raised();
        now_raised != raised) {
      raised = now_raised;
      sched_yield();  // whom that has woken may have been put on this CPU
    }
    if (now < look_at) {
      PauseInSpin(now - *idle_since);
      continue;
    }
    look_at = now + kLookInterval;
    const bool was_open = shim_open_;
    int frames = 0;
    if (absl::Status status = TakeShimFrames(&frames); !status.ok()) {
      return status;
    }
    bool ready = frames > 0 || shim_open_ != was_open;
    if (!ready && looks++ % kSpinsPerPoll == 0) {
      if (absl::Status status = Poll(&no_wait, &ready); !status.ok()) {
        return status;
      }
    }
    if (ready || quiesced_) {
      *found = true;
      return absl::OkStatus();
    }
    sched_yield();
  }
  // What was found before does not count: the last stretch was in vain.
  return absl::OkStatus();
}

absl::Status Server::Sleep(Nanoseconds deadline) {
  std::atomic<uint32_t>& sleeping = context_.shadow().sleeping;
  // Sequentially consistent: who rings a doorbell after this store sees it, and
  // a doorbell that was rung before it is seen by the turn below.
  sleeping.store(1);
  if (context_.has_doorbells() && !quiesced_) {
    const Turn turn = RunDevice(context_.Now());
    deadline = turn.busy ? 0 : std::min(deadline, turn.deadline);
  }
  if (!quiesced_ && PrepareToSleep()) deadline = 0;
  timespec timeout;
  const timespec* timeout_or_none = nullptr;
  if (deadline != kNoDeadline && !quiesced_) {
    const Nanoseconds now = context_.Now();
    timeout = ToTimespec(deadline > now ? deadline - now : 0);
    timeout_or_none = &timeout;
  }
  ++counters_.sleeps;
  bool ready;
  absl::Status status = Poll(timeout_or_none, &ready);
  sleeping.store(0, std::memory_order_relaxed);
  return status;
}

// Waits for any descriptor and serves the control channel; what the shim and
// the backends have is left to the next round of the loop.
absl::Status Server::Poll(const timespec* timeout, bool* ready) {
  poll_[kShimEntry].fd = shim_open_ && !quiesced_ ? shim_.fd() : -1;
  WatchGroups();
  ++counters_.polls;
  const int count = ppoll(poll_.data(), poll_.size(), timeout, nullptr);
  if (count < 0 && errno != EINTR) {
    return absl::InternalError(absl::StrCat("ppoll: errno ", errno));
  }
  *ready = count > 0;
  if (count <= 0) return absl::OkStatus();
  for (size_t i = kFirstWatched; i < poll_.size(); ++i) {
    // A descriptor that is broken or at its end would be ready for ever.
    if ((poll_[i].revents & (POLLNVAL | POLLERR | POLLHUP)) != 0) {
      poll_[i].fd = -1;
    }
  }
  if (poll_[kControlEntry].revents != 0) return DrainControl();
  return absl::OkStatus();
}

absl::Status Server::SendWaiting(Channel& channel,
                                 const std::vector<int>& fds) {
  for (;;) {
    absl::Status status = channel.Send(fds);
    if (!absl::IsResourceExhausted(status)) return status;
    if (!channel.WaitToSend(kAnswerTimeoutMs)) {
      return absl::DeadlineExceededError("a peer does not take its answers");
    }
  }
}

absl::Status Server::Answer(Channel& channel, uint64_t sequence) {
  channel.outgoing().set_in_reply_to(sequence);
  absl::Status status = SendWaiting(channel, {});
  if (!absl::IsUnavailable(status)) return status;
  // The peer has gone; the next Receive notices and deals with it.
  return absl::OkStatus();
}

absl::Status Server::AnswerAck(Channel& channel, uint64_t sequence,
                               ErrorCode error, absl::string_view message) {
  if (error != OK) ++counters_.refused_requests;
  Ack* ack = channel.outgoing().mutable_ack();
  ack->set_error(error);
  if (!message.empty()) {
    ack->set_message(message.data(), std::min<size_t>(message.size(), 256));
  }
  return Answer(channel, sequence);
}

}  // namespace bulkhead
