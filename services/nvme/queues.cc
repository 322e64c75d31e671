#include "services/nvme/queues.h"

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace bulkhead::nvme {
namespace {

constexpr uint64_t kEntryBytes = sizeof(Command);
// The list of a command of 128 KiB.
constexpr uint64_t kListAheadBytes = 256;

}  // namespace

void Queues::Reset() {
  state_ = QueueState();
  in_flight_ = {};
  reserved_ = {};
  live_.reset();
  end_ = 0;
  ForgetGroups();
}

void Queues::ForgetGroups() {
  for (Group& group : groups_) {
    group.next = group.burst_left = 0;
    group.raised.reset();
    group.fatal = group.bad_doorbell = false;
    group.rung = false;
  }
  for (auto& value : rung_) value = kNotRung;
  counted_ = {};
  holds_back_ = false;
  CountQueuesOfVectors();
}

// Whatever may have been coalesced is signalled: too often does no harm.
void Queues::Recover() {
  in_flight_ = {};
  reserved_ = {};
  live_.reset();
  ForgetGroups();
  groups_[0].raised = Unread();
  end_ = 0;
  for (uint16_t id = 0; id < kQueues; ++id) {
    const SubmissionQueue& queue = state_.submission[id];
    SetLive(id, queue.entries != 0);
    if (queue.entries == 0 || queue.deleting == 0) continue;
    // Its Delete command is in flight still, and keeps room.
    ++in_flight_[0];
    ++reserved_[state_.submission[0].cq_id];
  }
  for (unsigned i = 0; i < state_.unposted_count; ++i) {
    ++reserved_[state_.submission[state_.unposted[i].sq_id].cq_id];
  }
}

void Queues::SetLive(uint16_t id, bool live) {
  live_[id] = live;
  if (live) end_ = std::max<uint16_t>(end_, static_cast<uint16_t>(id + 1));
  while (end_ > 0 && !live_[end_ - 1u]) --end_;
}

// ---- making and removing

void Queues::CreateSubmission(uint16_t id, uint64_t base, uint32_t entries,
                              uint16_t cq_id) {
  SubmissionQueue& queue = state_.submission[id];
  queue = SubmissionQueue();
  queue.base = base;
  queue.entries = entries;
  queue.cq_id = cq_id;
  in_flight_[id] = 0;
  SetLive(id, true);
  if (IsShadowed(id)) {
    dma_.Store32(state_.shadow_doorbells + SubmissionOffset(id), 0);
    StoreEventIndex(SubmissionOffset(id), 0);
  }
}

void Queues::CreateCompletion(uint16_t id, uint64_t base, uint32_t entries,
                              uint16_t vector, bool interrupts) {
  CompletionQueue& queue = state_.completion[id];
  queue = CompletionQueue();
  queue.base = base;
  queue.entries = entries;
  queue.vector = vector;
  queue.interrupts = interrupts;
  reserved_[id] = 0;
  CountQueuesOfVectors();
  if (IsShadowed(id)) {
    dma_.Store32(state_.shadow_doorbells + CompletionOffset(id), 0);
    StoreEventIndex(CompletionOffset(id), 0);
  }
}

void Queues::DeleteSubmission(uint16_t id) {
  state_.submission[id] = SubmissionQueue();
  SetLive(id, false);
}

void Queues::DeleteCompletion(uint16_t id) {
  state_.completion[id] = CompletionQueue();
  CountQueuesOfVectors();
}

bool Queues::CompletionIsUsed(uint16_t id) const {
  return std::any_of(state_.submission.begin(), state_.submission.end(),
                     [id](const SubmissionQueue& queue) {
                       return queue.entries != 0 && queue.cq_id == id;
                     });
}

bool Queues::AnyIsGoing() const {
  return std::any_of(
      state_.submission.begin(), state_.submission.end(),
      [](const SubmissionQueue& queue) { return queue.deleting != 0; });
}

// ---- doorbells

// §3.1.24, §3.1.25. A value that makes no sense is reported (§5.2, figure 146)
// and ignored.
void Queues::Ring(uint64_t offset, uint32_t value) {
  // It is newer than what a group was to see.
  if (offset / 4 < rung_.size()) rung_[offset / 4] = kNotRung;
  ApplyRing(offset, value);
}

void Queues::ApplyRing(uint64_t offset, uint32_t value) {
  const uint64_t id = offset / 8;
  const bool is_completion = offset % 8 == 4;
  if (offset % 4 != 0 ||
      !(is_completion
            ? id < kQueues && HasCompletion(static_cast<uint32_t>(id))
            : id < kQueues && HasSubmission(static_cast<uint32_t>(id)))) {
    logs_.Raise(kEventTypeError, kEventInvalidDoorbell,
                LogPage::kErrorInformation);
    return;
  }
  const auto queue = static_cast<uint16_t>(id);
  if (IsShadowed(queue)) {
    // The host has written memory first; that is never older.
    is_completion ? ReadHead(queue) : ReadTail(queue);
  } else {
    is_completion ? SetHead(queue, value) : SetTail(queue, value);
  }
}

int Queues::KeepRing(uint64_t offset, uint32_t value) {
  const uint64_t id = offset / 8;
  if (offset % 4 != 0 || id == 0 || id >= kQueues) return -1;
  const auto queue = static_cast<uint16_t>(id);
  const bool is_completion = offset % 8 == 4;
  if (!(is_completion ? HasCompletion(queue) : HasSubmission(queue))) return -1;
  const unsigned group =
      is_completion ? group_of_completion(queue) : group_of(queue);
  // What lies in memory the group looks at by itself.
  if (!IsShadowed(queue)) {
    rung_[offset / 4] = std::min(value, kNotRung - 1);
    groups_[group].rung = true;
  }
  return static_cast<int>(group);
}

void Queues::TakeRung(unsigned group) {
  if (!groups_[group].rung.load(std::memory_order_relaxed) ||
      !groups_[group].rung.exchange(false)) {
    return;
  }
  for (uint16_t id = 1; id < kQueues; ++id) {
    const auto take = [this](uint64_t offset) {
      const uint32_t value = rung_[offset / 4].exchange(kNotRung);
      if (value != kNotRung) ApplyRing(offset, value);
    };
    if (HasSubmission(id) && group_of(id) == group) take(SubmissionOffset(id));
    if (HasCompletion(id) && group_of_completion(id) == group) {
      take(CompletionOffset(id));
    }
  }
}

void Queues::TakeKeptRings() {
  for (unsigned group = 0; group < group_count_; ++group) TakeRung(group);
}

// §5.2, figure 146.
void Queues::BadDoorbell(unsigned group) {
  if (group != 0) {
    groups_[group].bad_doorbell = true;
    return;
  }
  logs_.Raise(kEventTypeError, kEventInvalidDoorbellValue,
              LogPage::kErrorInformation);
}

void Queues::Report() {
  for (Group& group : groups_) {
    if (group.bad_doorbell) BadDoorbell(0);
    group.bad_doorbell = false;
  }
}

void Queues::SetTail(uint16_t id, uint32_t value) {
  SubmissionQueue& queue = state_.submission[id];
  if (value >= queue.entries) return BadDoorbell(group_of(id));
  queue.tail = static_cast<uint16_t>(value);
}

// The head may go as far as what has been posted.
void Queues::SetHead(uint16_t id, uint32_t value) {
  CompletionQueue& queue = state_.completion[id];
  if (value >= queue.entries ||
      Distance(queue.head, value, queue.entries) > Used(queue)) {
    return BadDoorbell(group_of_completion(id));
  }
  queue.head = static_cast<uint16_t>(value);
}

void Queues::ReadTail(uint16_t id) {
  uint32_t value;
  if (!dma_.Load32(state_.shadow_doorbells + SubmissionOffset(id), &value)) {
    groups_[group_of(id)].fatal |= dma_.enabled();
    return;
  }
  if (value != state_.submission[id].tail) SetTail(id, value);
}

void Queues::ReadHead(uint16_t id) {
  uint32_t value;
  if (!dma_.Load32(state_.shadow_doorbells + CompletionOffset(id), &value)) {
    groups_[group_of_completion(id)].fatal |= dma_.enabled();
    return;
  }
  if (value != state_.completion[id].head) SetHead(id, value);
}

void Queues::StoreEventIndex(uint64_t offset, uint32_t value) {
  dma_.Store32(state_.event_indices + offset, value);
}

// Memory takes over from the registers with what they held.
void Queues::SyncShadow(uint16_t id) {
  if (HasSubmission(id)) {
    const uint32_t tail = state_.submission[id].tail;
    dma_.Store32(state_.shadow_doorbells + SubmissionOffset(id), tail);
    StoreEventIndex(SubmissionOffset(id), tail);
  }
  if (HasCompletion(id)) {
    const uint32_t head = state_.completion[id].head;
    dma_.Store32(state_.shadow_doorbells + CompletionOffset(id), head);
    StoreEventIndex(CompletionOffset(id), head);
  }
}

void Queues::UseShadowDoorbells(uint64_t doorbells, uint64_t event_indices) {
  state_.shadow_doorbells = doorbells;
  state_.event_indices = event_indices;
  for (uint16_t id = 0; id < kQueues; ++id) SyncShadow(id);
}

bool Queues::PollDoorbells(unsigned group) {
  if (group_count_ > 1) TakeRung(group);
  if (!polls_memory() || !dma_.enabled()) return false;
  bool found = false;
  for (uint16_t id = 1; id < end_; ++id) {
    if (!IsOf(id, group, false)) continue;
    ReadTail(id);
    const SubmissionQueue& queue = state_.submission[id];
    found |= queue.head != queue.tail;
  }
  return found;
}

// Event indices first, then a fence, then the doorbells: a host that has rung
// after we looked sees the new index and rings the register.
bool Queues::ArmDoorbells(unsigned group, bool admin) {
  if (groups_[group].rung) return true;
  if (!polls_memory() || !dma_.enabled()) return false;
  for (uint16_t id = 1; id < end_; ++id) {
    if (!IsOf(id, group, false)) continue;
    const SubmissionQueue& queue = state_.submission[id];
    StoreEventIndex(SubmissionOffset(id), queue.tail);
    // Only who waits for room needs to hear of it.
    if (queue.head != queue.tail) {
      StoreEventIndex(CompletionOffset(queue.cq_id),
                      state_.completion[queue.cq_id].head);
    }
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  PollDoorbells(group);
  return HasWork(group, admin);
}

// ---- commands

bool Queues::HasRoom(uint16_t cq_id) {
  const CompletionQueue& queue = state_.completion[cq_id];
  if (Used(queue) + reserved_[cq_id] + 1 < queue.entries) return true;
  if (!IsShadowed(cq_id)) return false;
  ReadHead(cq_id);
  return Used(queue) + reserved_[cq_id] + 1 < queue.entries;
}

bool Queues::CanFetch(uint16_t id) {
  const SubmissionQueue& queue = state_.submission[id];
  return live_[id] && queue.head != queue.tail && queue.deleting == 0 &&
         HasRoom(queue.cq_id);
}

bool Queues::HasWork(unsigned group, bool admin) {
  if (groups_[group].fatal || !dma_.enabled()) return false;
  for (uint16_t id = 0; id < end_; ++id) {
    if (IsOf(id, group, admin) && CanFetch(id)) return true;
  }
  return false;
}

bool Queues::HasAdminWork() {
  return !groups_[0].fatal && dma_.enabled() && CanFetch(0);
}

bool Queues::FetchAdmin(Command* command) {
  return HasAdminWork() && FetchFrom(0, command);
}

bool Queues::FetchFrom(uint16_t id, Command* command) {
  SubmissionQueue& queue = state_.submission[id];
  if (!dma_.Read(queue.base + kEntryBytes * queue.head, command,
                 sizeof *command)) {
    groups_[group_of(id)].fatal = true;
    return false;
  }
  queue.head = static_cast<uint16_t>(
      queue.head + 1u == queue.entries ? 0 : queue.head + 1u);
  ++in_flight_[id];
  ++reserved_[queue.cq_id];
  ++begun_[queue.cq_id];
  if (queue.head != queue.tail) LookAhead(queue);
  return true;
}

// What the next commands need comes from the host's cache while this one is
// carried out: the list of pages that the next may have, and the one after it,
// so that it is here when its list is asked for. Hints only: what is looked at
// is read again, and checked, when the command is fetched.
void Queues::LookAhead(const SubmissionQueue& queue) {
  const uint64_t next = queue.base + kEntryBytes * queue.head;
  const bool last = queue.head + 1u == queue.entries;
  dma_.Prefetch(last ? queue.base : next + kEntryBytes, kEntryBytes);
  Le64 list;
  if (dma_.Read(next + offsetof(Command, prp2), &list, sizeof list)) {
    dma_.Prefetch(list, kListAheadBytes);
  }
}

// §4.13: bursts of so many commands from each queue in turn.
bool Queues::Fetch(unsigned group, bool admin, Command* command,
                   uint16_t* sq_id) {
  Group& served = groups_[group];
  if (served.fatal || !dma_.enabled()) return false;
  const uint32_t burst_bits = features_.arbitration & 7u;
  uint32_t& next = next_of(group);
  auto id = static_cast<uint16_t>(next);
  for (unsigned looked = 0; looked <= end_; ++looked) {
    if (served.burst_left > 0 && IsOf(id, group, admin) && CanFetch(id)) {
      --served.burst_left;
      next = id;
      *sq_id = id;
      return FetchFrom(id, command);
    }
    id = static_cast<uint16_t>(id + 1 >= end_ ? 0 : id + 1);
    served.burst_left = burst_bits == 7 ? ~0u : 1u << burst_bits;
  }
  return false;
}

void Queues::Unfetch(uint16_t sq_id) {
  SubmissionQueue& queue = state_.submission[sq_id];
  Detach(sq_id);
  queue.head = static_cast<uint16_t>(queue.head == 0 ? queue.entries - 1
                                                     : queue.head - 1u);
}

void Queues::Detach(uint16_t sq_id) {
  --in_flight_[sq_id];
  --reserved_[state_.submission[sq_id].cq_id];
}

void Queues::Complete(uint16_t sq_id, uint16_t cid, Status status, bool more,
                      uint32_t result) {
  const SubmissionQueue& queue = state_.submission[sq_id];
  Detach(sq_id);
  Completion completion = {};
  completion.result = result;
  completion.sq_head = queue.head;
  completion.sq_id = sq_id;
  completion.cid = cid;
  uint32_t field = uint32_t{static_cast<uint16_t>(status)} << 1;
  if (more) field |= kCompletionMore;
  switch (status) {
    case Status::kSuccess:
    case Status::kInternalError:
    case Status::kNamespaceNotReady:
    case Status::kAbortRequested:
    case Status::kAbortedSqDeletion:
    case Status::kAbortedFailedFused:
      break;
    default:
      field |= kCompletionDoNotRetry;
  }
  completion.status = static_cast<uint16_t>(field);
  if (dma_.enabled()) {
    Post(queue.cq_id, completion);
  } else {
    Hold(completion);
  }
}

// Fetched before, so there are at most as many as there are slots for commands:
// nothing is fetched until these are posted.
void Queues::Hold(const Completion& completion) {
  if (state_.unposted_count == kMaxUnposted) {
    groups_[group_of(completion.sq_id)].fatal = true;
    return;
  }
  state_.unposted[state_.unposted_count++] = {
      completion.sq_id, completion.cid, completion.sq_head, completion.status};
  ++reserved_[state_.submission[completion.sq_id].cq_id];
}

void Queues::PostUnposted() {
  for (unsigned i = 0; i < state_.unposted_count; ++i) {
    const UnpostedCompletion& held = state_.unposted[i];
    const uint16_t cq_id = state_.submission[held.sq_id].cq_id;
    Completion completion = {};
    completion.sq_head = held.sq_head;
    completion.sq_id = held.sq_id;
    completion.cid = held.cid;
    completion.status = held.status;
    --reserved_[cq_id];
    Post(cq_id, completion);
  }
  state_.unposted_count = 0;
}

void Queues::CompleteLate(uint16_t sq_id, uint16_t cid, Status status,
                          uint32_t result) {
  ++in_flight_[sq_id];
  ++reserved_[state_.submission[sq_id].cq_id];
  Complete(sq_id, cid, status, false, result);
}

// The host sees the phase bit last: it lies in the last four bytes.
void Queues::Post(uint16_t cq_id, const Completion& completion) {
  CompletionQueue& queue = state_.completion[cq_id];
  const uint64_t at = queue.base + sizeof(Completion) * queue.tail;
  const uint32_t last =
      completion.cid | (uint32_t{completion.status} | queue.phase) << 16;
  if (!dma_.Write(at, &completion, offsetof(Completion, cid)) ||
      !dma_.Store32(at + offsetof(Completion, cid), last)) {
    groups_[group_of_completion(cq_id)].fatal = true;
    return;
  }
  if (++queue.tail == queue.entries) {
    queue.tail = 0;
    queue.phase ^= 1;
  }
  if (queue.interrupts != 0) CountForInterrupt(cq_id);
}

}  // namespace bulkhead::nvme
