#include "services/nvme/admin_commands.h"

#include <algorithm>
#include <cstring>

#include "services/runtime/endian.h"

namespace bulkhead::nvme {
namespace {

constexpr uint32_t kPhysicallyContiguous = 1u << 0;  // CDW11.PC
constexpr uint32_t kInterruptsEnabled = 1u << 1;     // CDW11.IEN
constexpr uint32_t kRetainEvent = 1u << 15;          // CDW10.RAE
constexpr uint32_t kMaxNsid = 0xfffffffd;

uint16_t Low16(uint32_t dword) { return static_cast<uint16_t>(dword); }
uint16_t High16(uint32_t dword) { return static_cast<uint16_t>(dword >> 16); }

}  // namespace

AdminCommands::AdminCommands(const RegisterState& registers,
                             const FeatureState& state, Subsystem& subsystem,
                             Features& features, Queues& queues, Logs& logs,
                             IoCommands& io, Dma& dma)
    : registers_(registers),
      state_(state),
      subsystem_(subsystem),
      features_(features),
      queues_(queues),
      logs_(logs),
      io_(io),
      dma_(dma) {}

void AdminCommands::Start(const Command& command, uint32_t vectors,
                          Nanoseconds now) {
  if (powered_since_ == 0) powered_since_ = now;
  Answer answer;
  const Outcome outcome = Carry(command, vectors, now, &answer);
  if (!answer.later) End(command, outcome, answer.result);
}

void AdminCommands::End(const Command& command, Outcome outcome,
                        uint32_t result) {
  if (!outcome.ok()) logs_.RecordError(0, command, outcome, 0);
  queues_.Complete(0, command.cid, outcome.status, !outcome.ok(), result);
}

Outcome AdminCommands::Carry(const Command& command, uint32_t vectors,
                             Nanoseconds now, Answer* answer) {
  // §4.2: admin commands over PCIe use PRPs, and none is part of a pair.
  if (command.flags != 0) return {Status::kInvalidField, kAtFlags};
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::kDeleteSubmissionQueue:
      return DeleteSubmissionQueue(command, answer);
    case AdminOpcode::kCreateSubmissionQueue:
      return CreateSubmissionQueue(command);
    case AdminOpcode::kGetLogPage:
      return GetLogPage(command, now);
    case AdminOpcode::kDeleteCompletionQueue:
      return DeleteCompletionQueue(command);
    case AdminOpcode::kCreateCompletionQueue:
      return CreateCompletionQueue(command, vectors);
    case AdminOpcode::kIdentify:
      return Identify(command);
    case AdminOpcode::kAbort:
      return Abort(command, answer);
    case AdminOpcode::kSetFeatures:
      return SetFeatures(command, answer);
    case AdminOpcode::kGetFeatures:
      return features_.Get(command, &answer->result);
    case AdminOpcode::kAsynchronousEventRequest:
      if (!logs_.AddRequest(command.cid)) {
        return {Status::kAsyncEventLimitExceeded};
      }
      queues_.Detach(0);
      answer->later = true;
      return {};
    case AdminOpcode::kDoorbellBufferConfig:
      return DoorbellBufferConfig(command);
  }
  return {Status::kInvalidOpcode, kAtOpcode};
}

// ---- queues

// §5.3, §5.4: CAP.CQR asks for contiguous memory, CAP.MQES limits the size.
Outcome AdminCommands::CheckRing(const Command& command) const {
  const uint32_t entries = uint32_t{High16(command.cdw10)} + 1;
  const uint64_t page_bytes = uint64_t{1} << PageBits(registers_.cc);
  if (entries < 2 || entries > kMaxQueueEntries) {
    return {Status::kInvalidQueueSize, kAtCdw10 + 2};
  }
  if ((command.cdw11 & kPhysicallyContiguous) == 0) {
    return {Status::kInvalidField, kAtCdw11};
  }
  if (command.prp1 % page_bytes != 0) {
    return {Status::kPrpOffsetInvalid, kAtPrp1};
  }
  const uint32_t sq_bits = registers_.cc >> kCcSqEntryShift & 0xf;
  const uint32_t cq_bits = registers_.cc >> kCcCqEntryShift & 0xf;
  if (sq_bits != kSqEntryBits || cq_bits != kCqEntryBits) {
    return {Status::kInvalidQueueSize, kAtCdw10 + 2};
  }
  return {};
}

