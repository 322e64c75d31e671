// Queues are the rings in guest memory: commands come from submission queues,
// round robin, and completions go to completion queues.
//
// A command is fetched only when its completion queue has an entry for it that
// no other command in flight will need. So a host that submits and never reaps
// stops itself, and a completion always finds room.
//
// Doorbells come as register writes, or (for I/O queues, after Doorbell Buffer
// Config) from memory, which is then polled; while the service sleeps, the
// event indices tell the host to ring the register.
//
// Completion queue i, i >= 1, and the submission queues that use it belong to
// queue group (i - 1) % groups (services/runtime/queue_groups.h); the admin
// pair is the loop's. A group's thread touches its own queues and nothing else
// here.
//
// TRUST    Ring addresses, doorbell values and entries are the guest's. Indices
//          are checked against the ring's size where they enter.
// ERRORS   A fault of the host's is an event (§5.2) or, where memory for a ring
//          is not there, a fatal controller status.
// THREADS  The service's loop. What takes a group, Complete and Unfetch of its
//          queues: the group's thread, too.
// SPEC     NVMe 1.4 §3.1.24, §4.1, §4.6, §5.7, §7.2, §7.5.

#ifndef BULKHEAD_SERVICES_NVME_QUEUES_H_
#define BULKHEAD_SERVICES_NVME_QUEUES_H_

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>

#include "services/nvme/data_pointer.h"
#include "services/nvme/dma.h"
#include "services/nvme/logs.h"
#include "services/nvme/spec.h"
#include "services/nvme/state.h"
#include "services/runtime/interrupt_hold.h"
#include "services/runtime/queue_groups.h"

namespace bulkhead::nvme {

using Vectors = std::bitset<kVectors>;

class Queues {
 public:
  Queues(unsigned groups, QueueState& state, const FeatureState& features,
         Logs& logs, Dma& dma)
      : group_count_(groups),
        state_(state),
        features_(features),
        logs_(logs),
        dma_(dma) {
    for (auto& value : rung_) value = kNotRung;
    sole_queue_.fill(kNoQueue);
  }

  // Every queue as after a controller reset: none.
  void Reset();
  // After a state has been loaded.
  void Recover();

  // ---- making and removing; the caller has checked the parameters

  void CreateSubmission(uint16_t id, uint64_t base, uint32_t entries,
                        uint16_t cq_id);
  void CreateCompletion(uint16_t id, uint64_t base, uint32_t entries,
                        uint16_t vector, bool interrupts);
  void DeleteSubmission(uint16_t id);
  void DeleteCompletion(uint16_t id);
  bool HasSubmission(uint32_t id) const {
    return id < kQueues && state_.submission[id].entries != 0;
  }
  bool HasCompletion(uint32_t id) const {
    return id < kQueues && state_.completion[id].entries != 0;
  }
  bool CompletionIsUsed(uint16_t id) const;
  // One more than the last submission queue there is.
  uint16_t end() const { return end_; }
  SubmissionQueue& submission(uint16_t id) { return state_.submission[id]; }
  unsigned in_flight(uint16_t id) const { return in_flight_[id]; }
  unsigned group_of_completion(uint16_t cq_id) const {
    return cq_id == 0 || group_count_ == 1 ? 0 : (cq_id - 1u) % group_count_;
  }
  unsigned group_of(uint16_t sq_id) const {
    return group_of_completion(state_.submission[sq_id].cq_id);
  }
  // A command to delete one waits for what is in flight there.
  bool AnyIsGoing() const;

  // ---- doorbells

  // A write to the doorbell at `offset` from the first.
  void Ring(uint64_t offset, uint32_t value);
  // The loop, while the groups run apart: keeps such a write for its group,
  // which is then to be woken; -1: it is none of theirs.
  int KeepRing(uint64_t offset, uint32_t value);
  // The loop, at rest: what was kept and no group has seen is done.
  void TakeKeptRings();
  void UseShadowDoorbells(uint64_t doorbells, uint64_t event_indices);
  bool polls_memory() const { return state_.shadow_doorbells != 0; }
  // Looks at the doorbells in memory; true: some queue has new commands.
  bool PollDoorbells(unsigned group);
  // Asks the host to ring registers again, and looks once more. Of the admin
  // queue only if `admin`.
  bool ArmDoorbells(unsigned group, bool admin);

  // ---- commands

  // The next command of a group, round robin in bursts; of the admin queue only
  // if `admin`. False: there is none that could be taken now.
  bool Fetch(unsigned group, bool admin, Command* command, uint16_t* sq_id);
  // Whether Fetch would find one.
  bool HasWork(unsigned group, bool admin);
  // The next of the admin queue alone.
  bool HasAdminWork();
  bool FetchAdmin(Command* command);
  // Ends a fetched command. `more`: the error log tells more.
  void Complete(uint16_t sq_id, uint16_t cid, Status status, bool more,
                uint32_t result);
  // Whether a completion that keeps no room could be posted.
  bool HasRoomFor(uint16_t sq_id) {
    return dma_.enabled() && HasRoom(state_.submission[sq_id].cq_id);
  }
  // Ends a command that was fetched long ago and keeps no room (asynchronous
  // events). Only after HasRoomFor.
  void CompleteLate(uint16_t sq_id, uint16_t cid, Status status,
                    uint32_t result);
  // Puts the command fetched last from this queue back into it.
  void Unfetch(uint16_t sq_id);
  // A fetched command is in flight no more, and keeps no room.
  void Detach(uint16_t sq_id);

