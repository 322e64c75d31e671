#include "services/pci/function.h"

#include <bit>
#include <cstdlib>

#include "proto/frame.pb.h"

namespace bulkhead::pci {
namespace {

bool IsMemory(const Bar& bar) {
  return bar.kind == Bar::Kind::kMemory32 || bar.kind == Bar::Kind::kMemory64;
}

// A layout is a device's constant: a bad one is our own bug.
void CheckLayout(const Layout& layout) {
  bool good =
      layout.interrupt_pin <= 4 && layout.msi_vectors <= kMaxMsiVectors &&
      layout.msix.vectors <= kMaxMsixVectors &&
      (layout.msi_vectors == 0 || std::has_single_bit(layout.msi_vectors));
  for (size_t i = 0; i < layout.bars.size(); ++i) {
    const Bar& bar = layout.bars[i];
    if (bar.kind == Bar::Kind::kNone) continue;
    const uint64_t least = IsMemory(bar) ? 16 : 4;
    good =
        good && std::has_single_bit(bar.size_bytes) && bar.size_bytes >= least;
    if (bar.kind == Bar::Kind::kIo) good = good && bar.size_bytes <= 256;
    if (bar.kind == Bar::Kind::kMemory32) {
      good = good && bar.size_bytes <= uint64_t{1} << 31;
    }
    if (bar.kind == Bar::Kind::kMemory64) {
      good = good && i < 5 && layout.bars[i + 1].kind == Bar::Kind::kNone;
    }
  }
  const MsixLayout& msix = layout.msix;
  if (msix.vectors != 0) {
    good = good && msix.table_bar < 6 && msix.pba_bar < 6 &&
           msix.table_offset % 8 == 0 && msix.pba_offset % 8 == 0 &&
           msix.table_offset + msix.vectors * kMsixEntryBytes <=
               layout.bars[msix.table_bar].size_bytes &&
           msix.pba_offset + 8 <= layout.bars[msix.pba_bar].size_bytes;
  }
  if (!good) std::abort();
}

uint64_t AllOnes(unsigned size_bytes) {
  return size_bytes >= 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * size_bytes)) - 1;
}

}  // namespace

Function::Function(ServiceContext& context, FunctionState& state,
                   const Layout& layout)
    : context_(context),
      state_(state),
      layout_(layout),
      config_(&state.config,
              layout.express ? kExpressConfigBytes : kConventionalConfigBytes) {
  CheckLayout(layout_);
  DefineHeader();
  DefineBars();
  if (layout_.power_management) DefinePowerManagement();
  if (layout_.msi_vectors != 0) DefineMsi();
  if (layout_.msix.vectors != 0) DefineMsix();
  if (layout_.express) DefineExpress();
}

// PCI §6.2.
void Function::DefineHeader() {
  bool has_io = false;
  bool has_memory = false;
  for (const Bar& bar : layout_.bars) {
    has_io |= bar.kind == Bar::Kind::kIo;
    has_memory |= IsMemory(bar);
  }
  uint16_t command =
      kCommandBusMaster | kCommandParityErrorResponse | kCommandSerrEnable;
  if (has_io) command |= kCommandIoSpace;
  if (has_memory) command |= kCommandMemorySpace;
  if (layout_.interrupt_pin != 0) command |= kCommandInterruptDisable;

  config_.Define16(kVendorId, layout_.vendor_id);
  config_.Define16(kDeviceId, layout_.device_id);
  config_.Define16(kCommand, 0, command);
  // DEVSEL timing is hardwired to 0 on PCI Express (PCIe §7.5.1.2).
  config_.Define16(kStatus, layout_.express ? 0 : kStatusDevselMedium, 0,
                   kStatusErrors);
  config_.DefineStatusBits32(kCommand, uint32_t{kStatusInterrupt} << 16);
  config_.Define32(kRevisionId,
                   uint32_t{layout_.revision} | (layout_.class_code << 8));
  config_.Define8(kCacheLineSize, 0, 0xff);
  config_.Define8(kLatencyTimer, 0, layout_.express ? 0 : 0xff);
  config_.Define8(kHeaderType, 0);
  config_.Define16(kSubsystemVendorId, layout_.subsystem_vendor_id);
  config_.Define16(kSubsystemId, layout_.subsystem_id);
  config_.Define8(kInterruptLine, 0, 0xff);
  config_.Define8(kInterruptPin, layout_.interrupt_pin);
  config_.Define8(kMinGrant, layout_.min_grant);
  config_.Define8(kMaxLatency, layout_.max_latency);
}