Outcome AdminCommands::CreateCompletionQueue(const Command& command,
                                             uint32_t vectors) {
  const uint16_t id = Low16(command.cdw10);
  if (id == 0 || id > state_.io_completion_queues ||
      queues_.HasCompletion(id)) {
    return {Status::kInvalidQueueIdentifier, kAtCdw10};
  }
  const Outcome outcome = CheckRing(command);
  if (!outcome.ok()) return outcome;
  const uint16_t vector = High16(command.cdw11);
  if (vector >= vectors) {
    return {Status::kInvalidInterruptVector, kAtCdw11 + 2};
  }
  queues_.CreateCompletion(id, command.prp1, High16(command.cdw10) + 1u, vector,
                           (command.cdw11 & kInterruptsEnabled) != 0);
  return {};
}

Outcome AdminCommands::CreateSubmissionQueue(const Command& command) {
  const uint16_t id = Low16(command.cdw10);
  if (id == 0 || id > state_.io_submission_queues ||
      queues_.HasSubmission(id)) {
    return {Status::kInvalidQueueIdentifier, kAtCdw10};
  }
  const uint16_t cq_id = High16(command.cdw11);
  if (cq_id == 0 || !queues_.HasCompletion(cq_id)) {
    return {Status::kCompletionQueueInvalid, kAtCdw11 + 2};
  }
  const Outcome outcome = CheckRing(command);
  if (!outcome.ok()) return outcome;
  queues_.CreateSubmission(id, command.prp1, High16(command.cdw10) + 1u, cq_id);
  return {};
}

Outcome AdminCommands::DeleteCompletionQueue(const Command& command) {
  const uint16_t id = Low16(command.cdw10);
  if (id == 0 || !queues_.HasCompletion(id)) {
    return {Status::kInvalidQueueIdentifier, kAtCdw10};
  }
  if (queues_.CompletionIsUsed(id)) {
    return {Status::kInvalidQueueDeletion, kAtCdw10};
  }
  queues_.DeleteCompletion(id);
  return {};
}

// §5.6: what is in flight ends first.
Outcome AdminCommands::DeleteSubmissionQueue(const Command& command,
                                             Answer* answer) {
  const uint16_t id = Low16(command.cdw10);
  if (id == 0 || !queues_.HasSubmission(id) ||
      queues_.submission(id).deleting != 0) {
    return {Status::kInvalidQueueIdentifier, kAtCdw10};
  }
  io_.DropFused(id);
  SubmissionQueue& queue = queues_.submission(id);
  queue.deleting = 1;
  queue.delete_cid = command.cid;
  answer->later = true;
  return {};
}

bool AdminCommands::CanDelete(uint16_t id) {
  const SubmissionQueue& queue = queues_.submission(id);
  return queue.entries != 0 && queue.deleting != 0 &&
         queues_.in_flight(id) == 0;
}

bool AdminCommands::HasWork() {
  if (!dma_.enabled()) return false;
  for (uint16_t id = 1; id < queues_.end(); ++id) {
    if (CanDelete(id)) return true;
  }
  return logs_.HasEvent() && queues_.HasRoomFor(0);
}

void AdminCommands::Run() {
  if (!dma_.enabled()) return;
  for (uint16_t id = 1; id < queues_.end(); ++id) {
    if (!CanDelete(id)) continue;
    const uint16_t cid = queues_.submission(id).delete_cid;
    queues_.DeleteSubmission(id);
    queues_.Complete(0, cid, Status::kSuccess, false, 0);
  }
  while (logs_.HasEvent() && queues_.HasRoomFor(0)) {
    uint16_t cid;
    uint32_t result;
    if (!logs_.TakeEvent(&cid, &result)) break;
    queues_.CompleteLate(0, cid, Status::kSuccess, result);
  }
}

