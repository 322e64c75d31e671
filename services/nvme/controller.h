// Controller is an NVMe controller as a PCI device: its registers, and the turn
// that moves commands from queues to backends and back.
//
// TRUST    Register values are the guest's; a saved state may be hostile.
// ERRORS   None upward: statuses, CSTS.CFS and events tell the host. A backend
//          that does not come to an end at a PCI reset ends the service.
// THREADS  The service's loop.
// SPEC     NVMe 1.4 §3.1, §7.3 (resets), §7.6 (initialisation, shutdown).

#ifndef BULKHEAD_SERVICES_NVME_CONTROLLER_H_
#define BULKHEAD_SERVICES_NVME_CONTROLLER_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/types/span.h"
#include "services/nvme/admin_commands.h"
#include "services/nvme/dma.h"
#include "services/nvme/features.h"
#include "services/nvme/io_commands.h"
#include "services/nvme/logs.h"
#include "services/nvme/namespace.h"
#include "services/nvme/queues.h"
#include "services/nvme/state.h"
#include "services/pci/function.h"

namespace bulkhead::nvme {

class Controller : public pci::Function {
 public:
  static constexpr uint64_t kBarBytes = 0x4000;
  static constexpr uint64_t kMsixTable = 0x2000;
  static constexpr uint64_t kMsixPending = 0x3000;

  Controller(ServiceContext& context, Subsystem subsystem);

  void Describe(DeviceDescription* description) const override;
  Turn Run(Nanoseconds now) override;
  bool PrepareToSleep() override;
  void Quiesce() override;
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
    ControllerState controller;
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  RegisterState& registers() { return state_.controller.registers; }
  // A register's 32 bits; 0 where there is none.
  uint32_t Register(uint64_t offset) const;
  void WriteRegister(uint64_t offset, uint32_t value);
  void WriteConfiguration(uint32_t value);
  // Stores the shadowed registers anew.
  void Publish();

  void Enable();
  void StartReset();
  void DropHeld();
  void FinishReset();
  void StartShutdown();
  void FlushNext();
  // Tells the host of namespaces that have grown.
  void FollowBackends();
  // What waits for backends to fall silent.
  void Settle();
  bool Running() const;
  bool Fetch();
  void DeliverInterrupts(Nanoseconds now, Nanoseconds* deadline);
  uint32_t UsableVectors() const;
  void WaitUntilIdle();

  SavedState state_ = {};
  Subsystem subsystem_;
  Dma dma_;
  Logs logs_;
  Features features_;
  Queues queues_;
  IoCommands io_;
  AdminCommands admin_;

  // A controller reset waits for requests in backends.
  bool resetting_ = false;
  // Shutdown flushes one namespace after the other.
  bool flushing_ = false;
  bool flush_in_flight_ = false;
  size_t flush_next_ = 0;
  block::Request flush_;
  Vectors masked_msi_;  // raised while INTMS masks them
  uint64_t interrupts_ = 0;
  uint64_t fatal_errors_ = 0;
  uint64_t doorbells_ = 0;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_CONTROLLER_H_
