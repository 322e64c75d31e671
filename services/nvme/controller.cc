#include "services/nvme/controller.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <utility>

#include "proto/frame.pb.h"
#include "services/block/drain.h"

namespace bulkhead::nvme {
namespace {

// CAP.TO: the longest that RDY takes to follow EN. A reset waits for requests
// that the host's disk has begun.
constexpr uint64_t kReadyTimeoutHalfSeconds = 120;
constexpr Nanoseconds kDrainAtMost = 30'000'000'000;

static_assert(kMaxQueueGroups * kMaxCommands <= kMaxUnposted);

constexpr uint64_t kCapabilities =
    (kMaxQueueEntries - 1) | kCapContiguousQueues |
    kReadyTimeoutHalfSeconds << kCapTimeoutShift | kCapNvmCommandSet |
    uint64_t{kMaxPageBits - kPageBits} << kCapMpsMaxShift;

pci::Layout MakeLayout() {
  pci::Layout layout;
  layout.vendor_id = kVendorId;
  layout.device_id = kDeviceId;
  layout.class_code = kClassCode;
  layout.subsystem_vendor_id = kVendorId;
  layout.subsystem_id = kDeviceId;
  layout.interrupt_pin = 1;
  layout.bars[0] = {pci::Bar::Kind::kMemory64, Controller::kBarBytes};
  layout.msi_vectors = Controller::kMsiVectors;
  layout.msix = {.vectors = kVectors,
                 .table_bar = 0,
                 .table_offset = Controller::kMsixTable,
                 .pba_bar = 0,
                 .pba_offset = Controller::kMsixPending};
  layout.express = true;
  return layout;
}

void AddCounter(Statistics* statistics, const char* name, uint64_t value) {
  Statistic* counter = statistics->add_counters();
  counter->set_name(name);
  counter->set_value(value);
}

void SetLow(uint64_t* to, uint32_t value) {
  *to = (*to & ~uint64_t{0xffffffff}) | value;
}
void SetHigh(uint64_t* to, uint32_t value) {
  *to = (*to & 0xffffffff) | uint64_t{value} << 32;
}

}  // namespace

Controller::Controller(ServiceContext& context, Subsystem subsystem)
    : Function(context, state_.pci, MakeLayout()),
      subsystem_(std::move(subsystem)),
      dma_(context.memory()),
      logs_(state_.controller.logs, state_.controller.features),
      features_(state_.controller.features),
      group_count_(subsystem_.groups()),
      queues_(group_count_, state_.controller.queues,
              state_.controller.features, logs_, dma_),
      groups_(MakeGroups(subsystem_, queues_, state_.controller.features, logs_,
                         dma_)),
      admin_(state_.controller.registers, state_.controller.features,
             subsystem_, features_, queues_, logs_, groups_[0]->io, dma_) {
  flush_.owner = this;
  flush_.operation = block::Operation::kFlush;
  flush_.done = [](block::Request* request) {
    static_cast<Controller*>(request->owner)->flush_in_flight_ = false;
  };
  for (Namespace& each : subsystem_.namespaces) {
    each.known_blocks = each.blocks();
  }
  PowerOn();
  Publish();
}

std::vector<std::unique_ptr<Controller::Group>> Controller::MakeGroups(
    Subsystem& subsystem, Queues& queues, const FeatureState& features,
    Logs& logs, Dma& dma) {
  std::vector<std::unique_ptr<Group>> groups;
  for (unsigned i = 0; i < subsystem.groups(); ++i) {
    groups.push_back(std::make_unique<Group>(i, subsystem, queues, features,
                                             i == 0 ? &logs : nullptr, dma));
  }
  return groups;
}

void Controller::Describe(DeviceDescription* description) const {
  Function::Describe(description);
  description->set_model("nvme");
  ShadowRange* shadow = description->add_shadows();
  shadow->set_region(kBar0Region);
  shadow->set_offset(0);
  shadow->set_size_bytes(kRegistersEnd);
  shadow->set_shadow_offset(0);
}

// ---- registers

uint32_t Controller::Register(uint64_t offset) const {
  const RegisterState& r = state_.controller.registers;
  switch (offset) {
    case kCap:
      return static_cast<uint32_t>(kCapabilities);
    case kCap + 4:
      return static_cast<uint32_t>(kCapabilities >> 32);
    case kVs:
      return kVersion14;
    case kIntms:
    case kIntmc:
      return r.interrupt_mask;
    case kCc:
      return r.cc;
    case kCsts:
      return r.csts;
    case kAqa:
      return r.aqa;
    case kAsq:
      return static_cast<uint32_t>(r.asq);
    case kAsq + 4:
      return static_cast<uint32_t>(r.asq >> 32);
    case kAcq:
      return static_cast<uint32_t>(r.acq);
    case kAcq + 4:
      return static_cast<uint32_t>(r.acq >> 32);
    default:
      return 0;
  }
}

void Controller::Publish() {
  const absl::Span<uint8_t> shadow = context().shadow_image();
  for (uint64_t offset = 0; offset < kRegistersEnd; offset += 4) {
    std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(&shadow[offset]))
        .store(Register(offset), std::memory_order_relaxed);
  }
}