  // Completions wait in the state, and keep their room, while the function is
  // no bus master (when no group runs apart: Function::msix_passes). The loop:
  // it is one again; or nobody wants to hear of them, after a reset.
  void PostUnposted();
  void DropUnposted() { state_.unposted_count = 0; }

  // ---- interrupts

  // A group's vectors to signal now. `*deadline`: when to look again. A host
  // that has not taken yet what an interrupt told it of will look at its queue
  // anyway: it is told of more only when it has, or seems to have forgotten.
  // One that goes on submitting is told of all at once (InterruptHold).
  Vectors TakeInterrupts(unsigned group, Nanoseconds now,
                         Nanoseconds* deadline);
  // Vectors wait for more completions, whoever's.
  bool coalesces() const {
    return (features_.coalescing & 0xff) != 0 && features_.coalescing >> 8 != 0;
  }
  // Vectors whose queues hold entries that the host has not taken; for the
  // level of INTx.
  Vectors Unread();

  // A ring does not lie in memory: the controller has failed.
  bool fatal(unsigned group) const { return groups_[group].fatal; }
  // Something that the loop has to see to, at rest.
  bool WantsAttention(unsigned group) const {
    return groups_[group].fatal || groups_[group].bad_doorbell;
  }
  // What the groups could not report themselves.
  void Report();

 private:
  static constexpr uint32_t kNotRung = ~uint32_t{0};
  static constexpr uint16_t kNoQueue = kQueues;

  struct alignas(64) Group {
    uint32_t next = 0;  // round robin goes on here; group 0: state_.next_queue
    uint32_t burst_left = 0;
    Vectors raised;
    bool fatal = false;
    bool bad_doorbell = false;
    std::atomic<bool> rung = false;  // some of its doorbells, in rung_
  };

  void SetLive(uint16_t id, bool live);
  bool IsShadowed(uint32_t id) const {
    return id != 0 && state_.shadow_doorbells != 0;
  }
  // Byte offset of a doorbell in the registers and in both buffers.
  static uint64_t SubmissionOffset(uint32_t id) { return uint64_t{8} * id; }
  static uint64_t CompletionOffset(uint32_t id) { return uint64_t{8} * id + 4; }
  void SetTail(uint16_t id, uint32_t value);
  void SetHead(uint16_t id, uint32_t value);
  void ReadTail(uint16_t id);
  void ReadHead(uint16_t id);
  // Tells the host (in memory) how far a queue has been looked at.
  void StoreEventIndex(uint64_t offset, uint32_t value);
  void SyncShadow(uint16_t id);
  static uint32_t Distance(uint32_t from, uint32_t to, uint32_t entries) {
    return to >= from ? to - from : to + entries - from;
  }
  static uint32_t Used(const CompletionQueue& queue) {
    return Distance(queue.head, queue.tail, queue.entries);
  }
  bool HasRoom(uint16_t cq_id);
  bool CanFetch(uint16_t id);
  bool IsOf(uint16_t id, unsigned group, bool admin) const {
    return id == 0 ? admin : live_[id] && group_of(id) == group;
  }
  uint32_t& next_of(unsigned group) {
    return group == 0 ? state_.next_queue : groups_[group].next;
  }
  void ForgetGroups();
  void TakeRung(unsigned group);
  void ApplyRing(uint64_t offset, uint32_t value);
  void BadDoorbell(unsigned group);
  bool FetchFrom(uint16_t id, Command* command);
  void LookAhead(const SubmissionQueue& queue);
  void Hold(const Completion& completion);
  void Post(uint16_t cq_id, const Completion& completion);
  void CountForInterrupt(uint16_t cq_id);
  void CountQueuesOfVectors();
  bool IsToBeTold(unsigned group, uint32_t vector, Nanoseconds now,
                  Nanoseconds* deadline);

  const unsigned group_count_;
  QueueState& state_;
  const FeatureState& features_;
  Logs& logs_;
  Dma& dma_;
  std::array<uint32_t, kQueues> in_flight_ = {};  // by submission queue
  std::array<uint32_t, kQueues> reserved_ = {};   // by completion queue
  std::array<uint64_t, kQueues> begun_ = {};      // by completion queue, ever
  std::bitset<kQueues> live_;                     // submission queues there are
  uint16_t end_ = 0;  // one more than the last of them
  std::array<Group, kMaxQueueGroups> groups_;
  // Values of doorbell registers, by offset, that their groups have not seen.
  std::array<std::atomic<uint32_t>, 2 * kQueues> rung_;
  std::array<uint32_t, kVectors> counted_ = {};  // coalesced completions
  std::array<Nanoseconds, kVectors> since_ = {};
  bool holds_back_ = false;  // some vector has completions held back
  // The completion queue whose the vector is, and no other's; or kNoQueue.
  std::array<uint16_t, kVectors> sole_queue_;
  // The last interrupt of such a vector, and what the next one waits for.
  struct Told {
    Nanoseconds since = 0;
    uint16_t tail = 0;  // of the queue, then
  };
  std::array<Told, kVectors> told_ = {};
  std::array<InterruptHold, kVectors> holds_;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_QUEUES_H_
