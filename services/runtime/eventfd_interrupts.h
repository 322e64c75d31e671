// EventfdInterrupts raises a device's interrupts by writing eventfds.
//
// While a frame is being applied, writes are held back until Flush: a driver
// that is interrupted must find the shadow page up to date (proto/shadow.h).
//
// TRUST    What an fd really is, the shim chose. A write that fails is counted;
//          the caller learns of it once per vector through TakeFailure.
// ERRORS   Assign: false when the vectors do not exist; nothing is changed.
// THREADS  The loop; TriggerMsixApart any, but not beside Assign or DisableAll.

#ifndef BULKHEAD_SERVICES_RUNTIME_EVENTFD_INTERRUPTS_H_
#define BULKHEAD_SERVICES_RUNTIME_EVENTFD_INTERRUPTS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "proto/frame.pb.h"
#include "proto/shadow.h"
#include "services/runtime/interrupts.h"

namespace bulkhead {

class EventfdInterrupts : public Interrupts {
 public:
  // `shadow` outlives this.
  explicit EventfdInterrupts(ShadowHeader& shadow) : shadow_(shadow) {}
  ~EventfdInterrupts() override;

  // Once, before any Assign: how many vectors the device has.
  void Configure(const DeviceDescription& description);

  // Interrupts:
  void SetIntxLevel(bool asserted) override;
  bool MsiEnabled() const override { return msi_.enabled > 0; }
  bool MsixEnabled() const override { return msix_.enabled > 0; }
  void TriggerMsi(uint32_t vector) override { Trigger(msi_, vector); }
  void TriggerMsix(uint32_t vector) override { Trigger(msix_, vector); }
  bool TriggerMsixApart(uint32_t vector) override;

  // Replaces the eventfds of vectors [first, first + count); fds[i] is -1 for a
  // disabled vector and otherwise becomes this object's.
  bool Assign(InterruptKind kind, uint32_t first, uint32_t count,
              const int* fds);
  bool DisableAll(InterruptKind kind);

  void HoldBack() { held_back_ = true; }
  void Flush();
  // A reset: what was held back is not sent.
  void DropPending();

  struct Failure {
    InterruptKind kind;
    uint32_t vector;
  };
  // The oldest vector whose write has failed and that was not reported yet.
  bool TakeFailure(Failure* failure);

  uint64_t raised() const { return raised_.load(std::memory_order_relaxed); }
  uint64_t failed() const { return failed_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kMaxVectors = 2048;

  struct Vectors {
    InterruptKind kind;
    std::vector<int> fds;
    uint32_t enabled = 0;
    bool any_pending = false;
    std::array<uint64_t, kMaxVectors / 64> pending = {};
    std::array<uint64_t, kMaxVectors / 64> reported = {};
  };

  Vectors* Find(InterruptKind kind);
  bool Signal(int fd);
  void Trigger(Vectors& vectors, uint32_t vector);
  void Raise(Vectors& vectors, uint32_t vector);
  void FlushKind(Vectors& vectors);

  ShadowHeader& shadow_;
  bool level_ = false;
  bool held_back_ = false;
  Vectors intx_{INTX, {}};
  Vectors msi_{MSI, {}};
  Vectors msix_{MSIX, {}};
  bool has_failure_ = false;
  Failure failure_ = {};
  std::atomic<uint64_t> raised_ = 0;
  std::atomic<uint64_t> failed_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_EVENTFD_INTERRUPTS_H_