uint64_t Controller::ReadBar(unsigned, uint64_t offset, unsigned size_bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const uint64_t at = offset + i;
    if (at >= kRegistersEnd) break;
    const uint64_t byte = Register(at & ~uint64_t{3}) >> (8 * (at & 3)) & 0xff;
    value |= byte << (8 * i);
  }
  return value;
}

// §3.1: registers are written whole, in 32 or 64 bits; anything else is
// undefined, and ignored here.
void Controller::WriteBar(unsigned, uint64_t offset, unsigned size_bytes,
                          uint64_t value) {
  if (size_bytes < 4 || offset % 4 != 0) return;
  if (offset >= kDoorbells) {
    if (size_bytes != 4 || offset >= kMsixTable || !Running()) return;
    ++doorbells_;
    queues_.Ring(offset - kDoorbells, static_cast<uint32_t>(value));
    return;
  }
  WriteRegister(offset, static_cast<uint32_t>(value));
  if (size_bytes == 8) {
    WriteRegister(offset + 4, static_cast<uint32_t>(value >> 32));
  }
  Publish();
}

void Controller::WriteRegister(uint64_t offset, uint32_t value) {
  const bool enabled = (registers().cc & kCcEnable) != 0;
  switch (offset) {
    case kIntms:
      registers().interrupt_mask |= value;
      return;
    case kIntmc:
      registers().interrupt_mask &= ~value;
      return;
    case kCc:
      return WriteConfiguration(value & kCcWritable);
    // §3.1.8 to .10: not to be changed while enabled.
    case kAqa:
      if (!enabled) registers().aqa = value & 0x0fff0fff;
      return;
    case kAsq:
      if (!enabled) SetLow(&registers().asq, value & ~0xfffu);
      return;
    case kAsq + 4:
      if (!enabled) SetHigh(&registers().asq, value);
      return;
    case kAcq:
      if (!enabled) SetLow(&registers().acq, value & ~0xfffu);
      return;
    case kAcq + 4:
      if (!enabled) SetHigh(&registers().acq, value);
      return;
    default:
      return;
  }
}

// §3.1.5. Clearing EN resets the controller, setting it starts one; a new SHN
// asks for a shutdown.
void Controller::WriteConfiguration(uint32_t value) {
  const uint32_t before = registers().cc;
  registers().cc = value;
  const bool was_enabled = (before & kCcEnable) != 0;
  const bool enabled = (value & kCcEnable) != 0;
  if (was_enabled && !enabled) {
    StartReset();
  } else if (!was_enabled && enabled && !resetting_) {
    Enable();
  }
  if ((value & kCcShutdownMask) != 0 && (before & kCcShutdownMask) == 0) {
    StartShutdown();
  } else if ((value & kCcShutdownMask) == 0 && !flushing_) {
    registers().csts &= ~kCstsShutdownMask;
  }
}

bool Controller::Running() const {
  const RegisterState& r = state_.controller.registers;
  return (r.csts & (kCstsReady | kCstsFatal)) == kCstsReady && !resetting_;
}

// §7.6.1. A configuration that cannot be is a fatal status.
void Controller::Enable() {
  RegisterState& r = registers();
  const uint32_t sq_entries = (r.aqa & 0xfff) + 1;
  const uint32_t cq_entries = (r.aqa >> 16) + 1;
  const uint64_t page_mask = (uint64_t{1} << PageBits(r.cc)) - 1;
  if (PageBits(r.cc) > kMaxPageBits || (r.cc & kCcCommandSetMask) != 0 ||
      (r.cc & kCcArbitrationMask) != 0 || sq_entries < 2 || cq_entries < 2 ||
      ((r.asq | r.acq) & page_mask) != 0) {
    if (PageBits(r.cc) > kMaxPageBits) r.cc &= ~kCcPageMask;
    r.csts |= kCstsFatal;
    ++fatal_errors_;
    return;
  }
  queues_.Reset();
  features_.Reset();
  admin_.ApplyWriteCache();
  for (const auto& group : groups_) group->io.SetPageBits(PageBits(r.cc));
  queues_.CreateCompletion(0, r.acq, cq_entries, 0, true);
  queues_.CreateSubmission(0, r.asq, sq_entries, 0);
  r.csts = kCstsReady;
}

// §7.3.2. RDY goes when no request of before touches guest memory any more.
void Controller::StartReset() {
  resetting_ = true;
  flushing_ = false;
  OrphanAll();
  queues_.DropUnposted();
  DropHeld();
  Settle();
}

void Controller::OrphanAll() {
  for (const auto& group : groups_) group->io.Orphan();
}

unsigned Controller::CommandsInFlight() const {
  unsigned sum = 0;
  for (const auto& group : groups_) sum += group->io.in_flight();
  return sum;
}

// What a disk's limits hold back has not begun, and nobody waits for it now.
void Controller::DropHeld() {
  for (Namespace& each : subsystem_.namespaces) {
    for (const auto& backend : each.backends) backend->DropHeld();
  }
}