// PCI §6.2.5.1: software finds a BAR's size by writing ones; the bits below the
// size read as zero.
void Function::DefineBars() {
  for (size_t i = 0; i < layout_.bars.size(); ++i) {
    const Bar& bar = layout_.bars[i];
    const auto offset = static_cast<uint16_t>(kBar0 + 4 * i);
    const uint64_t mask = ~(bar.size_bytes - 1);
    const uint32_t prefetchable = bar.prefetchable ? kBarPrefetchable : 0;
    switch (bar.kind) {
      case Bar::Kind::kNone:
        break;
      case Bar::Kind::kIo:
        config_.Define32(offset, kBarIoSpace, static_cast<uint32_t>(mask));
        break;
      case Bar::Kind::kMemory32:
        config_.Define32(offset, prefetchable, static_cast<uint32_t>(mask));
        break;
      case Bar::Kind::kMemory64:
        config_.Define32(offset, kBarMemory64 | prefetchable,
                         static_cast<uint32_t>(mask));
        config_.Define32(static_cast<uint16_t>(offset + 4), 0,
                         static_cast<uint32_t>(mask >> 32));
        break;
    }
  }
}

// PM §3.2: D0 and D3hot, no PME. The state survives D3hot (No_Soft_Reset).
void Function::DefinePowerManagement() {
  pm_ = config_.AddCapability(kCapabilityPowerManagement, kPmBytes);
  config_.Define16(static_cast<uint16_t>(pm_ + kPmCapabilities), kPmVersion12);
  config_.Define16(static_cast<uint16_t>(pm_ + kPmControlStatus),
                   kPmNoSoftReset, kPmStateMask);
}

// PCI §6.8.1.
void Function::DefineMsi() {
  msi_ = config_.AddCapability(kCapabilityMsi, kMsiBytes);
  const unsigned log2_vectors =
      static_cast<unsigned>(std::countr_zero(layout_.msi_vectors));
  const auto vector_bits =
      static_cast<uint32_t>((uint64_t{1} << layout_.msi_vectors) - 1);
  const auto at = [this](uint16_t offset) {
    return static_cast<uint16_t>(msi_ + offset);
  };
  config_.Define16(at(kMsiControl),
                   static_cast<uint16_t>(kMsi64Bit | kMsiPerVectorMasking |
                                         log2_vectors << kMsiCapableShift),
                   kMsiEnable | kMsiEnabledMask);
  config_.Define32(at(kMsiAddress), 0, ~uint32_t{3});
  config_.Define32(at(kMsiUpperAddress), 0, ~uint32_t{0});
  config_.Define16(at(kMsiData), 0, 0xffff);
  config_.Define32(at(kMsiMask), 0, vector_bits);
  config_.DefineStatusBits32(at(kMsiPending), vector_bits);
}

// PCI §6.8.2.
void Function::DefineMsix() {
  const MsixLayout& msix = layout_.msix;
  msix_ = config_.AddCapability(kCapabilityMsix, kMsixBytes);
  config_.Define16(static_cast<uint16_t>(msix_ + kMsixControl),
                   static_cast<uint16_t>(msix.vectors - 1),
                   kMsixEnable | kMsixFunctionMask);
  config_.Define32(static_cast<uint16_t>(msix_ + kMsixTable),
                   msix.table_offset | msix.table_bar);
  config_.Define32(static_cast<uint16_t>(msix_ + kMsixPba),
                   msix.pba_offset | msix.pba_bar);
}

