// The turn, resets, interrupts and saved state.

#include "services/virtio/transport.h"

#include <algorithm>

#include "proto/frame.pb.h"

namespace bulkhead::virtio {
namespace {

// Chains of one queue before it is the next one's turn.
constexpr unsigned kBudget = 32;

pci::Layout MakeLayout(const DeviceKind& kind) {
  pci::Layout layout;
  layout.vendor_id = kPciVendor;
  layout.device_id = static_cast<uint16_t>(kPciDeviceBase + kind.device_type);
  layout.revision = kPciRevision;
  layout.class_code = kind.class_code;
  layout.subsystem_vendor_id = kPciVendor;
  layout.subsystem_id = 0x1100;
  layout.interrupt_pin = 1;
  layout.bars[kMsixBar] = {pci::Bar::Kind::kMemory32, 0x1000};
  layout.bars[kStructuresBar] = {pci::Bar::Kind::kMemory32,
                                 kStructuresBarBytes};
  layout.msix = {.vectors = kind.queues + 1,
                 .table_bar = kMsixBar,
                 .table_offset = 0,
                 .pba_bar = kMsixBar,
                 .pba_offset = 0x800};
  return layout;
}

void AddCounter(Statistics* statistics, const char* name, uint64_t value) {
  Statistic* counter = statistics->add_counters();
  counter->set_name(name);
  counter->set_value(value);
}

}  // namespace

Transport::Transport(ServiceContext& context, TransportState& state,
                     const DeviceKind& kind)
    : Function(context, state.pci, MakeLayout(kind)),
      state_(state),
      kind_(kind),
      offered_(kind.features | kFeatureVersion1) {
  AddCapabilities();
}

void Transport::Start() {
  for (unsigned i = 0; i < kind_.queues; ++i) {
    slots_[i].queue.Attach(&context().memory(), &state_.queues[i]);
  }
  ResetAll();
}

// ---- the turn

bool Transport::running() const {
  return (state_.status & kStatusDriverOk) != 0 &&
         (state_.status & (kStatusNeedsReset | kStatusFailed)) == 0 &&
         !resetting_ && !quiesced_ && bus_master_enabled();
}

Turn Transport::Run(Nanoseconds now) {
  Turn turn = RunGroup(0, now);
  if (any_resetting_) FinishResets();
  turn.attention |= kind_.groups > 1 && WantsRest();
  if (kind_.groups == 1 && WantsRest()) AtRest();
  return turn;
}

Turn Transport::RunGroup(unsigned group, Nanoseconds now) {
  Turn turn;
  if (groups_[group].asleep) {
    groups_[group].asleep = false;
    for (unsigned i = group; i < kind_.queues; i += kind_.groups) {
      slots_[i].queue.DisableNotifications();
    }
  }
  turn.worked = Poll(group);
  if (running()) ServeGroup(group, &turn);
  SignalGroup(group, now, &turn.deadline);
  turn.attention = groups_[group].attention;
  return turn;
}

void Transport::ServeGroup(unsigned group, Turn* turn) {
  Group& served = groups_[group];
  const unsigned count =
      (kind_.queues - group + kind_.groups - 1) / kind_.groups;
  for (unsigned n = 0; n < count && HasRoom(group); ++n) {
    const unsigned index = group + (served.first + n) % count * kind_.groups;
    QueueSlot& slot = slots_[index];
    if (!slot.queue.enabled() || slot.resetting) continue;
    turn->poll = true;
    if (!slot.queue.HasWork()) continue;
    const unsigned taken = Serve(index, slot.queue, kBudget);
    served.counters.chains += taken;
    slot.begun += taken;
    turn->worked |= taken > 0;
    turn->busy |= taken == kBudget;
    if (!running()) break;
  }
  served.first = served.first + 1 < count ? served.first + 1 : 0;
  // Without room, what is in flight ends first, and wakes the loop.
  turn->busy &= HasRoom(group);
  turn->poll |= in_flight_of_group(group) > 0;
}

void Transport::SignalGroup(unsigned group, Nanoseconds now,
                            Nanoseconds* deadline) {
  for (unsigned i = group; i < kind_.queues; i += kind_.groups) {
    QueueSlot& slot = slots_[i];
    if (!slot.touched) continue;
    const bool wanted = slot.queue.WantsSignal();
    // With more to do, the driver had better take these meanwhile.
    if (in_flight(i) == 0 && !slot.queue.HasWork() &&
        slot.hold.Holds(wanted, slot.begun, now)) {
      *deadline = std::min(*deadline, slot.hold.deadline());
      continue;
    }
    Settle(slot, group, wanted);
  }
}

bool Transport::PrepareToSleep() { return PrepareGroupToSleep(0); }

bool Transport::PrepareGroupToSleep(unsigned group) {
  if (!running()) return false;
  groups_[group].asleep = true;
  bool work = false;
  for (unsigned i = group; i < kind_.queues; i += kind_.groups) {
    slots_[i].queue.EnableNotifications();
    work |= !slots_[i].resetting && slots_[i].queue.HasWork();
  }
  return work && HasRoom(group);
}

// ---- groups

bool Transport::MayRunApart() const {
  return running() && !any_resetting_ && msix_passes();
}

// What a group has found and may not do itself.
void Transport::Attend() {
  for (Group& group : groups_) group.attention = false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueSlot& slot = slots_[i];
    if (slot.failed) FailDevice();
    if (slot.unsignalled) TriggerMsix(slot.queue.state().vector);
    slot.failed = slot.unsignalled = false;
  }
  if (WantsRest()) AtRest();
}