void Controller::FinishReset() {
  resetting_ = false;
  queues_.Reset();
  logs_.Reset();
  masked_msi_.reset();
  for (const auto& group : groups_) group->unsignalled.reset();
  registers().csts = 0;
  registers().interrupt_mask = 0;
  // The host was impatient and has enabled it again already.
  if ((registers().cc & kCcEnable) != 0) Enable();
}

// §7.6.2: what the host has written is on stable storage when SHST says so.
void Controller::StartShutdown() {
  registers().csts =
      (registers().csts & ~kCstsShutdownMask) | kCstsShutdownOccurring;
  flushing_ = true;
  flush_next_ = 0;
  Settle();
}

void Controller::FlushNext() {
  while (flushing_ && !flush_in_flight_) {
    if (flush_next_ == subsystem_.namespaces.size()) {
      flushing_ = false;
      registers().csts =
          (registers().csts & ~kCstsShutdownMask) | kCstsShutdownComplete;
      return;
    }
    // One more than commands: a backend may refuse it when it is full.
    block::Backend& backend = subsystem_.namespaces[flush_next_].backend();
    if (backend.in_flight() >= block::kMaxInFlight) return;
    ++flush_next_;
    flush_in_flight_ = true;
    backend.Submit(&flush_);
  }
}

void Controller::Settle() {
  if (resetting_ && CommandsInFlight() == 0 && !flush_in_flight_) {
    FinishReset();
  }
  if (flushing_) FlushNext();
}

void Controller::WaitUntilIdle() {
  const Nanoseconds until = context().Now() + kDrainAtMost;
  for (;;) {
    bool idle = true;
    for (const auto& group : groups_) {
      group->io.Run();
      idle &= group->io.idle();
    }
    Settle();
    if (idle && !flush_in_flight_) return;
    for (Namespace& each : subsystem_.namespaces) {
      for (const auto& backend : each.backends) {
        if (backend->in_flight() == 0) continue;
        if (!block::Drain(*backend, until)) {
          context().Fail("an image did not finish its requests within 30 s");
        }
      }
    }
    if (context().Now() >= until) {
      context().Fail("commands did not end within 30 s");
      return;
    }
  }
}

void Controller::ResetDevice() {
  resetting_ = true;
  flushing_ = false;
  OrphanAll();
  DropHeld();
  WaitUntilIdle();
  const LogState logs = state_.controller.logs;
  state_.controller = ControllerState();
  state_.controller.logs = logs;
  resetting_ = false;
  FinishReset();
  features_.Reset();
  admin_.ApplyWriteCache();
  dma_.SetBusMaster(false);
  Publish();
}

void Controller::OnConfigWrite(uint64_t, unsigned) { FollowBusMaster(); }

void Controller::FollowBusMaster() {
  dma_.SetBusMaster(bus_master_enabled());
  if (dma_.enabled()) queues_.PostUnposted();
}

// ---- state

absl::Status Controller::Quiesce() {
  queues_.TakeKeptRings();
  groups_[0]->io.ReturnFused();
  WaitUntilIdle();
  Publish();
  return absl::OkStatus();
}

void Controller::Resume() {}

absl::Span<const std::byte> Controller::State() const {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&state_),
                             sizeof(state_));
}

bool Controller::LoadState(absl::Span<const std::byte> state) {
  if (state.size() != sizeof(state_)) return false;
  const auto saved = std::make_unique<SavedState>();
  std::memcpy(static_cast<void*>(saved.get()), state.data(), state.size());
  if (!IsPlausible(saved->controller)) return false;
  if (!RestoreFunction(saved->pci)) return false;
  OrphanAll();
  WaitUntilIdle();
  state_.controller = saved->controller;
  for (const auto& group : groups_) {
    group->io.SetPageBits(PageBits(registers().cc));
  }
  queues_.Recover();
  FollowBusMaster();
  admin_.ApplyWriteCache();
  const bool enabled = (registers().cc & kCcEnable) != 0;
  // A reset or a shutdown that was under way is finished here.
  resetting_ = !enabled && (registers().csts & kCstsReady) != 0;
  flushing_ = (registers().csts & kCstsShutdownMask) == kCstsShutdownOccurring;
  flush_next_ = 0;
  Settle();
  Publish();
  return true;
}

void Controller::ReportStatistics(Statistics* statistics) const {
  IoCommands::Counters io;
  uint64_t interrupts = 0;
  for (const auto& group : groups_) {
    io.commands += group->io.counters().commands;
    io.errors += group->io.counters().errors;
    io.waits += group->io.counters().waits;
    interrupts += group->interrupts;
  }
  AddCounter(statistics, "nvme_commands", io.commands);
  AddCounter(statistics, "nvme_errors", io.errors);
  AddCounter(statistics, "nvme_waits", io.waits);
  AddCounter(statistics, "nvme_doorbells", doorbells_);
  AddCounter(statistics, "nvme_interrupts", interrupts);
  AddCounter(statistics, "nvme_fatal_errors", fatal_errors_);
  for (const Namespace& each : subsystem_.namespaces) {
    for (const auto& backend : each.backends) {
      backend->ReportStatistics(statistics);
    }
  }
}

}  // namespace bulkhead::nvme
