#include "services/lsi53c895a/controller.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/frame.pb.h"
#include "services/pci/spec.h"

namespace bulkhead::lsi53c895a {
namespace {

// ISTAT0 to MBOX1 lie in the second half of the 8 bytes at DSA: loads of
// either have no side effect.
constexpr uint64_t kShadowOffset = DSA;
constexpr uint64_t kShadowBytes = 8;

// A program that has done nothing for so many slices runs one slice a
// millisecond until it does.
constexpr unsigned kSlicesBeforeThrottle = 64;
constexpr Nanoseconds kThrottledInterval = 1'000'000;

constexpr Nanoseconds kDrainAtMost = 5'000'000'000;

pci::Layout MakeLayout() {
  pci::Layout layout;
  layout.vendor_id = kVendorId;
  layout.device_id = kDeviceId;
  layout.class_code = kClassCode;
  layout.subsystem_vendor_id = kVendorId;
  layout.subsystem_id = 0x1000;
  layout.interrupt_pin = 1;
  layout.min_grant = 0x11;
  layout.max_latency = 0x40;
  layout.bars[kIoBar] = {pci::Bar::Kind::kIo, kIoBarBytes};
  layout.bars[kMemoryBar] = {pci::Bar::Kind::kMemory32, kMemoryBarBytes};
  layout.bars[kScriptsRamBar] = {pci::Bar::Kind::kMemory32, kScriptsRamBytes};
  layout.power_management = true;
  return layout;
}

void StoreShadow(uint8_t* at, uint32_t value) {
  std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(at))
      .store(value, std::memory_order_relaxed);
}

void AddCounter(Statistics* statistics, const char* name, uint64_t value) {
  Statistic* counter = statistics->add_counters();
  counter->set_name(name);
  counter->set_value(value);
}

}  // namespace

Controller::Controller(ServiceContext& context, std::unique_ptr<scsi::Bus> bus,
                       Backends backends)
    : Function(context, state_.pci, MakeLayout()),
      backends_(std::move(backends)),
      bus_(std::move(bus)),
      interrupts_(state_.chip),
      dma_(state_.chip, context.memory()),
      nexus_(state_.chip, *bus_),
      registers_(state_.chip, interrupts_, nexus_),
      scripts_(state_.chip, interrupts_, dma_, nexus_, registers_),
      timers_(state_.chip) {
  registers_.Reset();
  PowerOn();
  Publish();
}

void Controller::Describe(DeviceDescription* description) const {
  Function::Describe(description);
  description->set_model("lsi53c895a");
  for (const uint32_t bar : {kIoBar, kMemoryBar}) {
    ShadowRange* shadow = description->add_shadows();
    shadow->set_region(bar);
    shadow->set_offset(kShadowOffset);
    shadow->set_size_bytes(kShadowBytes);
    shadow->set_shadow_offset(0);
  }
}

// ---- accesses

uint64_t Controller::ReadBar(unsigned bar, uint64_t offset,
                             unsigned size_bytes) {
  uint64_t value = 0;
  if (bar == kScriptsRamBar) {
    std::memcpy(&value, &state_.chip.ram[offset], size_bytes);
    return value;
  }
  for (unsigned i = 0; i < size_bytes; ++i) {
    const auto at = static_cast<uint8_t>(offset + i);  // BAR 1 repeats them
    value |= uint64_t{registers_.Read(at)} << (8 * i);
  }
  Publish();
  return value;
}

void Controller::WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                          uint64_t value) {
  if (bar == kScriptsRamBar) {
    std::memcpy(&state_.chip.ram[offset], &value, size_bytes);
    return;
  }
  for (unsigned i = 0; i < size_bytes; ++i) {
    Apply(registers_.WriteFromCpu(static_cast<uint8_t>(offset + i),
                                  static_cast<uint8_t>(value >> (8 * i))));
  }
  Publish();
}

void Controller::Apply(Effects effects) {
  if (effects == kNoEffect) return;
  if ((effects & kSoftwareReset) != 0) {
    nexus_.Abandon();
    ResetChip();
    return;
  }
  if ((effects & kScsiReset) != 0) {
    nexus_.BusReset();
    interrupts_.RaiseScsi(kSistRst);
    scripts_.Halt();
  }
  if ((effects & kAbortScripts) != 0) {
    scripts_.Halt();
    interrupts_.RaiseDma(kDstatAbrt);
  }
  if ((effects & kGeneralTimer) != 0) timers_.RestartGeneral(context().Now());
  if ((effects & kStartScripts) != 0) scripts_.Start();
}

// Everything but the on-chip RAM and what targets hold.
void Controller::ResetChip() {
  state_.chip.scripts = ScriptsState();
  interrupts_.Reset();
  timers_.Stop();
  registers_.Reset();
}

void Controller::ResetDevice() {
  nexus_.BusReset();
  ResetChip();
  state_.chip.ram.fill(0);
  dma_.UnmapScriptsRam();
  dma_.SetBusMaster(false);
  Publish();
}

void Controller::OnConfigWrite(uint64_t, unsigned) { FollowBars(); }