// ---- data to the host

Outcome AdminCommands::Send(const Command& command, uint64_t length_bytes,
                            uint64_t skip, uint64_t page_bytes) {
  Segments segments = {.first = segments_.data(), .capacity = segments_.size()};
  const Outcome outcome =
      MapData(command, length_bytes, PageBits(registers_.cc), false,
              DmaDirection::kToGuest, dma_, &segments);
  if (!outcome.ok()) return outcome;
  const uint64_t from_page =
      std::min(length_bytes, page_bytes - std::min(page_bytes, skip));
  CopyToSegments(segments, 0, page_.data() + skip, from_page);
  static constexpr DataPage kZeroes = {};
  for (uint64_t done = from_page; done < length_bytes;) {
    done += CopyToSegments(segments, done, kZeroes.data(),
                           std::min(kZeroes.size(), length_bytes - done));
  }
  return {};
}

Outcome AdminCommands::Identify(const Command& command) {
  const Outcome outcome = FillIdentify(command);
  if (!outcome.ok()) return outcome;
  return Send(command, page_.size(), 0, page_.size());
}

Outcome AdminCommands::FillIdentify(const Command& command) {
  const uint32_t nsid = command.nsid;
  const Namespace* space = subsystem_.Find(nsid);
  const Outcome no_namespace = {Status::kInvalidNamespaceOrFormat, kAtNsid};
  switch (static_cast<Cns>(command.cdw10 & 0xff)) {
    case Cns::kController:
      FillIdentifyController(subsystem_, &page_);
      return {};
    case Cns::kNamespace:
    case Cns::kAllocatedNamespace:
      if (space == nullptr) return no_namespace;
      FillIdentifyNamespace(*space, &page_);
      return {};
    case Cns::kNamespaceDescriptors:
      if (space == nullptr) return no_namespace;
      FillNamespaceDescriptors(*space, &page_);
      return {};
    case Cns::kActiveNamespaces:
    case Cns::kAllocatedNamespaces:
      if (nsid > kMaxNsid) return no_namespace;
      FillNamespaceList(subsystem_, nsid, &page_);
      return {};
    case Cns::kAttachedControllers:
      if (space == nullptr) return no_namespace;
      FillControllerList(High16(command.cdw10), &page_);
      return {};
    case Cns::kControllers:
      FillControllerList(High16(command.cdw10), &page_);
      return {};
  }
  return {Status::kInvalidField, kAtCdw10};
}

// ---- log pages

Outcome AdminCommands::FillLogPage(LogPage page, Nanoseconds now,
                                   uint64_t* size_bytes) {
  page_.fill(0);
  switch (page) {
    case LogPage::kErrorInformation:
      for (unsigned i = 0; i < kErrorLogEntries; ++i) {
        const ErrorLogEntry entry = logs_.Error(i);
        std::memcpy(&page_[i * sizeof entry], &entry, sizeof entry);
      }
      *size_bytes = kErrorLogEntries * sizeof(ErrorLogEntry);
      return {};
    case LogPage::kSmart: {
      const SmartLog log = logs_.Smart(now - powered_since_);
      std::memcpy(page_.data(), &log, sizeof log);
      *size_bytes = sizeof log;
      return {};
    }
    case LogPage::kFirmwareSlot:
      FillFirmwareSlot(&page_);
      *size_bytes = 512;
      return {};
    case LogPage::kChangedNamespaces: {
      size_t at = 0;
      for (uint32_t nsid = 1; nsid <= subsystem_.namespaces.size(); ++nsid) {
        if (!logs_.HasChanged(nsid)) continue;
        StoreLe32(&page_[at], nsid);
        at += 4;
      }
      *size_bytes = page_.size();
      return {};
    }
    case LogPage::kCommandsSupported:
      FillCommandsSupported(&page_);
      *size_bytes = page_.size();
      return {};
  }
  return {Status::kInvalidLogPage, kAtCdw10};
}

