// Controller is the LSI53C895A as a PCI device: its three BARs, the parts of
// the chip behind them, and the turn that drives them.
//
// TRUST    Register values, programs and on-chip RAM are the guest's. A saved
//          state may be hostile: LoadState.
// ERRORS   None upward: the chip's own interrupts tell a driver.
// THREADS  The service's loop.
// SPEC     LSI53C895A technical manual; PCI identity in §4.1.

#ifndef BULKHEAD_SERVICES_LSI53C895A_CONTROLLER_H_
#define BULKHEAD_SERVICES_LSI53C895A_CONTROLLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "services/block/backend.h"
#include "services/lsi53c895a/dma.h"
#include "services/lsi53c895a/interrupts.h"
#include "services/lsi53c895a/nexus.h"
#include "services/lsi53c895a/registers.h"
#include "services/lsi53c895a/scripts.h"
#include "services/lsi53c895a/state.h"
#include "services/lsi53c895a/timers.h"
#include "services/pci/function.h"
#include "services/runtime/interrupt_hold.h"
#include "services/scsi/state.h"
#include "services/scsi/target.h"

namespace bulkhead::lsi53c895a {

class Controller : public pci::Function {
 public:
  using Backends = std::vector<std::unique_ptr<block::Backend>>;

  // `backends` are those of the bus's units, kept for as long as it lives.
  Controller(ServiceContext& context, std::unique_ptr<scsi::Bus> bus,
             Backends backends = {});

  void Describe(DeviceDescription* description) const override;
  Turn Run(Nanoseconds now) override;
  absl::Status Quiesce() override;
  void Resume() override;
  absl::Span<const std::byte> State() const override;
  bool LoadState(absl::Span<const std::byte> state) override;
  void ReportStatistics(Statistics* statistics) const override;

 protected:
  uint64_t ReadBar(unsigned bar, uint64_t offset, unsigned size_bytes) override;
  void WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                uint64_t value) override;
  void ResetDevice() override;
  void OnConfigWrite(uint64_t offset, unsigned size_bytes) override;

 private:
  struct SavedState {
    pci::FunctionState pci;
    ChipState chip;
    scsi::BusState bus;  // as of the last State()
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  void Apply(Effects effects);
  void ResetChip();
  void FollowBars();
  // Interrupt level and shadowed registers, after whatever may change them.
  void Publish();
  // Whether the program only spins: no command, byte or interrupt for long.
  bool Spins();

  mutable SavedState state_ = {};
  const Backends backends_;
  std::unique_ptr<scsi::Bus> bus_;
  InterruptLogic interrupts_;
  Dma dma_;
  Nexus nexus_;
  Registers registers_;
  Scripts scripts_;
  Timers timers_;

  InterruptHold hold_;  // of INTFLY, by which drivers announce what is done
  uint64_t progress_ = 0;
  unsigned idle_slices_ = 0;
  uint64_t interrupts_raised_ = 0;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_CONTROLLER_H_
