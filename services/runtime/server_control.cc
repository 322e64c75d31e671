// The server's half that answers the launcher.

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/runtime/server.h"
#include "services/runtime/state_file.h"

namespace bulkhead {
namespace {

// Frames of the shim that Quiesce still lets through: what waits in a socket.
constexpr int kMaxFramesBeforeQuiesce = 4096;

void Count(Statistics* statistics, const char* name, uint64_t value) {
  Statistic* counter = statistics->add_counters();
  counter->set_name(name);
  counter->set_value(value);
}

// Each group's storage counts for itself, under the same names.
void AddUp(Statistics* statistics) {
  Statistics sums;
  std::map<std::string, Statistic*> counters;
  for (const Statistic& counter : statistics->counters()) {
    Statistic*& sum = counters[counter.name()];
    if (sum == nullptr) {
      sum = sums.add_counters();
      sum->set_name(counter.name());
    }
    sum->set_value(sum->value() + counter.value());
  }
  std::map<std::string, Histogram*> histograms;
  for (const Histogram& histogram : statistics->latencies()) {
    Histogram*& sum = histograms[histogram.name()];
    if (sum == nullptr) {
      sum = sums.add_latencies();
      sum->set_name(histogram.name());
    }
    for (int i = 0; i < histogram.counts_size(); ++i) {
      if (i == sum->counts_size()) sum->add_counts(0);
      sum->set_counts(i, sum->counts(i) + histogram.counts(i));
    }
  }
  *statistics = std::move(sums);
}

ErrorCode CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return OK;
    case absl::StatusCode::kInvalidArgument:
      return INVALID_ARGUMENT;
    case absl::StatusCode::kFailedPrecondition:
      return UNSUPPORTED;
    case absl::StatusCode::kResourceExhausted:
      return RESOURCE_EXHAUSTED;
    default:
      return INTERNAL;
  }
}

}  // namespace

absl::Status Server::ServeControlFrame() {
  const Frame& frame = control_.incoming();
  const uint64_t sequence = frame.sequence();
  ++counters_.frames;
  if (frame.body_case() != Frame::kPing) Rest();
  switch (frame.body_case()) {
    case Frame::kPing:
      return AnswerAck(control_, sequence, OK);
    case Frame::kQuiesce:
      return OnQuiesce();
    case Frame::kResume:
      if (!shim_open_) {
        return AnswerAck(control_, sequence, UNSUPPORTED, "the shim is gone");
      }
      if (quiesced_) device_.Resume();
      quiesced_ = false;
      return AnswerAck(control_, sequence, OK);
    case Frame::kSaveState:
      return OnSaveState();
    case Frame::kLoadState:
      return OnLoadState();
    case Frame::kGrowDisk:
      return OnGrowDisk();
    case Frame::kGetStatistics:
      FillStatistics(control_.outgoing().mutable_statistics());
      return Answer(control_, sequence);
    case Frame::kRegionRead:
    case Frame::kRegionWrite:
    case Frame::kMemoryMap:
    case Frame::kMemoryUnmap:
    case Frame::kSetInterrupts:
    case Frame::kReset:
      return AnswerAck(control_, sequence, UNSUPPORTED, "the shim's request");
    case Frame::BODY_NOT_SET:
      return AnswerAck(control_, sequence, UNKNOWN_REQUEST);
    default:
      return absl::DataLossError(
          absl::StrCat("from the launcher: a frame of type ",
                       static_cast<int>(frame.body_case()),
                       ", which a service does not expect now"));
  }
}

// What the shim has sent before it was paused is applied first, so that a saved
// state holds every store that the guest has made.
absl::Status Server::OnQuiesce() {
  const uint64_t sequence = control_.incoming().sequence();
  if (!quiesced_) {
    int frames = 0;
    if (absl::Status status = DrainShim(kMaxFramesBeforeQuiesce, &frames);
        !status.ok()) {
      return status;
    }
  }
  const absl::Status frozen = Freeze();
  return AnswerAck(control_, sequence, CodeOf(frozen),
                   std::string(frozen.message()));
}

