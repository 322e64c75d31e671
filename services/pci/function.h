// Function is a PCI function without the device: configuration space, BARs,
// INTx, MSI, MSI-X, power states, and DMA that obeys them. A device derives
// from it and adds its own registers.
//
//   class Lsi : public pci::Function {
//    public:
//     explicit Lsi(ServiceContext& context)
//         : Function(context, state_.pci, kLayout) { PowerOn(); }
//    protected:
//     uint64_t ReadBar(unsigned bar, uint64_t offset, unsigned bytes) override;
//     ...
//    private:
//     struct Saved { pci::FunctionState pci; ... } state_ = {};
//   };
//
// Masking as QEMU does it: QEMU traps the MSI-X table and keeps its own copy,
// so ours is only what a guest finds when it looks past QEMU. A vector that the
// guest has masked has no eventfd, or one that QEMU holds back. Delivery here
// therefore depends on the capabilities' enable and function-mask bits, which
// QEMU forwards, and never on a table entry.
//
// TRUST    Offsets and values are the guest's, checked by the server against
//          Describe. A FunctionState may be a hostile image: RestoreFunction.
// ERRORS   None. An access that the function does not decode (COMMAND, D3hot)
//          reads as ones and writes nothing, as a bus does without a target.
// THREADS  The loop.
// SPEC     PCI 3.0 §6, PM 1.2 §3 and §5, PCIe 2.1 §7.8.

#ifndef BULKHEAD_SERVICES_PCI_FUNCTION_H_
#define BULKHEAD_SERVICES_PCI_FUNCTION_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "services/pci/config_space.h"
#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead::pci {

inline constexpr unsigned kMaxMsixVectors = 64;

struct Bar {
  enum class Kind : uint8_t { kNone, kIo, kMemory32, kMemory64 };
  Kind kind = Kind::kNone;
  uint64_t size_bytes = 0;  // a power of two; I/O 4-256, memory at least 16
  bool prefetchable = false;
};

// Where the table and the pending bits lie. Both may share a BAR with the
// device's registers; the function answers for these ranges.
struct MsixLayout {
  unsigned vectors = 0;  // 0: no MSI-X; at most kMaxMsixVectors
  uint8_t table_bar = 0;
  uint32_t table_offset = 0;  // multiple of 8
  uint8_t pba_bar = 0;
  uint32_t pba_offset = 0;  // multiple of 8
};

struct Layout {
  uint16_t vendor_id = 0xffff;
  uint16_t device_id = 0xffff;
  uint8_t revision = 0;
  uint32_t class_code = 0;  // 24 bits: base class, subclass, interface
  uint16_t subsystem_vendor_id = 0;
  uint16_t subsystem_id = 0;
  uint8_t interrupt_pin = 0;  // 0 none, 1 INTA#
  uint8_t min_grant = 0;
  uint8_t max_latency = 0;
  std::array<Bar, 6> bars = {};
  bool power_management = true;  // the first capability, at 0x40
  unsigned msi_vectors = 0;      // 0: no MSI; else a power of two up to 32
  MsixLayout msix = {};
  bool express = false;  // an endpoint with 4096 bytes of configuration space
};

// Everything a function must remember; part of the device's own state.
struct FunctionState {
  ConfigBytes config;
  std::array<uint8_t, kMaxMsixVectors * kMsixEntryBytes> msix_table;
  uint64_t msix_pending;       // one bit per vector
  uint8_t interrupt_asserted;  // the device's level, whatever gates it
  std::array<uint8_t, 7> reserved;
};
static_assert(std::is_trivially_copyable_v<FunctionState>);
static_assert(std::is_standard_layout_v<FunctionState>);

class Function : public Device {
 public:
  // A derived class that has shadows or doorbells adds them.
  void Describe(DeviceDescription* description) const override;

  uint64_t ReadRegion(uint32_t region, uint64_t offset,
                      unsigned size_bytes) final;
  void WriteRegion(uint32_t region, uint64_t offset, unsigned size_bytes,
                   uint64_t value) final;
  // ResetDevice, then configuration space as after power-on.
  void Reset() final;

