// The server's half that answers the shim.

#include "absl/strings/str_cat.h"
#include "services/runtime/server.h"

namespace bulkhead {

absl::Status Server::ServeShimFrame() {
  const Frame& frame = shim_.incoming();
  const uint64_t sequence = frame.sequence();
  ++counters_.frames;
  if (!hands_shaken_) return ShakeHands(frame);

  EventfdInterrupts& interrupts = context_.eventfd_interrupts();
  interrupts.HoldBack();
  switch (frame.body_case()) {
    case Frame::kRegionWrite:
      OnRegionWrite(frame.region_write());
      Applied(sequence);
      return absl::OkStatus();
    case Frame::kRegionRead:
      return OnRegionRead(frame.region_read(), sequence);
    case Frame::kPing:
      break;
    default:
      Rest();
      break;
  }

  ErrorCode error = OK;
  switch (frame.body_case()) {
    case Frame::kMemoryMap:
      error = OnMemoryMap(frame.memory_map());
      break;
    case Frame::kMemoryUnmap:
      error = OnMemoryUnmap(frame.memory_unmap());
      break;
    case Frame::kSetInterrupts:
      error = OnSetInterrupts(frame.set_interrupts());
      break;
    case Frame::kReset:
      OnReset();
      break;
    case Frame::kPing:
      break;
    case Frame::kQuiesce:
    case Frame::kResume:
    case Frame::kSaveState:
    case Frame::kLoadState:
    case Frame::kGetStatistics:
      error = UNSUPPORTED;  // the launcher's, on the control channel
      break;
    case Frame::BODY_NOT_SET:
      error = UNKNOWN_REQUEST;
      break;
    default:
      return absl::DataLossError(
          absl::StrCat("from the shim: a frame of type ",
                       static_cast<int>(frame.body_case()),
                       ", which a service never receives"));
  }
  Applied(sequence);
  return AnswerAck(shim_, sequence, error);
}

// First frame each way; the answer carries the device and its shared memory.
absl::Status Server::ShakeHands(const Frame& frame) {
  const uint64_t sequence = frame.sequence();
  if (!frame.has_hello() || frame.hello().has_device()) {
    return absl::DataLossError("the shim did not say hello");
  }
  const uint32_t version = frame.hello().version();
  Hello* hello = shim_.outgoing().mutable_hello();
  hello->set_version(kProtocolVersion);
  hello->set_features(0);
  if (version != kProtocolVersion) {
    // Told without a device, so that the shim can say why this ends here.
    Answer(shim_, sequence).IgnoreError();
    return absl::DataLossError(absl::StrCat("the shim speaks version ", version,
                                            " of the protocol, this service ",
                                            kProtocolVersion));
  }
  device_.Describe(hello->mutable_device());
  hello->mutable_device()->set_model(options_.model);
  shim_.outgoing().set_in_reply_to(sequence);
  hands_shaken_ = true;
  Applied(sequence);
  absl::Status status = SendWaiting(shim_, context_.shared_fds());
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

// The frame's effects are complete: the shadow page says so, and only then do
// interrupts leave.
void Server::Applied(uint64_t sequence) {
  context_.shadow().applied_sequence.store(sequence, std::memory_order_release);
  context_.eventfd_interrupts().Flush();
  ReportInterruptFailure();
}

bool Server::Allows(const KnownRegion& region, bool permitted, uint64_t offset,
                    uint32_t size_bytes) const {
  const bool power_of_two =
      size_bytes == 1 || size_bytes == 2 || size_bytes == 4 || size_bytes == 8;
  return permitted && power_of_two && offset <= region.size_bytes &&
         size_bytes <= region.size_bytes - offset;
}

absl::Status Server::OnRegionRead(const RegionRead& request,
                                  uint64_t sequence) {
  ++counters_.region_reads;
  const KnownRegion region = request.region() < regions_.size()
                                 ? regions_[request.region()]
                                 : KnownRegion{};
  if (!Allows(region, region.readable, request.offset(),
              request.size_bytes())) {
    ++counters_.refused_accesses;
    Applied(sequence);
    return AnswerAck(shim_, sequence, OUT_OF_RANGE);
  }
  Rest();
  const uint64_t value = device_.ReadRegion(request.region(), request.offset(),
                                            request.size_bytes());
  Applied(sequence);
  shim_.outgoing().mutable_region_read_reply()->set_value(value);
  return Answer(shim_, sequence);
}

void Server::OnRegionWrite(const RegionWrite& request) {
  ++counters_.region_writes;
  const KnownRegion region = request.region() < regions_.size()
                                 ? regions_[request.region()]
                                 : KnownRegion{};
  if (!Allows(region, region.writable, request.offset(),
              request.size_bytes())) {
    ++counters_.refused_accesses;
    return;
  }
  uint64_t value = request.value();
  if (request.size_bytes() < 8) {
    value &= (uint64_t{1} << (8 * request.size_bytes())) - 1;
  }
  if (WakesGroup(request, value)) return;
  Rest();
  device_.WriteRegion(request.region(), request.offset(), request.size_bytes(),
                      value);
}

ErrorCode Server::OnMemoryMap(const MemoryMap& request) {
  const absl::Status status = context_.memory().Map(
      {request.address()}, request.size_bytes(), request.ram_offset(),
      request.readable(), request.writable());
  if (status.ok()) return OK;
  return absl::IsResourceExhausted(status) ? RESOURCE_EXHAUSTED
                                           : INVALID_ARGUMENT;
}

// OK promises that the service no longer touches the range, so what is in
// flight ends first. What does not end cannot reach the range by its address
// any more.
ErrorCode Server::OnMemoryUnmap(const MemoryUnmap& request) {
  uint64_t end;
  if (request.size_bytes() == 0 ||
      __builtin_add_overflow(request.address(), request.size_bytes(), &end)) {
    return INVALID_ARGUMENT;
  }
  GuestMemory& memory = context_.memory();
  if (!memory.IsMapped({request.address()}, request.size_bytes())) return OK;
  const bool quiet = device_.Quiesce().ok();
  memory.Unmap({request.address()}, request.size_bytes());
  if (quiet) device_.Resume();
  return quiet ? OK : INTERNAL;
}

// The channel has checked that `present` has `count` entries and that as many
// fds came along as are present.
ErrorCode Server::OnSetInterrupts(const SetInterrupts& request) {
  EventfdInterrupts& interrupts = context_.eventfd_interrupts();
  if (request.count() == 0) {
    return interrupts.DisableAll(request.kind()) ? OK : INVALID_ARGUMENT;
  }
  if (request.count() > kMaxFrameFds) return INVALID_ARGUMENT;
  std::array<int, kMaxFrameFds> fds;
  size_t next = 0;
  for (uint32_t i = 0; i < request.count(); ++i) {
    const bool present = request.present(static_cast<int>(i));
    fds[i] = present ? shim_.incoming_fds()[next++].get() : -1;
  }
  if (!interrupts.Assign(request.kind(), request.first(), request.count(),
                         fds.data())) {
    return INVALID_ARGUMENT;
  }
  for (size_t i = 0; i < next; ++i) shim_.TakeFd(i);  // they are kept
  return OK;
}

void Server::OnReset() {
  context_.eventfd_interrupts().DropPending();
  device_.Reset();
}

// The shim raises what this service could not. A full socket loses the report;
// the counter still tells.
void Server::ReportInterruptFailure() {
  EventfdInterrupts::Failure failure;
  if (!context_.eventfd_interrupts().TakeFailure(&failure)) return;
  InterruptFallback* fallback = shim_.outgoing().mutable_interrupt_fallback();
  fallback->set_kind(failure.kind);
  fallback->set_vector(failure.vector);
  if (!shim_.Send().ok()) shim_.outgoing().Clear();
}

}  // namespace bulkhead