void Controller::FollowBars() {
  const uint32_t memory = config().Get32(pci::kBar0 + 4 * kMemoryBar) & ~0xfu;
  const uint32_t ram = config().Get32(pci::kBar0 + 4 * kScriptsRamBar) & ~0xfu;
  registers_.SetBarAddresses(memory, ram);
  dma_.SetBusMaster(bus_master_enabled());
  const bool decodes =
      (config().Get16(pci::kCommand) & pci::kCommandMemorySpace) != 0;
  if (decodes) {
    dma_.SetScriptsRam(ram);
  } else {
    dma_.UnmapScriptsRam();
  }
}

void Controller::Publish() {
  const absl::Span<uint8_t> shadow = context().shadow_image();
  if (shadow.size() >= kShadowBytes) {
    StoreShadow(shadow.data(), state_.chip.Get32(DSA));
    StoreShadow(shadow.data() + 4, registers_.StatusWord());
  }
  const bool held = hold_.Holds(interrupts_.OnlyOnTheFly(),
                                nexus_.commands() + interrupts_.on_the_fly(),
                                context().Now());
  const bool level = interrupts_.PinLevel(/*hold_on_the_fly=*/held);
  if (level != interrupt_asserted()) {
    interrupts_raised_ += level;
    SetInterrupt(level);
  }
}

// ---- the turn

Turn Controller::Run(Nanoseconds now) {
  bus_->Poll();
  const uint16_t expired = timers_.Expire(now);
  if (expired != 0 && interrupts_.RaiseScsi(expired)) scripts_.Halt();
  if (!scripts_.halted()) Apply(scripts_.Run(Scripts::Budget()));

  const Activity activity = state_.chip.scripts.activity;
  if (nexus_.connected() &&
      (activity == Activity::kWaitPhase || activity == Activity::kBlockMove)) {
    timers_.WaitForHandshake(now);
  } else {
    timers_.Handshake();
  }
  Publish();

  Turn turn;
  turn.deadline = std::min(timers_.deadline(), hold_.deadline());
  turn.busy = scripts_.has_work() || bus_->HasWork();
  if (Spins()) {
    turn.busy = bus_->HasWork();
    turn.deadline = std::min(turn.deadline, now + kThrottledInterval);
  }
  return turn;
}

bool Controller::Spins() {
  const uint64_t progress =
      nexus_.commands() + scripts_.bytes_moved() + interrupts_raised_;
  if (!scripts_.has_work() || progress != progress_) {
    progress_ = progress;
    idle_slices_ = 0;
    return false;
  }
  if (idle_slices_ < kSlicesBeforeThrottle) ++idle_slices_;
  return idle_slices_ >= kSlicesBeforeThrottle;
}

// What targets do meanwhile moves bytes of their own: guest RAM is touched by
// programs alone, between two calls.
absl::Status Controller::Quiesce() {
  bus_->SetPaused(true);
  const Nanoseconds until = context().Now() + kDrainAtMost;
  while (!bus_->idle()) {
    if (context().Now() >= until) {
      const std::string why =
          absl::StrCat("not quiet: disk requests did not end within 5 s: ",
                       bus_->Outstanding());
      context().Log(why);
      bus_->SetPaused(false);
      return absl::DeadlineExceededError(why);
    }
    bus_->Poll();
  }
  return absl::OkStatus();
}

void Controller::Resume() { bus_->SetPaused(false); }

absl::Span<const std::byte> Controller::State() const {
  state_.bus = bus_->state();
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&state_),
                             sizeof(state_));
}

// Commands under way are given up first: a device takes over a state at the
// beginning of its life.
bool Controller::LoadState(absl::Span<const std::byte> state) {
  if (state.size() != sizeof(state_)) return false;
  const auto saved = std::make_unique<SavedState>();
  std::memcpy(static_cast<void*>(saved.get()), state.data(), state.size());
  if (!IsPlausible(saved->chip)) return false;
  const auto before = std::make_unique<pci::FunctionState>(state_.pci);
  if (!RestoreFunction(saved->pci)) return false;
  nexus_.Abandon();
  if (!bus_->LoadState(saved->bus)) {
    RestoreFunction(*before);
    return false;
  }
  state_.chip = saved->chip;
  nexus_.RecoverTasks();
  FollowBars();
  Publish();
  return true;
}

void Controller::ReportStatistics(Statistics* statistics) const {
  AddCounter(statistics, "nexus_commands", nexus_.commands());
  AddCounter(statistics, "nexus_disconnections", nexus_.disconnections());
  AddCounter(statistics, "nexus_reselections", nexus_.reselections());
  AddCounter(statistics, "scripts_instructions", scripts_.instructions());
  AddCounter(statistics, "scripts_bytes", scripts_.bytes_moved());
  AddCounter(statistics, "scripts_phase_mismatches",
             scripts_.phase_mismatches());
  AddCounter(statistics, "scripts_interrupts", interrupts_raised_);
  bus_->ReportStatistics(statistics);
}

}  // namespace bulkhead::lsi53c895a