// §4.1.5.2, as Notified: the group's thread looks at all its queues.
int Transport::TakeDoorbell(uint32_t region, uint64_t offset, unsigned,
                            uint64_t value) {
  if (region != kStructuresBar || offset < kNotifyAt) return -1;
  Notified(offset - kNotifyAt, value);
  const uint64_t index = value & 0xffff;
  return index < kind_.queues
             ? static_cast<int>(group_of(static_cast<unsigned>(index)))
             : 0;
}

bool Transport::Alive(unsigned index) const {
  const QueueSlot& slot = slots_[index];
  return (state_.status & (kStatusNeedsReset | kStatusFailed)) == 0 &&
         !resetting_ && !slot.resetting && !slot.failed && !slot.queue.broken();
}

void Transport::Complete(unsigned index, const Ticket& ticket,
                         uint32_t written_bytes) {
  if (!Alive(index)) return;
  slots_[index].queue.Push(ticket, written_bytes);
  slots_[index].touched = true;
}

void Transport::Settle(QueueSlot& slot, unsigned group, bool wanted) {
  slot.touched = false;
  slot.hold.End();
  slot.queue.Signalled();
  if (!wanted) return;
  ++groups_[group].counters.interrupts;
  const uint16_t vector = slot.queue.state().vector;
  if (!msix_enabled()) {
    RaiseIsr(kIsrQueue);
  } else if (vector == kNoVector) {
    return;
  } else if (group == 0 || !msix_passes()) {
    TriggerMsix(vector);
  } else if (!TriggerMsixApart(vector)) {
    slot.unsignalled = groups_[group].attention = true;
  }
}

// §4.1.4.5: without MSI-X the ISR says which, and the line is its level.
void Transport::RaiseIsr(uint8_t bits) {
  state_.isr |= bits;
  SetInterrupt(true);
}

uint8_t Transport::TakeIsr() {
  const uint8_t isr = state_.isr;
  state_.isr = 0;
  SetInterrupt(false);
  return isr;
}

void Transport::ConfigChanged() {
  ++state_.config_generation;
  if ((state_.status & kStatusDriverOk) == 0 || resetting_) return;
  if (msix_enabled()) {
    if (state_.config_vector != kNoVector) TriggerMsix(state_.config_vector);
  } else {
    RaiseIsr(kIsrConfig);
  }
}

void Transport::Fail(unsigned index) {
  if (kind_.groups == 1) return FailDevice();
  slots_[index].failed = groups_[group_of(index)].attention = true;
}

void Transport::FailDevice() {
  if ((state_.status & kStatusNeedsReset) != 0) return;
  ++counters_.failures;
  context().Log("the driver broke a virtqueue's rules: device needs reset");
  state_.status |= kStatusNeedsReset;
  ConfigChanged();
}

