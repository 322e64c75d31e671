// The server's half that shares a device with the threads of its queue groups.

#include <algorithm>

#include "services/runtime/queue_groups.h"
#include "services/runtime/server.h"

namespace bulkhead {
namespace {

// A thread comes to rest after one turn: it may wait for a host's disk there.
constexpr Nanoseconds kRestAtMost = 30'000'000'000;

void Merge(const Turn& other, Turn* turn) {
  turn->busy |= other.busy;
  turn->poll |= other.poll;
  turn->worked |= other.worked;
  turn->attention |= other.attention;
  turn->deadline = std::min(turn->deadline, other.deadline);
}

}  // namespace

void Server::Rest() {
  if (!running_apart()) return;
  ++counters_.rests;
  if (!options_.threads->Stop(kRestAtMost)) {
    context_.Fail("a queue's thread does not come to rest");
  }
}

Turn Server::RunDevice(Nanoseconds now) {
  ++counters_.turns;
  Turn turn;
  if (options_.threads != nullptr) {
    if (options_.threads->TakeAttention()) turn.attention = true;
    if (!running_apart()) {
      QueueGroups& queues = *device_.queue_groups();
      for (unsigned group = 1; group < queues.groups(); ++group) {
        Merge(queues.RunGroup(group, now), &turn);
      }
    }
  }
  Merge(device_.Run(now), &turn);
  if (turn.attention && options_.threads != nullptr) {
    Rest();
    device_.queue_groups()->Attend();
    // What it has changed is looked at once more before anybody sleeps.
    turn.busy = true;
  }
  ReportInterruptFailure();
  return turn;
}

void Server::RunApart() {
  if (at_rest_with_groups() && !quiesced_ &&
      device_.queue_groups()->MayRunApart()) {
    options_.threads->Start();
  }
}

bool Server::PrepareToSleep() {
  bool work = device_.PrepareToSleep();
  if (at_rest_with_groups()) {
    QueueGroups& queues = *device_.queue_groups();
    for (unsigned group = 1; group < queues.groups(); ++group) {
      work |= queues.PrepareGroupToSleep(group);
    }
  }
  return work;
}

void Server::WatchGroups() {
  const bool watches = !running_apart();
  if (watches == watches_groups_) return;
  watches_groups_ = watches;
  const std::vector<LiveContext::Watched>& watched = context_.watched();
  for (size_t i = 0; i < watched.size(); ++i) {
    if (watched[i].group == 0) continue;
    poll_[kFirstWatched + i].fd = watches ? watched[i].fd : -1;
  }
  // At rest each turn looks by itself whether a group has come to it.
  if (options_.threads != nullptr) {
    poll_.back().fd = watches ? -1 : options_.threads->event_fd();
  }
}

bool Server::WakesGroup(const RegionWrite& request, uint64_t value) {
  if (!running_apart()) return false;
  const int group = device_.queue_groups()->TakeDoorbell(
      request.region(), request.offset(), request.size_bytes(), value);
  if (group < 0) return false;
  options_.threads->Wake(static_cast<unsigned>(group));
  return true;
}

}  // namespace bulkhead
