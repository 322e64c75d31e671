// ToyDevice is a device with one register for each thing that the runtime must
// do, to test the runtime with.
//
// TRUST    For tests only; still, nothing that a guest writes can break it.
// ERRORS   As Device says.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_TESTING_TOY_DEVICE_H_
#define BULKHEAD_SERVICES_RUNTIME_TESTING_TOY_DEVICE_H_

#include <cstddef>
#include <cstdint>

#include "services/runtime/device.h"
#include "services/runtime/service_context.h"

namespace bulkhead {

class ToyDevice : public Device {
 public:
  // Registers of region 1, eight bytes each.
  static constexpr uint64_t kScratch = 0x00;  // read, write, shadowed
  static constexpr uint64_t kIntx = 0x08;     // write: the level
  static constexpr uint64_t kStores = 0x10;   // read, shadowed: stores so far
  static constexpr uint64_t kCopyTo = 0x18;   // write: kScratch to RAM there
  static constexpr uint64_t kFaults = 0x20;   // read: copies that failed
  static constexpr uint64_t kMsix = 0x28;     // write: trigger the vector
  static constexpr uint64_t kTimer = 0x30;    // write: MSI-X 1 after so many ns
  static constexpr uint64_t kWork = 0x38;     // write: so many busy turns
  static constexpr uint64_t kRang = 0x40;  // read: doorbell's value last seen
  static constexpr uint64_t kFail = 0x48;  // write: ServiceContext::Fail
  static constexpr uint64_t kRegionBytes = 0x50;
  static constexpr uint32_t kRegisters = 1;
  static constexpr uint32_t kReadOnlyRegion = 2;  // 16 bytes, reads as 0x5a
  static constexpr uint32_t kDoorbellRegion = 3;
  static constexpr uint64_t kDoorbellOffset = 4096;
  static constexpr uint32_t kMsixVectors = 100;

  explicit ToyDevice(ServiceContext& context);

  void Describe(DeviceDescription* description) const override;
  uint64_t ReadRegion(uint32_t region, uint64_t offset,
                      unsigned size_bytes) override;
  void WriteRegion(uint32_t region, uint64_t offset, unsigned size_bytes,
                   uint64_t value) override;
  void Reset() override;
  Turn Run(Nanoseconds now) override;
  absl::Status Quiesce() override {
    ++quiesces_;
    return absl::OkStatus();
  }
  void Resume() override { ++resumes_; }
  absl::Span<const std::byte> State() const override;
  bool LoadState(absl::Span<const std::byte> state) override;
  void ReportStatistics(Statistics* statistics) const override;

 private:
  struct Saved {
    uint64_t scratch = 0;
    uint64_t stores = 0;
    uint64_t faults = 0;
    uint64_t rang = 0;
    uint64_t level = 0;  // 0 or 1
  };

  void Publish();

  ServiceContext& context_;
  Saved state_;
  Nanoseconds timer_ = kNoDeadline;
  uint64_t busy_turns_ = 0;
  uint64_t quiesces_ = 0;
  uint64_t resumes_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_TESTING_TOY_DEVICE_H_
