// Transport is virtio over PCI: a function with the virtio structures in its
// BARs, device status, feature negotiation, virtqueues, interrupts. A device
// derives from it and adds its requests.
//
//   class Device : public virtio::Transport {
//     unsigned Serve(unsigned index, virtio::Queue& queue, unsigned budget)
//         override;                      // Pop, start
//     bool Poll() override;              // completions: Complete(...)
//   };
//
// The turn: Poll, then Serve each queue that has work, within a budget, then
// one interrupt for each queue whose driver wants one. While the loop spins,
// the queues are looked at without any message, and drivers are told not to
// send any; before it sleeps, they are told to.
//
// Queues may be served in groups (queue_groups.h): queue i belongs to group
// i % groups. They run apart while the driver does nothing but put chains into
// queues and is interrupted by MSI-X; in all other states the loop serves them.
//
// Resets are complete when nothing is in flight: until then device_status (or
// queue_reset) keeps showing that the reset is under way (§2.4.2, §4.1.4.3.1).
//
// TRUST    Every register value, index and descriptor is the driver's. A driver
//          that breaks a queue's rules gets DEVICE_NEEDS_RESET and nothing else
//          is done until it resets (§2.1.2). Saved state may be hostile.
// ERRORS   None upward.
// THREADS  The service's loop; for a group's queues Serve, Poll, HasRoom,
//          Alive, Complete and Fail on the group's thread as well.
// SPEC     VIRTIO 1.2 §2, §3, §4.1.

#ifndef BULKHEAD_SERVICES_VIRTIO_TRANSPORT_H_
#define BULKHEAD_SERVICES_VIRTIO_TRANSPORT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/types/span.h"
#include "services/pci/function.h"
#include "services/runtime/interrupt_hold.h"
#include "services/runtime/queue_groups.h"
#include "services/virtio/queue.h"
#include "services/virtio/spec.h"

namespace bulkhead::virtio {

// One MSI-X vector for each queue and one for the configuration.
inline constexpr unsigned kMaxQueues = pci::kMaxMsixVectors - 1;

// Where the structures lie (§4.1.4 leaves it to the device).
inline constexpr unsigned kMsixBar = 1;
inline constexpr unsigned kStructuresBar = 4;
inline constexpr uint32_t kCommonAt = 0x0000;
inline constexpr uint32_t kIsrAt = 0x1000;
inline constexpr uint32_t kDeviceAt = 0x2000;
inline constexpr uint32_t kNotifyAt = 0x3000;
inline constexpr uint32_t kStructureBytes = 0x1000;
inline constexpr uint32_t kStructuresBarBytes = 0x4000;
inline constexpr uint32_t kNotifyMultiplier = 4;

struct DeviceKind {
  uint16_t device_type;  // §5
  uint32_t class_code;
  unsigned queues;           // at most kMaxQueues
  unsigned groups;           // at most kMaxQueueGroups, and one for each queue
  uint16_t queue_size;       // the largest; a power of two up to kMaxQueueSize
  uint64_t features;         // the device's own and those of rings it allows
  size_t config_size_bytes;  // of the device configuration
};

// All that the transport remembers.
struct TransportState {
  pci::FunctionState pci;
  std::array<QueueState, kMaxQueues> queues;
  uint64_t driver_features;
  uint32_t device_feature_select;
  uint32_t driver_feature_select;
  uint16_t queue_select;
  uint16_t config_vector;
  uint8_t status;
  uint8_t config_generation;
  uint8_t isr;
  uint8_t reserved;
};
static_assert(std::is_trivially_copyable_v<TransportState>);

class Transport : public pci::Function, private QueueGroups {
 public:
  Turn Run(Nanoseconds now) final;
  bool PrepareToSleep() final;
  QueueGroups* queue_groups() final {
    return kind_.groups > 1 ? this : nullptr;
  }
  absl::Status Quiesce() final;
  void Resume() final;
  void ReportStatistics(Statistics* statistics) const override;

 protected:
  // `state` lies in the derived class and is not constructed yet: its
  // constructor ends with PowerOn, as pci::Function's do, and Start.
  Transport(ServiceContext& context, TransportState& state,
            const DeviceKind& kind);
  // After PowerOn.
  void Start();

  // ---- the device's part