 protected:
  // Remembers `state` without touching it (it is not yet constructed), so a
  // derived constructor ends with PowerOn. A device with registers of its own
  // in configuration space defines them in config() before that.
  Function(ServiceContext& context, FunctionState& state, const Layout& layout);

  void PowerOn();

  // ---- the device's part

  virtual uint64_t ReadBar(unsigned bar, uint64_t offset,
                           unsigned size_bytes) = 0;
  virtual void WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                        uint64_t value) = 0;
  virtual void ResetDevice() = 0;
  // A guest is about to read configuration space: registers that are made when
  // they are looked at.
  virtual void OnConfigRead(uint64_t /*offset*/, unsigned /*size_bytes*/) {}
  // A guest has written configuration space; its effects here are done.
  virtual void OnConfigWrite(uint64_t /*offset*/, unsigned /*size_bytes*/) {}

  // ---- what the device may use

  ServiceContext& context() { return context_; }
  ConfigSpace& config() { return config_; }
  const ConfigSpace& config() const { return config_; }
  // In D0, with COMMAND.2: the device may be master of the bus.
  bool bus_master_enabled() const { return bus_master_; }

  // The function's interrupt line: STATUS.3, gated by COMMAND.10 and by MSI or
  // MSI-X being on (PCI §6.2.2, §6.8.1.3).
  void SetInterrupt(bool asserted);
  bool interrupt_asserted() const { return state_.interrupt_asserted != 0; }
  // What the guest has turned on. `vector` is the device's own number; with
  // fewer messages enabled than it has, MSI folds it (PCI §6.8.1.3).
  bool msi_enabled() const { return msi_on_; }
  bool msix_enabled() const { return msix_on_; }
  void TriggerMsi(uint32_t vector);
  void TriggerMsix(uint32_t vector);
  // Whether nothing but an eventfd is between TriggerMsix and the guest. The
  // thread of a queue group, which runs only while that is so, triggers by
  // itself then; as Interrupts::TriggerMsixApart.
  bool msix_passes() const;
  bool TriggerMsixApart(uint32_t vector) {
    return context_.interrupts().TriggerMsixApart(vector);
  }

  // Guest memory, as a bus master: false also when that is not enabled.
  bool DmaRead(GuestAddress address, void* to, size_t size_bytes);
  bool DmaWrite(GuestAddress address, const void* from, size_t size_bytes);
  bool DmaTranslate(GuestAddress address, uint64_t size_bytes,
                    DmaDirection direction, iovec* segments, size_t capacity,
                    size_t* count);

  // For Device::LoadState: takes over a saved FunctionState, or answers false
  // and changes nothing. The interrupt line follows.
  bool RestoreFunction(const FunctionState& saved);

 private:
  void DefineHeader();
  void DefineBars();
  void DefinePowerManagement();
  void DefineMsi();
  void DefineMsix();
  void DefineExpress();

  bool Decodes(unsigned bar) const;
  bool InMsix(unsigned bar, uint64_t offset) const;
  uint64_t ReadMsix(unsigned bar, uint64_t offset, unsigned size_bytes) const;
  void WriteMsix(unsigned bar, uint64_t offset, unsigned size_bytes,
                 uint64_t value);
  void WriteConfig(uint64_t offset, unsigned size_bytes, uint64_t value);
  // Recomputes what the registers gate, and delivers what they now allow.
  void Update();
  void DeliverPending();

  ServiceContext& context_;
  FunctionState& state_;
  const Layout layout_;
  ConfigSpace config_;
  uint16_t pm_ = 0;  // offsets of the capabilities; 0: none
  uint16_t msi_ = 0;
  uint16_t msix_ = 0;
  uint16_t express_ = 0;
  // Derived from the registers by Update.
  bool in_d0_ = true;
  bool bus_master_ = false;
  bool msi_on_ = false;
  bool msix_on_ = false;
};

}  // namespace bulkhead::pci

#endif  // BULKHEAD_SERVICES_PCI_FUNCTION_H_