// PCIe §7.8: an endpoint on a link of one lane at 2.5 GT/s that has a
// function-level reset.
void Function::DefineExpress() {
  express_ = config_.AddCapability(kCapabilityExpress, kExpressBytes);
  const auto at = [this](uint16_t offset) {
    return static_cast<uint16_t>(express_ + offset);
  };
  const bool has_io = layout_.bars[0].kind == Bar::Kind::kIo;
  const uint16_t legacy_endpoint = has_io ? 1u << 4 : 0;  // PCIe §7.8.2
  config_.Define16(at(kExpressCapabilities),
                   static_cast<uint16_t>(kExpressVersion2 | legacy_endpoint));
  config_.Define32(at(kExpressDeviceCapabilities),
                   kExpressRoleBasedErrors | kExpressFunctionReset);
  // Enable bits, payload and read request sizes; bit 15 never reads as one.
  config_.Define16(at(kExpressDeviceControl), 0x2810, 0x78ff);
  config_.Define16(at(kExpressDeviceStatus), 0, 0, 0x000f);
  config_.Define32(at(kExpressLinkCapabilities), 0x0011);
  config_.Define16(at(kExpressLinkControl), 0, 0x00c0);
  config_.Define16(at(kExpressLinkStatus), 0x0011);
}

void Function::PowerOn() {
  state_ = {};
  config_.PowerOn();
  // PCI §6.8.2.9: every vector is masked after reset.
  for (unsigned i = 0; i < layout_.msix.vectors; ++i) {
    state_.msix_table[i * kMsixEntryBytes + kMsixVectorControl] = 1;
  }
  Update();
}

void Function::Reset() {
  ResetDevice();
  PowerOn();
}

void Function::Describe(DeviceDescription* description) const {
  for (uint32_t i = 0; i < layout_.bars.size(); ++i) {
    const Bar& bar = layout_.bars[i];
    if (bar.kind == Bar::Kind::kNone) continue;
    Region* region = description->add_regions();
    region->set_index(i);
    region->set_size_bytes(bar.size_bytes);
    region->set_readable(true);
    region->set_writable(true);
    region->set_io_space(bar.kind == Bar::Kind::kIo);
    region->set_is_64bit(bar.kind == Bar::Kind::kMemory64);
    region->set_prefetchable(bar.prefetchable);
  }
  Region* config = description->add_regions();
  config->set_index(kConfigRegion);
  config->set_size_bytes(config_.size_bytes());
  config->set_readable(true);
  config->set_writable(true);
  description->set_intx_pin(layout_.interrupt_pin);
  description->set_msi_vectors(layout_.msi_vectors);
  description->set_msix_vectors(layout_.msix.vectors);
}

uint64_t Function::ReadRegion(uint32_t region, uint64_t offset,
                              unsigned size_bytes) {
  if (region == kConfigRegion) {
    OnConfigRead(offset, size_bytes);
    return config_.Read(offset, size_bytes);
  }
  if (region >= layout_.bars.size() || !Decodes(region)) {
    return AllOnes(size_bytes);
  }
  if (InMsix(region, offset)) return ReadMsix(region, offset, size_bytes);
  return ReadBar(region, offset, size_bytes);
}

void Function::WriteRegion(uint32_t region, uint64_t offset,
                           unsigned size_bytes, uint64_t value) {
  if (region == kConfigRegion) {
    WriteConfig(offset, size_bytes, value);
  } else if (region >= layout_.bars.size() || !Decodes(region)) {
    return;
  } else if (InMsix(region, offset)) {
    WriteMsix(region, offset, size_bytes, value);
  } else {
    WriteBar(region, offset, size_bytes, value);
  }
}

// PCI §6.2.2, PM §5.4.1.
bool Function::Decodes(unsigned bar) const {
  if (!in_d0_) return false;
  const uint16_t command = config_.Get16(kCommand);
  switch (layout_.bars[bar].kind) {
    case Bar::Kind::kNone:
      return false;
    case Bar::Kind::kIo:
      return (command & kCommandIoSpace) != 0;
    default:
      return (command & kCommandMemorySpace) != 0;
  }
}

bool Function::InMsix(unsigned bar, uint64_t offset) const {
  const MsixLayout& msix = layout_.msix;
  if (msix.vectors == 0) return false;
  return (bar == msix.table_bar && offset >= msix.table_offset &&
          offset - msix.table_offset < msix.vectors * kMsixEntryBytes) ||
         (bar == msix.pba_bar && offset >= msix.pba_offset &&
          offset - msix.pba_offset < 8);
}