  // Takes at most `budget` chains; returns how many. It stops early when it has
  // no room for more. A chain that has no meaning at all (no place for a
  // status): Fail().
  virtual unsigned Serve(unsigned index, Queue& queue, unsigned budget) = 0;
  // Ends what is ready, with Complete, of one group. True when something was.
  virtual bool Poll(unsigned group) = 0;
  // Room for another chain of a group.
  virtual bool HasRoom(unsigned group) const = 0;
  // Requests that may still touch guest memory: of one queue, of a group, and
  // (the loop, at rest) of all.
  virtual size_t in_flight(unsigned index) const = 0;
  virtual size_t in_flight_of_group(unsigned group) const = 0;
  virtual size_t in_flight() const = 0;
  // Ends what has not begun because of limits: the device is reset.
  virtual void DropHeld() {}
  // Waits until in_flight() is 0, whatever it takes.
  virtual void Drain() = 0;
  // The device configuration structure (§2.5); the same length always.
  virtual absl::Span<const uint8_t> device_config() const = 0;
  virtual void WriteDeviceConfig(uint64_t /*offset*/, unsigned /*size_bytes*/,
                                 uint64_t /*value*/) {}
  // The loop, once in each turn: whether the device has something to do that
  // needs all groups at rest, and then the time to do it.
  virtual bool WantsRest() { return false; }
  virtual void AtRest() {}
  // Negotiated, or (0) the device is reset.
  virtual void FeaturesChanged(uint64_t /*features*/) {}

  // ---- what the device may use

  // A chain that Serve has taken is done. Of a queue that was reset since, or
  // of a device that has failed, nothing is written any more: `Alive` says so
  // before the device writes a status.
  bool Alive(unsigned index) const;
  void Complete(unsigned index, const Ticket& ticket, uint32_t written_bytes);
  // §2.1.2: the driver has done what it must not, in this queue. The device
  // needs a reset, all of it.
  void Fail(unsigned index);
  // §2.5: the device configuration has changed by itself.
  void ConfigChanged();
  uint64_t features() const;  // in force; 0 before FEATURES_OK
  unsigned queues() const { return kind_.queues; }
  unsigned group_of(unsigned index) const { return index % kind_.groups; }
  bool restored() const;

  // For Device::LoadState: as pci::Function::RestoreFunction.
  bool RestoreTransport(const TransportState& saved);

  uint64_t ReadBar(unsigned bar, uint64_t offset, unsigned size_bytes) final;
  void WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                uint64_t value) final;
  void ResetDevice() final;
  void OnConfigRead(uint64_t offset, unsigned size_bytes) final;
  void OnConfigWrite(uint64_t offset, unsigned size_bytes) final;

 private:
  struct QueueSlot {
    Queue queue;
    bool resetting = false;    // by queue_reset
    bool touched = false;      // pushed to since the last signal
    uint64_t begun = 0;        // chains taken, ever
    InterruptHold hold;        // of the signal
    bool failed = false;       // by Fail: the device is to be told
    bool unsignalled = false;  // its group could not interrupt
  };

  struct GroupCounters {
    uint64_t chains = 0;
    uint64_t interrupts = 0;
  };
  struct alignas(64) Group {
    bool asleep = false;     // drivers were asked for notifications
    bool attention = false;  // some slot has failed or is unsignalled
    unsigned first = 0;      // which of its queues is next
    GroupCounters counters;
  };

  void AddCapabilities();
  void AddCapability(uint8_t type, uint32_t offset, size_t cap_bytes);
  bool PciWindow(unsigned* bar, uint64_t* offset, unsigned* size_bytes) const;

  uint64_t ReadCommon(uint64_t offset, unsigned size_bytes);
  void WriteCommon(uint64_t offset, unsigned size_bytes, uint64_t value);
  void WriteQueueField(uint64_t offset, unsigned size_bytes, uint64_t value);
  void SetStatus(uint8_t value);
  void AcceptFeatures();
  bool EnableQueue(Queue& queue);
  void Notified(uint64_t offset, uint64_t value);
  uint8_t TakeIsr();

  // QueueGroups:
  unsigned groups() const final { return kind_.groups; }
  bool MayRunApart() const final;
  Turn RunGroup(unsigned group, Nanoseconds now) final;
  bool PrepareGroupToSleep(unsigned group) final;
  void Attend() final;
  int TakeDoorbell(uint32_t region, uint64_t offset, unsigned size_bytes,
                   uint64_t value) final;

  bool running() const;
  void ServeGroup(unsigned group, Turn* turn);
  // Tells drivers of what was pushed. `*deadline`: when to look again.
  void SignalGroup(unsigned group, Nanoseconds now, Nanoseconds* deadline);
  void FailDevice();
  QueueSlot* Selected();
  void BeginReset();
  void FinishResets();
  void ResetAll();
  // What was pushed is told of, if that is wanted.
  void Settle(QueueSlot& slot, unsigned group, bool wanted);
  void RaiseIsr(uint8_t bits);

  TransportState& state_;
  const DeviceKind kind_;
  const uint64_t offered_;
  uint16_t pci_access_ = 0;  // offset of the capability
  std::array<QueueSlot, kMaxQueues> slots_;
  bool resetting_ = false;
  bool any_resetting_ = false;
  bool quiesced_ = false;
  std::array<Group, kMaxQueueGroups> groups_;

  struct Counters {
    uint64_t notifications = 0;
    uint64_t bad_notifications = 0;
    uint64_t resets = 0;
    uint64_t failures = 0;
  };
  Counters counters_;
};

}  // namespace bulkhead::virtio

#endif  // BULKHEAD_SERVICES_VIRTIO_TRANSPORT_H_
