// Controller is an NVMe controller as a PCI device: its registers, and the turn
// that moves commands from queues to backends and back.
//
// With several queue groups (services/runtime/queue_groups.h) each has slots, a
// log and backends of its own. They run apart while the controller is ready and
// MSI-X is on; admin commands, like registers, are carried out at rest.
//
// TRUST    Register values are the guest's; a saved state may be hostile.
// ERRORS   None upward: statuses, CSTS.CFS and events tell the host. A backend
//          that does not come to an end at a PCI reset ends the service.
// THREADS  The service's loop; RunGroup and PrepareGroupToSleep the group's.
// SPEC     NVMe 1.4 §3.1, §7.3 (resets), §7.6 (initialisation, shutdown).

#ifndef BULKHEAD_SERVICES_NVME_CONTROLLER_H_
#define BULKHEAD_SERVICES_NVME_CONTROLLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

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

class Controller : public pci::Function, private QueueGroups {
 public:
  static constexpr uint64_t kBarBytes = 0x4000;
  static constexpr uint64_t kMsixTable = 0x2000;
  static constexpr uint64_t kMsixPending = 0x3000;
  static constexpr unsigned kMsiVectors = 32;

  Controller(ServiceContext& context, Subsystem subsystem);

  void Describe(DeviceDescription* description) const override;
  Turn Run(Nanoseconds now) override;
  bool PrepareToSleep() override;
  QueueGroups* queue_groups() override {
    return group_count_ > 1 ? this : nullptr;
  }
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
    ControllerState controller;
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  // What a queue group has to itself. The first one's log is the controller's.
  struct alignas(64) Group {
    Group(unsigned index, Subsystem& subsystem, Queues& queues,
          const FeatureState& features, Logs* shared, Dma& dma)
        : own_logs(log_state, features),
          io(index, subsystem, queues, shared != nullptr ? *shared : own_logs,
             dma) {}
    LogState log_state;
    Logs own_logs;
    IoCommands io;
    Vectors unsignalled;  // for the loop to trigger
    uint64_t interrupts = 0;
  };

  // QueueGroups:
  unsigned groups() const override { return group_count_; }
  bool MayRunApart() const override;
  Turn RunGroup(unsigned group, Nanoseconds now) override;
  bool PrepareGroupToSleep(unsigned group) override;
  void Attend() override;
  int TakeDoorbell(uint32_t region, uint64_t offset, unsigned size_bytes,
                   uint64_t value) override;

  RegisterState& registers() { return state_.controller.registers; }
  // A register's 32 bits; 0 where there is none.
  uint32_t Register(uint64_t offset) const;
  void WriteRegister(uint64_t offset, uint32_t value);
  void WriteConfiguration(uint32_t value);
  // Stores the shadowed registers anew.
  void Publish();

  void FollowBusMaster();
  void Enable();
  void StartReset();
  void DropHeld();
  void FinishReset();
  void StartShutdown();
  void FlushNext();
  // Tells the host of namespaces that have grown.
  bool SomeHaveGrown() const;
  void FollowBackends();
  bool WantsAttention();
  void FailIfFatal();
  // Commands and completions of one group, of the admin queue if `admin`.
  void ServeGroup(unsigned group, bool admin, Nanoseconds now, Turn* turn);
  void OrphanAll();
  unsigned CommandsInFlight() const;
  // What waits for backends to fall silent.
  void Settle();
  bool Running() const;
  bool FetchNext(unsigned group, bool admin, bool look_again, Command* command,
                 uint16_t* sq_id);
  bool Fetch(unsigned group, bool admin, Nanoseconds now);
  // `at_rest`: with what other groups have left.
  void DeliverInterrupts(Nanoseconds now, bool at_rest, Nanoseconds* deadline);
  uint32_t UsableVectors() const;
  void WaitUntilIdle();
  static std::vector<std::unique_ptr<Group>> MakeGroups(
      Subsystem& subsystem, Queues& queues, const FeatureState& features,
      Logs& logs, Dma& dma);

  SavedState state_ = {};
  Subsystem subsystem_;
  Dma dma_;
  Logs logs_;
  Features features_;
  const unsigned group_count_;
  Queues queues_;
  const std::vector<std::unique_ptr<Group>> groups_;
  AdminCommands admin_;

  // A controller reset waits for requests in backends.
  bool resetting_ = false;
  // Shutdown flushes one namespace after the other.
  bool flushing_ = false;
  bool flush_in_flight_ = false;
  size_t flush_next_ = 0;
  block::Request flush_;
  Vectors masked_msi_;  // raised while INTMS masks them
  uint64_t fatal_errors_ = 0;
  uint64_t doorbells_ = 0;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_CONTROLLER_H_