Outcome AdminCommands::GetLogPage(const Command& command, Nanoseconds now) {
  const auto page = static_cast<LogPage>(command.cdw10 & 0xff);
  const uint64_t dwords =
      (uint64_t{High16(command.cdw10)} | uint64_t{Low16(command.cdw11)} << 16) +
      1;
  const uint64_t offset = command.cdw12 | uint64_t{command.cdw13} << 32;
  uint64_t size = 0;
  Outcome outcome = FillLogPage(page, now, &size);
  if (!outcome.ok()) return outcome;
  // The logs are the controller's, not a namespace's (LPA bit 0).
  if (command.nsid != 0 && command.nsid != kAllNamespaces) {
    return {subsystem_.Find(command.nsid) != nullptr
                ? Status::kInvalidField
                : Status::kInvalidNamespaceOrFormat,
            kAtNsid};
  }
  if (offset % 4 != 0 || offset > size) {
    return {Status::kInvalidField, kAtCdw12};
  }
  if (dwords * 4 > kMaxTransferBytes) return {Status::kInvalidField, kAtCdw10};
  outcome = Send(command, dwords * 4, offset, size);
  if (!outcome.ok()) return outcome;
  if (page == LogPage::kChangedNamespaces) logs_.ForgetChanges();
  if ((command.cdw10 & kRetainEvent) == 0) logs_.Unmask(page);
  return {};
}

// ---- the rest

bool AdminCommands::IoQueuesExist() const {
  for (uint16_t id = 1; id < kQueues; ++id) {
    if (queues_.HasCompletion(id) || queues_.HasSubmission(id)) return true;
  }
  return false;
}

void AdminCommands::ApplyWriteCache() {
  for (Namespace& each : subsystem_.namespaces) {
    for (const auto& backend : each.backends) {
      backend->SetWriteCache(state_.write_cache != 0);
    }
  }
}

Outcome AdminCommands::SetFeatures(const Command& command, Answer* answer) {
  const Outcome outcome =
      features_.Set(command, IoQueuesExist(), &answer->result);
  if (!outcome.ok()) return outcome;
  ApplyWriteCache();
  logs_.CheckTemperature();
  return {};
}

// §5.1: a request in a backend cannot be called back; one that waits for an
// event can.
Outcome AdminCommands::Abort(const Command& command, Answer* answer) {
  const uint16_t sq_id = Low16(command.cdw10);
  const uint16_t cid = High16(command.cdw10);
  if (!queues_.HasSubmission(sq_id)) return {Status::kInvalidField, kAtCdw10};
  answer->result = 1;  // not aborted
  if (sq_id == 0 && queues_.HasRoomFor(0) && logs_.CancelRequest(cid)) {
    queues_.CompleteLate(0, cid, Status::kAbortRequested, 0);
    answer->result = 0;
  }
  return {};
}

// §5.7: two pages, whose layout is that of the doorbells.
Outcome AdminCommands::DoorbellBufferConfig(const Command& command) {
  const uint64_t page_bytes = uint64_t{1} << PageBits(registers_.cc);
  std::array<iovec, 8> segments;
  for (const auto& [address, location] :
       {std::pair<uint64_t, uint16_t>{command.prp1, kAtPrp1},
        std::pair<uint64_t, uint16_t>{command.prp2, kAtPrp2}}) {
    size_t count = 0;
    if (address == 0 || address % page_bytes != 0 ||
        !dma_.Translate(address, uint64_t{1} << kPageBits,
                        DmaDirection::kToGuest, segments.data(),
                        segments.size(), &count)) {
      return {Status::kInvalidField, location};
    }
  }
  queues_.UseShadowDoorbells(command.prp1, command.prp2);
  return {};
}

}  // namespace bulkhead::nvme
