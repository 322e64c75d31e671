// Device sums bytes of guest memory: the smallest device that has all that a
// real one has. `tools/new_device NAME` copies this folder.
//
// TRUST    Registers and guest memory are the driver's. Memory is read through
//          DmaRead only, a bounded piece a turn.
// ERRORS   A range outside RAM sets STATUS.FAULT.
// THREADS  The service's loop.
// SPEC     services/example/README.md.

#ifndef BULKHEAD_SERVICES_EXAMPLE_DEVICE_H_
#define BULKHEAD_SERVICES_EXAMPLE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/types/span.h"
#include "services/pci/function.h"

namespace bulkhead::example {

class Device final : public pci::Function {
 public:
  explicit Device(ServiceContext& context);

  Turn Run(Nanoseconds now) override;
  // Nothing is ever in flight between turns.
  absl::Status Quiesce() override { return absl::OkStatus(); }
  void Resume() override {}
  absl::Span<const std::byte> State() const override;
  bool LoadState(absl::Span<const std::byte> state) override;
  void ReportStatistics(Statistics* statistics) const override;

 protected:
  uint64_t ReadBar(unsigned bar, uint64_t offset, unsigned size_bytes) override;
  void WriteBar(unsigned bar, uint64_t offset, unsigned size_bytes,
                uint64_t value) override;
  void ResetDevice() override;

 private:
  // All that the device remembers, one plain structure.
  struct SavedState {
    pci::FunctionState pci;
    uint64_t source;
    uint64_t next;  // of the sum under way
    uint32_t left;
    uint32_t length;
    uint32_t status;
    uint32_t sum;
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  void SetStatus(uint32_t status);

  SavedState state_ = {};
  uint64_t sums_ = 0;
  uint64_t faults_ = 0;
};

}  // namespace bulkhead::example

#endif  // BULKHEAD_SERVICES_EXAMPLE_DEVICE_H_