absl::Status Server::OnSaveState() {
  const uint64_t sequence = control_.incoming().sequence();
  if (!quiesced_) {
    return AnswerAck(control_, sequence, INVALID_ARGUMENT, "quiesce first");
  }
  const absl::Status saved = WriteState(control_.incoming_fds()[0].get(),
                                        options_.model, device_.State());
  return AnswerAck(control_, sequence, CodeOf(saved),
                   std::string(saved.message()));
}

absl::Status Server::OnLoadState() {
  const uint64_t sequence = control_.incoming().sequence();
  if (!quiesced_) {
    return AnswerAck(control_, sequence, INVALID_ARGUMENT, "quiesce first");
  }
  const absl::Span<std::byte> room =
      absl::MakeSpan(loaded_state_.get(), state_bytes_);
  absl::Status loaded =
      ReadState(control_.incoming_fds()[0].get(), options_.model, room);
  if (loaded.ok() && !device_.LoadState(room)) {
    loaded = absl::InvalidArgumentError(
        "the device refuses the saved state: it is not one of its own");
  }
  return AnswerAck(control_, sequence, CodeOf(loaded),
                   std::string(loaded.message()));
}

// Answered when it is done: a file that grows may wait for its disk.
absl::Status Server::OnGrowDisk() {
  const uint64_t sequence = control_.incoming().sequence();
  const GrowDisk& request = control_.incoming().grow_disk();
  if (request.backend() >= context_.disks().size()) {
    return AnswerAck(
        control_, sequence, OUT_OF_RANGE,
        absl::StrCat("the device has ", context_.disks().size(), " disks"));
  }
  if (growth_.sequence != 0) {
    return AnswerAck(control_, sequence, RESOURCE_EXHAUSTED,
                     "a disk of this device is growing already");
  }
  growth_.sequence = sequence;
  growth_.size_bytes = request.size_bytes();
  growth_.owner = this;
  growth_.done = [](Growth* growth) {
    auto* self = static_cast<Server*>(growth->owner);
    const uint64_t asked = self->growth_.sequence;
    self->growth_.sequence = 0;
    // The loop notices by itself when the launcher has gone.
    (void)self->AnswerAck(self->control_, asked, CodeOf(growth->status),
                          std::string(growth->status.message()));
  };
  context_.disks()[request.backend()]->Grow(&growth_);
  return absl::OkStatus();
}

void Server::FillStatistics(Statistics* statistics) const {
  const EventfdInterrupts& interrupts = context_.eventfd_interrupts();
  Count(statistics, "frames", counters_.frames);
  Count(statistics, "region_reads", counters_.region_reads);
  Count(statistics, "region_writes", counters_.region_writes);
  Count(statistics, "refused_accesses", counters_.refused_accesses);
  Count(statistics, "refused_requests", counters_.refused_requests);
  Count(statistics, "interrupts", interrupts.raised());
  Count(statistics, "interrupts_failed", interrupts.failed());
  Count(statistics, "turns", counters_.turns);
  Count(statistics, "sleeps", counters_.sleeps);
  Count(statistics, "receives", counters_.receives);
  Count(statistics, "polls", counters_.polls);
  Count(statistics, "spins", counters_.spins);
  Count(statistics, "spins_that_paid", counters_.spins_that_paid);
  if (options_.threads != nullptr) {
    const QueueThreads::Counters apart = options_.threads->counters();
    Count(statistics, "group_rests", counters_.rests);
    Count(statistics, "group_turns", apart.turns);
    Count(statistics, "group_sleeps", apart.sleeps);
    Count(statistics, "group_spins", apart.spins);
    Count(statistics, "group_spins_that_paid", apart.spins_that_paid);
  }
  Count(statistics, "log_lines_suppressed", context_.log().suppressed());
  device_.ReportStatistics(statistics);
  if (options_.threads != nullptr) AddUp(statistics);
}

}  // namespace bulkhead
