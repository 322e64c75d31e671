// RecordingDevice stands before a device and writes down what a driver does to
// it, one line each, in the order in which the device sees it:
//
//   w REGION OFFSET SIZE VALUE    a store (hexadecimal, as all that follows)
//   r REGION OFFSET SIZE          a load
//   x                             a function reset
//   s                             the service goes to sleep
//
// and whatever its observer finds in guest memory before the device looks:
//
//   q QUEUE BYTES                 NVMe: a command of 64 bytes
//   c QUEUE TYPE SECTOR LENGTH[w],...   virtio-blk: a request and its data
//
// tests/trace/seeds makes inputs for the fuzz targets of it.
//
// TRUST    For tests: drivers are believed.
// ERRORS   None. What is lost is lost.
// THREADS  The service's loop.

#ifndef BULKHEAD_TESTS_TRACE_RECORDING_DEVICE_H_
#define BULKHEAD_TESTS_TRACE_RECORDING_DEVICE_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <utility>

#include "services/runtime/device.h"

namespace bulkhead::testing {

// Follows a driver through guest memory.
class DriverObserver {
 public:
  virtual ~DriverObserver() = default;
  // A store to a BAR, before the device has it.
  virtual void OnWrite(uint64_t offset, unsigned size_bytes,
                       uint64_t value) = 0;
  virtual void OnReset() = 0;
  // Writes down what is new in memory.
  virtual void Look() = 0;
};

class RecordingDevice final : public Device {
 public:
  // `trace` is the caller's. The registers that `observer` follows are in
  // region `observed`.
  RecordingDevice(std::unique_ptr<Device> device,
                  std::unique_ptr<DriverObserver> observer, uint32_t observed,
                  FILE* trace)
      : device_(std::move(device)),
        observer_(std::move(observer)),
        observed_(observed),
        trace_(trace) {}

  void Describe(DeviceDescription* description) const override {
    device_->Describe(description);
  }
  uint64_t ReadRegion(uint32_t region, uint64_t offset,
                      unsigned size_bytes) override {
    std::fprintf(trace_, "r %x %lx %x\n", region, offset, size_bytes);
    return device_->ReadRegion(region, offset, size_bytes);
  }
  void WriteRegion(uint32_t region, uint64_t offset, unsigned size_bytes,
                   uint64_t value) override {
    std::fprintf(trace_, "w %x %lx %x %lx\n", region, offset, size_bytes,
                 value);
    if (region == observed_) observer_->OnWrite(offset, size_bytes, value);
    device_->WriteRegion(region, offset, size_bytes, value);
  }
  void Reset() override {
    std::fprintf(trace_, "x\n");
    observer_->OnReset();
    device_->Reset();
  }
  Turn Run(Nanoseconds now) override {
    observer_->Look();
    return device_->Run(now);
  }
  bool PrepareToSleep() override {
    std::fprintf(trace_, "s\n");
    return device_->PrepareToSleep();
  }
  absl::Status Quiesce() override { return device_->Quiesce(); }
  void Resume() override { device_->Resume(); }
  absl::Span<const std::byte> State() const override {
    return device_->State();
  }
  bool LoadState(absl::Span<const std::byte> state) override {
    return device_->LoadState(state);
  }
  void ReportStatistics(Statistics* statistics) const override {
    device_->ReportStatistics(statistics);
  }

 private:
  const std::unique_ptr<Device> device_;
  const std::unique_ptr<DriverObserver> observer_;
  const uint32_t observed_;
  FILE* const trace_;
};

}  // namespace bulkhead::testing

#endif  // BULKHEAD_TESTS_TRACE_RECORDING_DEVICE_H_