uint64_t Function::ReadMsix(unsigned bar, uint64_t offset,
                            unsigned size_bytes) const {
  const MsixLayout& msix = layout_.msix;
  uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const uint64_t at = offset + i;
    uint64_t byte = 0;
    if (bar == msix.table_bar && at >= msix.table_offset &&
        at - msix.table_offset < msix.vectors * kMsixEntryBytes) {
      byte = state_.msix_table[at - msix.table_offset];
    } else if (bar == msix.pba_bar && at >= msix.pba_offset &&
               at - msix.pba_offset < 8) {
      byte = (state_.msix_pending >> (8 * (at - msix.pba_offset))) & 0xff;
    }
    value |= byte << (8 * i);
  }
  return value;
}

// PCI §6.8.2.6 to .9: the address's low two bits are zero, of Vector Control
// bit 0 is writable, and the PBA is read-only.
void Function::WriteMsix(unsigned bar, uint64_t offset, unsigned size_bytes,
                         uint64_t value) {
  const MsixLayout& msix = layout_.msix;
  if (bar != msix.table_bar || offset < msix.table_offset) return;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const uint64_t at = offset + i - msix.table_offset;
    if (at >= msix.vectors * kMsixEntryBytes) return;
    const uint64_t in_entry = at % kMsixEntryBytes;
    const uint8_t writable = in_entry == 0                    ? 0xfc
                             : in_entry == kMsixVectorControl ? 0x01
                             : in_entry > kMsixVectorControl  ? 0x00
                                                              : 0xff;
    state_.msix_table[at] = static_cast<uint8_t>(value >> (8 * i)) & writable;
  }
}

void Function::WriteConfig(uint64_t offset, unsigned size_bytes,
                           uint64_t value) {
  const auto pm_control = static_cast<uint16_t>(pm_ + kPmControlStatus);
  const uint16_t power_before =
      pm_ == 0 ? kPmD0 : config_.Get16(pm_control) & kPmStateMask;
  config_.Write(offset, size_bytes, value);

  if (pm_ != 0) {
    // PM §3.2.4: a state that is not supported changes nothing.
    const uint16_t control = config_.Get16(pm_control);
    const uint16_t power = control & kPmStateMask;
    if (power != kPmD0 && power != kPmD3hot) {
      config_.Set16(pm_control, static_cast<uint16_t>(
                                    (control & ~kPmStateMask) | power_before));
    }
  }
  if (express_ != 0) {
    // PCIe §6.6.2: a function-level reset; the bit itself is never stored.
    const uint64_t high_byte = express_ + uint64_t{kExpressDeviceControl} + 1;
    if (offset <= high_byte && high_byte < offset + size_bytes &&
        (value >> (8 * (high_byte - offset)) & (kExpressInitiateReset >> 8)) !=
            0) {
      Reset();
      return;
    }
  }
  Update();
  OnConfigWrite(offset, size_bytes);
}

void Function::Update() {
  in_d0_ = pm_ == 0 ||
           (config_.Get16(static_cast<uint16_t>(pm_ + kPmControlStatus)) &
            kPmStateMask) == kPmD0;
  const uint16_t command = config_.Get16(kCommand);
  bus_master_ = in_d0_ && (command & kCommandBusMaster) != 0;
  msi_on_ =
      msi_ != 0 && (config_.Get16(static_cast<uint16_t>(msi_ + kMsiControl)) &
                    kMsiEnable) != 0;
  msix_on_ = msix_ != 0 &&
             (config_.Get16(static_cast<uint16_t>(msix_ + kMsixControl)) &
              kMsixEnable) != 0;

  // PCI §6.2.3: STATUS.3 shows the level whether or not COMMAND.10 lets it out.
  const bool asserted = state_.interrupt_asserted != 0;
  const uint16_t status = config_.Get16(kStatus);
  config_.Set16(kStatus,
                static_cast<uint16_t>(asserted ? status | kStatusInterrupt
                                               : status & ~kStatusInterrupt));
  context_.interrupts().SetIntxLevel(
      asserted && layout_.interrupt_pin != 0 && in_d0_ &&
      (command & kCommandInterruptDisable) == 0 && !msi_on_ && !msix_on_);
  DeliverPending();
}

void Function::SetInterrupt(bool asserted) {
  if (asserted == (state_.interrupt_asserted != 0)) return;
  state_.interrupt_asserted = asserted;
  Update();
}