uint64_t Transport::features() const {
  return (state_.status & kStatusFeaturesOk) != 0 ? state_.driver_features : 0;
}

// ---- resets

// §2.4.1: from here on nothing is taken and nothing is given back; done when
// nothing is in flight.
void Transport::BeginReset() {
  if (resetting_) return;
  ++counters_.resets;
  resetting_ = true;
  any_resetting_ = true;
  DropHeld();
  FinishResets();
}

void Transport::FinishResets() {
  if (resetting_) {
    if (in_flight() == 0) ResetAll();
    return;
  }
  any_resetting_ = false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueSlot& slot = slots_[i];
    if (slot.resetting && in_flight(i) == 0) {
      slot.queue.Reset(kind_.queue_size);
      slot.resetting = slot.touched = slot.failed = false;
      slot.hold.End();
    }
    any_resetting_ |= slot.resetting;
  }
}

void Transport::ResetAll() {
  resetting_ = any_resetting_ = false;
  for (Group& group : groups_) group.asleep = group.attention = false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueSlot& slot = slots_[i];
    slot.queue.Reset(kind_.queue_size);
    slot.resetting = slot.touched = slot.failed = slot.unsignalled = false;
    slot.hold.End();
  }
  state_.driver_features = 0;
  state_.device_feature_select = 0;
  state_.driver_feature_select = 0;
  state_.queue_select = 0;
  state_.config_vector = kNoVector;
  state_.status = 0;
  TakeIsr();
  FeaturesChanged(0);
}

void Transport::ResetDevice() {
  DropHeld();
  Drain();
  ResetAll();
}

absl::Status Transport::Quiesce() {
  Drain();
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueSlot& slot = slots_[i];
    if (slot.touched) Settle(slot, group_of(i), slot.queue.WantsSignal());
  }
  if (any_resetting_) FinishResets();
  quiesced_ = true;
  return absl::OkStatus();
}

void Transport::Resume() {
  quiesced_ = false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    slots_[i].queue.ForgetMapping();
  }
}

// ---- saved state

bool Transport::RestoreTransport(const TransportState& saved) {
  const uint64_t wanted = saved.driver_features;
  const bool negotiated = (saved.status & kStatusFeaturesOk) != 0;
  if (negotiated &&
      ((wanted & ~offered_) != 0 || (wanted & kFeatureVersion1) == 0)) {
    return false;
  }
  const auto is_vector = [this](uint16_t vector) {
    return vector == kNoVector || vector <= kind_.queues;
  };
  if (!is_vector(saved.config_vector)) return false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueState copy = saved.queues[i];
    Queue queue;
    queue.Attach(&context().memory(), &copy);
    if (!is_vector(copy.vector) || copy.enabled > 1 || copy.broken > 1 ||
        !queue.Restore(negotiated ? wanted : 0)) {
      return false;
    }
  }
  if (!RestoreFunction(saved.pci)) return false;
  Drain();
  const pci::FunctionState function = state_.pci;
  state_ = saved;
  state_.pci = function;
  resetting_ = any_resetting_ = false;
  for (unsigned i = 0; i < kind_.queues; ++i) {
    QueueSlot& slot = slots_[i];
    slot.resetting = slot.failed = slot.unsignalled = false;
    slot.queue.Restore(features());
    slot.touched = slot.queue.enabled();  // the driver may not know of the last
  }
  FeaturesChanged(features());
  if (state_.isr != 0) SetInterrupt(true);
  return true;
}

void Transport::ReportStatistics(Statistics* statistics) const {
  GroupCounters sum;
  for (const Group& group : groups_) {
    sum.chains += group.counters.chains;
    sum.interrupts += group.counters.interrupts;
  }
  AddCounter(statistics, "virtio_chains", sum.chains);
  AddCounter(statistics, "virtio_notifications", counters_.notifications);
  AddCounter(statistics, "virtio_bad_notifications",
             counters_.bad_notifications);
  AddCounter(statistics, "virtio_interrupts", sum.interrupts);
  AddCounter(statistics, "virtio_resets", counters_.resets);
  AddCounter(statistics, "virtio_failures", counters_.failures);
}

}  // namespace bulkhead::virtio
