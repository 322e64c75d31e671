// The turn: commands from queues to backends and back, by one thread or by
// several; interrupts.

#include <algorithm>
#include <bit>
#include <memory>

#include "services/nvme/controller.h"

namespace bulkhead::nvme {
namespace {

// Commands fetched in one turn, and how long that may take: large transfers
// from the host's page cache are done at once.
constexpr unsigned kFetchesPerTurn = 64;
constexpr Nanoseconds kFetchTime = 200'000;
// To ask for the time costs a thirtieth of a small read.
constexpr unsigned kFetchesPerLook = 4;

}  // namespace

bool Controller::SomeHaveGrown() const {
  return std::any_of(
      subsystem_.namespaces.begin(), subsystem_.namespaces.end(),
      [](const Namespace& each) { return each.blocks() != each.known_blocks; });
}

void Controller::FollowBackends() {
  uint32_t nsid = 0;
  for (Namespace& each : subsystem_.namespaces) {
    ++nsid;
    if (each.blocks() == each.known_blocks) continue;
    for (unsigned group = 1; group < group_count_; ++group) {
      each.backend(group).Follow(each.backend().geometry());
    }
    each.known_blocks = each.blocks();
    logs_.NamespaceChanged(nsid);
  }
}

// `look_again`: what the host has added to memory since the turn's first look
// counts too, so that a busy host's commands come in fewer, longer turns.
bool Controller::FetchNext(unsigned group, bool admin, bool look_again,
                           Command* command, uint16_t* sq_id) {
  return queues_.Fetch(group, admin, command, sq_id) ||
         (look_again && queues_.PollDoorbells(group) &&
          queues_.Fetch(group, admin, command, sq_id));
}

bool Controller::Fetch(unsigned group, bool admin, Nanoseconds now) {
  IoCommands& io = groups_[group]->io;
  unsigned fetched = 0;
  for (; fetched < kFetchesPerTurn && io.HasRoom(); ++fetched) {
    if (fetched > 0 && fetched % kFetchesPerLook == 0 &&
        context().Now() >= now + kFetchTime) {
      break;
    }
    Command command;
    uint16_t sq_id;
    if (!FetchNext(group, admin, fetched > 0, &command, &sq_id)) break;
    if (fetched == 0) {
      for (Namespace& each : subsystem_.namespaces) {
        each.backend(group).BeginBatch();
      }
    }
    if (sq_id == 0) {
      admin_.Start(command, UsableVectors(), now);
    } else {
      io.Start(sq_id, command);
    }
  }
  if (fetched > 0) {
    for (Namespace& each : subsystem_.namespaces) {
      each.backend(group).EndBatch();
    }
  }
  return fetched > 0;
}

// §9.5: a ring that is no memory. The host has to reset.
void Controller::FailIfFatal() {
  for (unsigned group = 0; group < group_count_; ++group) {
    if (!queues_.fatal(group) || (registers().csts & kCstsFatal) != 0) continue;
    registers().csts |= kCstsFatal;
    ++fatal_errors_;
  }
}

void Controller::ServeGroup(unsigned group, bool admin, Nanoseconds now,
                            Turn* turn) {
  IoCommands& io = groups_[group]->io;
  turn->worked = io.Run();
  if (Running()) {
    if (admin) FollowBackends();
    queues_.PollDoorbells(group);
    turn->worked |= Fetch(group, admin, now);
  }
}

Turn Controller::Run(Nanoseconds now) {
  const bool alone = group_count_ == 1;
  Turn turn;
  const uint32_t csts = registers().csts;
  ServeGroup(0, alone, now, &turn);
  if (Running()) {
    if (alone) {
      admin_.Run();
      FailIfFatal();
    } else {
      turn.attention = WantsAttention();
    }
  }
  Settle();
  if (registers().csts != csts) Publish();
  // Where MSI-X does not pass, no group runs apart.
  DeliverInterrupts(now, !msix_passes(), &turn.deadline);
  IoCommands& io = groups_[0]->io;
  turn.busy =
      io.busy() || (Running() && io.HasRoom() && queues_.HasWork(0, alone));
  turn.poll = Running() && queues_.polls_memory();
  return turn;
}

bool Controller::PrepareToSleep() {
  // Commands that find no slot wait for a backend, which wakes the loop.
  const bool work = Running() && queues_.ArmDoorbells(0, group_count_ == 1) &&
                    groups_[0]->io.HasRoom();
  return work;
}

// ---- groups

bool Controller::MayRunApart() const {
  return Running() && !flushing_ && msix_passes() && !queues_.coalesces() &&
         !queues_.AnyIsGoing();
}

Turn Controller::RunGroup(unsigned group, Nanoseconds now) {
  Turn turn;
  ServeGroup(group, /*admin=*/false, now, &turn);
  Group& served = *groups_[group];
  const bool passes = msix_passes();
  const Vectors raised = queues_.TakeInterrupts(group, now, &turn.deadline);
  for (uint64_t left = raised.to_ullong(); left != 0; left &= left - 1) {
    const auto vector = static_cast<uint32_t>(std::countr_zero(left));
    if (passes && TriggerMsixApart(vector)) {
      ++served.interrupts;
    } else {
      served.unsignalled[vector] = true;
    }
  }
  turn.attention = Running() && (queues_.WantsAttention(group) ||
                                 (passes && served.unsignalled.any()));
  turn.busy = served.io.busy() || (Running() && served.io.HasRoom() &&
                                   queues_.HasWork(group, false));
  turn.poll = Running() && queues_.polls_memory();
  return turn;
}

bool Controller::PrepareGroupToSleep(unsigned group) {
  return Running() && queues_.ArmDoorbells(group, false) &&
         groups_[group]->io.HasRoom();
}

// What only the loop does, and only at rest. A deletion goes on when its queue
// has nothing in flight; the groups are at rest until then.
bool Controller::WantsAttention() {
  return SomeHaveGrown() || queues_.WantsAttention(0) ||
         queues_.HasAdminWork() || admin_.HasWork();
}

void Controller::Attend() {
  const uint32_t csts = registers().csts;
  for (unsigned group = 1; group < group_count_; ++group) {
    logs_.Take(groups_[group]->own_logs);
  }
  queues_.Report();
  if (Running()) {
    FollowBackends();
    Command command;
    for (unsigned n = 0; n < kFetchesPerTurn && queues_.FetchAdmin(&command);
         ++n) {
      admin_.Start(command, UsableVectors(), context().Now());
    }
    admin_.Run();
    FailIfFatal();
  }
  if (registers().csts != csts) Publish();
  Nanoseconds deadline = kNoDeadline;  // the next turn's to tell
  DeliverInterrupts(context().Now(), /*at_rest=*/true, &deadline);
}

int Controller::TakeDoorbell(uint32_t region, uint64_t offset,
                             unsigned size_bytes, uint64_t value) {
  if (region != kBar0Region || offset < kDoorbells || offset >= kMsixTable ||
      size_bytes != 4) {
    return -1;
  }
  const int group =
      queues_.KeepRing(offset - kDoorbells, static_cast<uint32_t>(value));
  if (group >= 0) ++doorbells_;
  return group;
}

uint32_t Controller::UsableVectors() const {
  if (msix_enabled()) return kVectors;
  return msi_enabled() ? kMsiVectors : 1;
}

// §7.5. INTMS and INTMC are for INTx and MSI only.
void Controller::DeliverInterrupts(Nanoseconds now, bool at_rest,
                                   Nanoseconds* deadline) {
  Vectors raised = queues_.TakeInterrupts(0, now, deadline);
  for (unsigned group = 1; at_rest && group < group_count_; ++group) {
    raised |= groups_[group]->unsignalled;
    groups_[group]->unsignalled.reset();
  }
  if (!msix_enabled() && !msi_enabled()) {
    const Vectors unread = Running() ? queues_.Unread() : Vectors();
    const bool level =
        ((unread.to_ullong() & 0xffffffff) & ~registers().interrupt_mask) != 0;
    groups_[0]->interrupts += level && !interrupt_asserted();
    SetInterrupt(level);
    return;
  }
  SetInterrupt(false);
  raised |= masked_msi_;
  masked_msi_.reset();
  if (raised.none()) return;
  static_assert(kVectors <= 64);
  for (uint64_t left = raised.to_ullong(); left != 0; left &= left - 1) {
    const auto vector = static_cast<uint32_t>(std::countr_zero(left));
    if (msix_enabled()) {
      TriggerMsix(vector);
    } else if (vector < 32 && (registers().interrupt_mask >> vector & 1) != 0) {
      masked_msi_[vector] = true;
      continue;
    } else {
      TriggerMsi(vector);
    }
    ++groups_[0]->interrupts;
  }
}

}  // namespace bulkhead::nvme