void Function::TriggerMsi(uint32_t vector) {
  if (!msi_on_ || !bus_master_ || vector >= layout_.msi_vectors) return;
  const auto control = config_.Get16(static_cast<uint16_t>(msi_ + kMsiControl));
  // PCI §6.8.1.3: more than it has enables what it has; the device may use
  // only the messages enabled.
  const unsigned enabled_log2 = (control & kMsiEnabledMask) >> kMsiEnabledShift;
  vector &= (1u << enabled_log2) - 1;
  const uint32_t bit = 1u << vector;
  if ((config_.Get32(static_cast<uint16_t>(msi_ + kMsiMask)) & bit) != 0) {
    const auto pending = static_cast<uint16_t>(msi_ + kMsiPending);
    config_.Set32(pending, config_.Get32(pending) | bit);
    return;
  }
  context_.interrupts().TriggerMsi(vector);
}

bool Function::msix_passes() const {
  return msix_on_ && bus_master_ &&
         (config_.Get16(static_cast<uint16_t>(msix_ + kMsixControl)) &
          kMsixFunctionMask) == 0;
}

void Function::TriggerMsix(uint32_t vector) {
  if (!msix_on_ || !bus_master_ || vector >= layout_.msix.vectors) return;
  if (!msix_passes()) {
    state_.msix_pending |= uint64_t{1} << vector;
    return;
  }
  context_.interrupts().TriggerMsix(vector);
}

// PCI §6.8.3.5: what became pending while masked is sent when it is unmasked.
void Function::DeliverPending() {
  if (msi_on_ && bus_master_) {
    const auto at = static_cast<uint16_t>(msi_ + kMsiPending);
    const uint32_t pending = config_.Get32(at);
    uint32_t ready =
        pending & ~config_.Get32(static_cast<uint16_t>(msi_ + kMsiMask));
    if (ready != 0) config_.Set32(at, pending & ~ready);
    for (; ready != 0; ready &= ready - 1) {
      context_.interrupts().TriggerMsi(
          static_cast<uint32_t>(std::countr_zero(ready)));
    }
  }
  if (msix_passes()) {
    uint64_t ready = state_.msix_pending;
    state_.msix_pending = 0;
    for (; ready != 0; ready &= ready - 1) {
      context_.interrupts().TriggerMsix(
          static_cast<uint32_t>(std::countr_zero(ready)));
    }
  }
}

bool Function::DmaRead(GuestAddress address, void* to, size_t size_bytes) {
  return bus_master_ && context_.memory().Read(address, to, size_bytes);
}

bool Function::DmaWrite(GuestAddress address, const void* from,
                        size_t size_bytes) {
  return bus_master_ && context_.memory().Write(address, from, size_bytes);
}

bool Function::DmaTranslate(GuestAddress address, uint64_t size_bytes,
                            DmaDirection direction, iovec* segments,
                            size_t capacity, size_t* count) {
  return bus_master_ &&
         context_.memory().Translate(address, size_bytes, direction, segments,
                                     capacity, count);
}

bool Function::RestoreFunction(const FunctionState& saved) {
  if (saved.interrupt_asserted > 1) return false;
  const uint64_t vectors = layout_.msix.vectors;
  if (vectors < 64 && (saved.msix_pending >> vectors) != 0) return false;
  for (size_t i = 0; i < saved.msix_table.size(); ++i) {
    const size_t in_entry = i % kMsixEntryBytes;
    const uint8_t allowed = i >= vectors * kMsixEntryBytes   ? 0x00
                            : in_entry == 0                  ? 0xfc
                            : in_entry == kMsixVectorControl ? 0x01
                            : in_entry > kMsixVectorControl  ? 0x00
                                                             : 0xff;
    if ((saved.msix_table[i] & ~allowed & 0xff) != 0) return false;
  }
  if (pm_ != 0) {
    const int power = saved.config[pm_ + kPmControlStatus] & kPmStateMask;
    if (power != kPmD0 && power != kPmD3hot) return false;
  }
  if (!config_.Restore(saved.config)) return false;
  state_.msix_table = saved.msix_table;
  state_.msix_pending = saved.msix_pending;
  state_.interrupt_asserted = saved.interrupt_asserted;
  Update();
  return true;
}

}  // namespace bulkhead::pci
