#include "services/nvme/io_commands.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>

namespace bulkhead::nvme {
namespace {

// A longer range is discarded in pieces, so that a reset never waits long.
constexpr uint64_t kMaxDiscardBytes = uint64_t{1} << 30;

IoOpcode OpcodeOf(const Command& command) {
  return static_cast<IoOpcode>(command.opcode);
}

uint64_t StartBlock(const Command& command) {
  return command.cdw10 | uint64_t{command.cdw11} << 32;
}

uint64_t Blocks(const Command& command) {
  return uint64_t{command.cdw12 & 0xffff} + 1;
}

// Ended because of something else: the error log has nothing to add.
bool IsAborted(Status status) {
  return status == Status::kAbortRequested ||
         status == Status::kAbortedSqDeletion ||
         status == Status::kAbortedFailedFused;
}

}  // namespace

void IoCommands::List::Append(Slot* slot) {
  slot->next = nullptr;
  (last != nullptr ? last->next : first) = slot;
  last = slot;
}

IoCommands::Slot* IoCommands::List::Pop() {
  Slot* slot = first;
  if (slot == nullptr) return nullptr;
  first = slot->next;
  if (first == nullptr) last = nullptr;
  slot->next = nullptr;
  return slot;
}

IoCommands::IoCommands(unsigned group, Subsystem& subsystem, Queues& queues,
                       Logs& logs, Dma& dma)
    : group_(group),
      subsystem_(subsystem),
      queues_(queues),
      logs_(logs),
      dma_(dma),
      slots_(std::make_unique_for_overwrite<std::byte[]>(kMaxCommands *
                                                         sizeof(Slot))),
      areas_(new WorkArea[kAreas]) {
  static_assert(std::is_trivially_destructible_v<Slot>);
  static_assert(alignof(Slot) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  for (unsigned i = kAreas; i > 0; --i) {
    areas_[i - 1].next = free_areas_;
    free_areas_ = &areas_[i - 1];
  }
}

// ---- starting

// The last one freed, which is still in the caches; else a new one.
IoCommands::Slot* IoCommands::TakeSlot() {
  if (free_ != nullptr) {
    Slot* slot = free_;
    free_ = slot->next;
    return slot;
  }
  Slot* slot = new (SlotAt(made_++)) Slot;
  slot->owner = this;
  slot->request.owner = slot;
  slot->request.done = OnDone;
  return slot;
}

void IoCommands::Start(uint16_t sq_id, const Command& command) {
  Slot* slot = TakeSlot();
  ++in_flight_;
  ++counters_.commands;
  slot->next = nullptr;
  slot->command = command;
  slot->target = nullptr;
  slot->fused = nullptr;
  slot->data = Segments();
  slot->offset_bytes = slot->length_bytes = slot->done_bytes = 0;
  slot->request.force_unit_access = false;
  slot->request.may_unmap = false;
  slot->request.segments = nullptr;
  slot->request.segment_count = 0;
  slot->sq_id = sq_id;
  slot->in_use = true;
  slot->stepped = slot->owns_exclusive = slot->orphaned = false;
  if ((command.fuse() != 0 || fused_first_[sq_id] != nullptr) &&
      TakeFused(slot)) {
    return;
  }
  BeginOrWait(slot);
}

void IoCommands::BeginOrWait(Slot* slot) {
  if (Begin(slot) == Began::kYes) return;
  ++counters_.waits;
  waiting_.Append(slot);
}

IoCommands::Began IoCommands::Begin(Slot* slot) {
  if (slot->fused != nullptr) return BeginFused(slot);
  if (exclusive_ != nullptr && !slot->owns_exclusive &&
      subsystem_.Find(slot->command.nsid) == exclusive_) {
    return Began::kLater;
  }
  switch (OpcodeOf(slot->command)) {
    case IoOpcode::kRead:
    case IoOpcode::kWrite:
      return BeginReadOrWrite(slot);
    case IoOpcode::kFlush:
      return BeginFlush(slot);
    case IoOpcode::kCompare:
      return BeginCompare(slot);
    case IoOpcode::kWriteZeroes:
      return BeginWriteZeroes(slot);
    case IoOpcode::kDatasetManagement:
      return BeginDataset(slot);
    case IoOpcode::kVerify:
      return BeginVerify(slot);
  }
  return EndEarly(slot, {Status::kInvalidOpcode, kAtOpcode});
}

IoCommands::Began IoCommands::EndEarly(Slot* slot, Outcome outcome) {
  Finish(slot, outcome);
  return Began::kYes;
}

Outcome IoCommands::CheckNamespace(Slot* slot, bool writes) {
  slot->target = subsystem_.Find(slot->command.nsid);
  if (slot->target == nullptr) {
    return {Status::kInvalidNamespaceOrFormat, kAtNsid};
  }
  if (writes && slot->target->backend(group_).geometry().read_only) {
    return {Status::kNamespaceWriteProtected, kAtNsid};
  }
  return {};
}

Outcome IoCommands::CheckRange(Slot* slot) {
  const uint64_t slba = StartBlock(slot->command);
  const uint64_t blocks = Blocks(slot->command);
  const uint64_t size = slot->target->blocks(group_);
  if (slba > size || blocks > size - slba) {
    return {Status::kLbaOutOfRange, kAtCdw10};
  }
  slot->offset_bytes = slba << slot->target->block_bits;
  slot->length_bytes = blocks << slot->target->block_bits;
  return {};
}

bool IoCommands::TakeArea(Slot* slot) {
  if (slot->area != nullptr) return true;
  if (free_areas_ == nullptr) return false;
  slot->area = free_areas_;
  free_areas_ = slot->area->next;
  return true;
}

// Short lists fit into the slot. *later: there is no work area for a long one.
Outcome IoCommands::Map(Slot* slot, uint64_t length_bytes,
                        DmaDirection direction, bool* later) {
  slot->data = {.first = slot->inline_segments.data(),
                .capacity = slot->inline_segments.size()};
  Outcome outcome = MapData(slot->command, length_bytes, page_bits_, true,
                            direction, dma_, &slot->data);
  if (outcome.ok() || !slot->data.too_few) return outcome;
  if (!TakeArea(slot)) {
    *later = true;
    return outcome;
  }
  slot->data = {.first = slot->area->segments.data(),
                .capacity = slot->area->segments.size()};
  return MapData(slot->command, length_bytes, page_bits_, true, direction, dma_,
                 &slot->data);
}

// §6.9, §6.15.
IoCommands::Began IoCommands::BeginReadOrWrite(Slot* slot) {
  const Command& command = slot->command;
  const bool writes = OpcodeOf(command) == IoOpcode::kWrite;
  Outcome outcome = CheckNamespace(slot, writes);
  if (outcome.ok()) outcome = CheckRange(slot);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  if (slot->length_bytes > kMaxTransferBytes ||
      (writes && (command.cdw12 & kCdw12DirectiveMask) != 0)) {
    return EndEarly(slot, {Status::kInvalidField, kAtCdw12});
  }
  bool later = false;
  outcome =
      Map(slot, slot->length_bytes,
          writes ? DmaDirection::kFromGuest : DmaDirection::kToGuest, &later);
  if (later) return Began::kLater;
  if (!outcome.ok()) return EndEarly(slot, outcome);
  slot->request.force_unit_access = writes && (command.cdw12 & kCdw12Fua) != 0;
  slot->request.segments = slot->data.first;
  slot->request.segment_count = slot->data.count;
  Submit(slot, writes ? block::Operation::kWrite : block::Operation::kRead,
         slot->offset_bytes, slot->length_bytes);
  return Began::kYes;
}

// §6.17. With CDW12.DEAC the space may be freed.
IoCommands::Began IoCommands::BeginWriteZeroes(Slot* slot) {
  Outcome outcome = CheckNamespace(slot, true);
  if (outcome.ok()) outcome = CheckRange(slot);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  slot->request.force_unit_access = (slot->command.cdw12 & kCdw12Fua) != 0;
  slot->request.may_unmap = (slot->command.cdw12 & kCdw12Deallocate) != 0;
  Submit(slot, block::Operation::kWriteZeroes, slot->offset_bytes,
         slot->length_bytes);
  return Began::kYes;
}

// §6.8. Of all namespaces one after the other (VWC, bits 2:1 = 11b).
IoCommands::Began IoCommands::BeginFlush(Slot* slot) {
  if (slot->command.nsid == kAllNamespaces) {
    slot->stepped = true;
    slot->index = 0;
    StepFlush(slot);
    return Began::kYes;
  }
  const Outcome outcome = CheckNamespace(slot, false);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  Submit(slot, block::Operation::kFlush, 0, 0);
  return Began::kYes;
}

// §6.6.
IoCommands::Began IoCommands::BeginCompare(Slot* slot) {
  Outcome outcome = CheckNamespace(slot, false);
  if (outcome.ok()) outcome = CheckRange(slot);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  if (slot->length_bytes > kMaxTransferBytes) {
    return EndEarly(slot, {Status::kInvalidField, kAtCdw12});
  }
  if (!TakeArea(slot)) return Began::kLater;
  slot->data = {.first = slot->area->segments.data(),
                .capacity = slot->area->segments.size()};
  outcome = MapData(slot->command, slot->length_bytes, page_bits_, true,
                    DmaDirection::kFromGuest, dma_, &slot->data);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  slot->stepped = true;
  ReadIntoArea(slot);
  return Began::kYes;
}

// §6.14: a read that moves no data.
IoCommands::Began IoCommands::BeginVerify(Slot* slot) {
  Outcome outcome = CheckNamespace(slot, false);
  if (outcome.ok()) outcome = CheckRange(slot);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  if (!TakeArea(slot)) return Began::kLater;
  slot->stepped = true;
  ReadIntoArea(slot);
  return Began::kYes;
}

// §6.7. Only Deallocate does something; the rest are hints.
IoCommands::Began IoCommands::BeginDataset(Slot* slot) {
  const bool deallocates = (slot->command.cdw11 & kDatasetDeallocate) != 0;
  Outcome outcome = CheckNamespace(slot, deallocates);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  if (!deallocates) return EndEarly(slot, {});
  if (!TakeArea(slot)) return Began::kLater;
  outcome = CopyRanges(slot);
  if (!outcome.ok()) return EndEarly(slot, outcome);
  slot->stepped = true;
  slot->index = 0;
  slot->done_bytes = 0;
  StepDataset(slot);
  return Began::kYes;
}

// Copies the ranges into the work area and checks every one of them.
Outcome IoCommands::CopyRanges(Slot* slot) {
  slot->count = (slot->command.cdw10 & 0xff) + 1;
  const size_t bytes = slot->count * sizeof(DatasetRange);
  static_assert(256 * sizeof(DatasetRange) <= kAreaBytes);
  slot->data = {.first = slot->area->segments.data(),
                .capacity = slot->area->segments.size()};
  const Outcome outcome = MapData(slot->command, bytes, page_bits_, true,
                                  DmaDirection::kFromGuest, dma_, &slot->data);
  if (!outcome.ok()) return outcome;
  CopyFromSegments(slot->data, 0, slot->area->bytes.data(), bytes);
  const uint64_t size = slot->target->blocks(group_);
  for (uint32_t i = 0; i < slot->count; ++i) {
    DatasetRange range;
    std::memcpy(&range, &slot->area->bytes[i * sizeof range], sizeof range);
    if (range.slba > size || range.blocks > size - range.slba) {
      return {Status::kLbaOutOfRange, kAtPrp1};
    }
  }
  return {};
}

// ---- fused operations (§6.2): Compare, then Write, and nothing between

bool IoCommands::TakeFused(Slot* slot) {
  if (!subsystem_.fuses()) {
    Finish(slot, {Status::kInvalidField, kAtFlags});
    return true;
  }
  Slot* first = fused_first_[slot->sq_id];
  fused_first_[slot->sq_id] = nullptr;
  const unsigned fuse = slot->command.fuse();
  if (first != nullptr) {
    if (fuse == kFuseSecond) {
      Pair(first, slot);
      return true;
    }
    Finish(first, {Status::kAbortedMissingFused, kAtFlags});
    if (fuse == 0) return false;
  }
  if (fuse == kFuseSecond) {
    Finish(slot, {Status::kAbortedMissingFused, kAtFlags});
  } else if (fuse != kFuseFirst ||
             OpcodeOf(slot->command) != IoOpcode::kCompare) {
    Finish(slot, {Status::kInvalidField, kAtFlags});
  } else {
    fused_first_[slot->sq_id] = slot;
  }
  return true;
}

void IoCommands::Pair(Slot* first, Slot* second) {
  Outcome wrong;
  if (OpcodeOf(second->command) != IoOpcode::kWrite) {
    wrong = {Status::kInvalidField, kAtFlags};
  } else if (first->command.nsid != second->command.nsid ||
             StartBlock(first->command) != StartBlock(second->command) ||
             Blocks(first->command) != Blocks(second->command)) {
    wrong = {Status::kInvalidField, kAtCdw10};
  } else if (Blocks(first->command) > kMaxFusedBlocks) {
    wrong = {Status::kAtomicWriteUnitExceeded, kAtCdw12};
  }
  if (!wrong.ok()) {
    Finish(first, wrong);
    Finish(second, wrong);
    return;
  }
  first->fused = second;
  BeginOrWait(first);
}

// The pair shuts newcomers out first, so that it is not kept waiting for ever.
IoCommands::Began IoCommands::BeginFused(Slot* first) {
  Namespace* target = subsystem_.Find(first->command.nsid);
  if (target != nullptr && !first->owns_exclusive) {
    if (exclusive_ != nullptr) return Began::kLater;
    exclusive_ = target;
    first->owns_exclusive = true;
  }
  if (target != nullptr && active_[first->command.nsid - 1] > 0) {
    return Began::kLater;
  }
  return BeginCompare(first);
}

void IoCommands::DropFused(uint16_t sq_id) {
  Slot* first = fused_first_[sq_id];
  fused_first_[sq_id] = nullptr;
  if (first != nullptr) Finish(first, {Status::kAbortedSqDeletion});
}

void IoCommands::ReturnFused() {
  for (Slot*& first : fused_first_) {
    if (first == nullptr) continue;
    queues_.Unfetch(first->sq_id);
    Release(first);
    first = nullptr;
  }
}

// ---- steps

void IoCommands::Step(Slot* slot) {
  switch (OpcodeOf(slot->command)) {
    case IoOpcode::kCompare:
      return StepCompare(slot);
    case IoOpcode::kVerify:
      return StepVerify(slot);
    case IoOpcode::kDatasetManagement:
      return StepDataset(slot);
    default:
      return StepFlush(slot);
  }
}

void IoCommands::ReadIntoArea(Slot* slot) {
  slot->step_bytes =
      std::min<uint64_t>(kAreaBytes, slot->length_bytes - slot->done_bytes);
  slot->inline_segments[0] = {slot->area->bytes.data(),
                              static_cast<size_t>(slot->step_bytes)};
  slot->request.segments = slot->inline_segments.data();
  slot->request.segment_count = 1;
  Submit(slot, block::Operation::kRead, slot->offset_bytes + slot->done_bytes,
         slot->step_bytes);
}

void IoCommands::StepCompare(Slot* slot) {
  if (!SegmentsEqual(slot->data, slot->done_bytes, slot->area->bytes.data(),
                     static_cast<size_t>(slot->step_bytes))) {
    return Finish(slot, {Status::kCompareFailure});
  }
  StepVerify(slot);
}

void IoCommands::StepVerify(Slot* slot) {
  slot->done_bytes += slot->step_bytes;
  if (slot->done_bytes == slot->length_bytes) return Finish(slot, {});
  ReadIntoArea(slot);
}

void IoCommands::StepDataset(Slot* slot) {
  const unsigned bits = slot->target->block_bits;
  for (; slot->index < slot->count; ++slot->index, slot->done_bytes = 0) {
    DatasetRange range;
    std::memcpy(&range, &slot->area->bytes[slot->index * sizeof range],
                sizeof range);
    const uint64_t length = uint64_t{range.blocks} << bits;
    if (slot->done_bytes >= length) continue;
    const uint64_t offset = (range.slba << bits) + slot->done_bytes;
    const uint64_t piece =
        std::min(length - slot->done_bytes, kMaxDiscardBytes);
    slot->done_bytes += piece;
    return Submit(slot, block::Operation::kDiscard, offset, piece);
  }
  Finish(slot, {});
}

void IoCommands::StepFlush(Slot* slot) {
  if (slot->index == subsystem_.namespaces.size()) return Finish(slot, {});
  slot->target = &subsystem_.namespaces[slot->index++];
  Submit(slot, block::Operation::kFlush, 0, 0);
}

// ---- requests

void IoCommands::Submit(Slot* slot, block::Operation operation,
                        uint64_t offset_bytes, uint64_t length_bytes) {
  if (!slot->active && slot->command.nsid != kAllNamespaces) {
    slot->active = true;
    ++active_[slot->command.nsid - 1];
  }
  slot->submitted = true;
  slot->request.operation = operation;
  slot->request.offset_bytes = offset_bytes;
  slot->request.length_bytes = length_bytes;
  slot->target->backend(group_).Submit(&slot->request);
}

void IoCommands::OnDone(block::Request* request) {
  Slot* slot = static_cast<Slot*>(request->owner);
  IoCommands* self = slot->owner;
  slot->submitted = false;
  if (slot->stepped && !slot->orphaned &&
      request->status == block::IoStatus::kOk) {
    self->continue_.Append(slot);
    return;
  }
  self->Finish(slot, OutcomeOf(*slot));
}

Outcome IoCommands::OutcomeOf(const Slot& slot) {
  const IoOpcode opcode = OpcodeOf(slot.command);
  const bool reads = opcode == IoOpcode::kRead ||
                     opcode == IoOpcode::kCompare ||
                     opcode == IoOpcode::kVerify;
  switch (slot.request.status) {
    case block::IoStatus::kOk:
      return {};
    case block::IoStatus::kReadOnly:
      return {Status::kNamespaceWriteProtected, kAtNsid};
    case block::IoStatus::kNoSpace:
      return {Status::kCapacityExceeded};
    case block::IoStatus::kCorrupt:
    case block::IoStatus::kIoError:
      return {reads ? Status::kUnrecoveredReadError : Status::kWriteFault};
    case block::IoStatus::kUnavailable:
      return {Status::kNamespaceNotReady};
    case block::IoStatus::kInvalid:
      break;
  }
  return {Status::kInternalError};
}

// ---- ending

void IoCommands::Finish(Slot* slot, Outcome outcome) {
  slot->outcome = outcome;
  ReleaseArea(slot);
  if (outcome.ok() && !slot->orphaned) {
    const IoOpcode opcode = OpcodeOf(slot->command);
    if (opcode == IoOpcode::kRead) logs_.RecordRead(slot->length_bytes);
    if (opcode == IoOpcode::kWrite) logs_.RecordWrite(slot->length_bytes);
  }
  Slot* second = slot->fused;
  if (second != nullptr) {
    // The write takes over what the comparison held.
    slot->fused = nullptr;
    second->owns_exclusive = slot->owns_exclusive;
    slot->owns_exclusive = false;
    Post(slot);
    if (!outcome.ok()) return Finish(second, {Status::kAbortedFailedFused});
    return BeginOrWait(second);
  }
  Post(slot);
}

void IoCommands::Post(Slot* slot) {
  LetOthersGo(slot);
  if (!slot->orphaned) {
    const Status status = slot->outcome.status;
    const bool more = status != Status::kSuccess && !IsAborted(status);
    if (status != Status::kSuccess) {
      ++counters_.errors;
      if (status == Status::kWriteFault ||
          status == Status::kUnrecoveredReadError) {
        logs_.RecordMediaError();
      }
    }
    if (more) {
      logs_.RecordError(slot->sq_id, slot->command, slot->outcome,
                        StartBlock(slot->command));
    }
    queues_.Complete(slot->sq_id, slot->command.cid, status, more, 0);
  }
  Release(slot);
}

void IoCommands::ReleaseArea(Slot* slot) {
  if (slot->area == nullptr) return;
  slot->area->next = free_areas_;
  free_areas_ = slot->area;
  slot->area = nullptr;
  released_ = released_ || waiting_.first != nullptr;
}

// A command that has ended stands in nobody's way, even one whose completion
// cannot be posted before the host lets us write to its memory again.
void IoCommands::LetOthersGo(Slot* slot) {
  ReleaseArea(slot);
  if (slot->active) --active_[slot->command.nsid - 1];
  if (slot->owns_exclusive) exclusive_ = nullptr;
  slot->active = slot->owns_exclusive = false;
  // Waiting commands may wait for a quiet namespace.
  released_ = released_ || waiting_.first != nullptr;
}

void IoCommands::Release(Slot* slot) {
  LetOthersGo(slot);
  slot->in_use = false;
  slot->fused = nullptr;
  slot->next = free_;
  free_ = slot;
  --in_flight_;
}

// ---- the turn

bool IoCommands::Run() {
  bool worked = false;
  for (Namespace& each : subsystem_.namespaces) {
    // Also with nothing in flight: it may grow, and its event may come late.
    worked |= each.backend(group_).Poll() > 0;
  }
  for (unsigned i = 0; i < kStepsPerRun; ++i) {
    Slot* slot = continue_.Pop();
    if (slot == nullptr) break;
    worked = true;
    Step(slot);
  }
  if (released_) {
    released_ = false;
    List waiting = waiting_;
    waiting_ = List();
    while (Slot* slot = waiting.Pop()) {
      if (Begin(slot) == Began::kLater) waiting_.Append(slot);
    }
    worked = true;
  }
  return worked;
}

void IoCommands::Orphan() {
  fused_first_ = {};
  continue_ = waiting_ = List();
  released_ = false;
  for (unsigned i = 0; i < made_; ++i) {
    Slot& slot = *SlotAt(i);
    if (!slot.in_use) continue;
    slot.orphaned = true;
    // Seconds of pairs are released here as well, and not by their firsts.
    slot.fused = nullptr;
    if (!slot.submitted) Release(&slot);
  }
}

}  // namespace bulkhead::nvme
