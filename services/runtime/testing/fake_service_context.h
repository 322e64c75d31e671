// FakeServiceContext is the world of a device in a unit test: RAM of its own,
// identity mapped from address 0, interrupts that are recorded, a clock that
// stands until it is moved.
//
//   FakeServiceContext context(/*ram_mib=*/4);
//   MyDevice device(context);
//   device.WriteRegion(...);
//   device.Run(context.Now());
//   EXPECT_TRUE(context.fake_interrupts().intx_level());
//
// TRUST    For tests only.
// ERRORS   Fail prints its reason and aborts: test it with EXPECT_DEATH.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_RUNTIME_TESTING_FAKE_SERVICE_CONTEXT_H_
#define BULKHEAD_SERVICES_RUNTIME_TESTING_FAKE_SERVICE_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/runtime/service_context.h"

namespace bulkhead {

class FakeInterrupts : public Interrupts {
 public:
  void SetIntxLevel(bool asserted) override;
  bool MsiEnabled() const override { return msi_enabled_; }
  bool MsixEnabled() const override { return msix_enabled_; }
  void TriggerMsi(uint32_t vector) override { ++msi_[vector]; }
  void TriggerMsix(uint32_t vector) override { ++msix_[vector]; }
  bool TriggerMsixApart(uint32_t vector) override {
    TriggerMsix(vector);
    return true;
  }

  bool intx_level() const { return intx_level_; }
  // How often the level has risen.
  int intx_edges() const { return intx_edges_; }
  // How often the vector was triggered.
  int msi(uint32_t vector) const { return Count(msi_, vector); }
  int msix(uint32_t vector) const { return Count(msix_, vector); }

  void set_msi_enabled(bool enabled) { msi_enabled_ = enabled; }
  void set_msix_enabled(bool enabled) { msix_enabled_ = enabled; }

 private:
  using Counts = std::map<uint32_t, int>;
  static int Count(const Counts& counts, uint32_t vector);

  bool intx_level_ = false;
  int intx_edges_ = 0;
  bool msi_enabled_ = false;
  bool msix_enabled_ = false;
  Counts msi_;
  Counts msix_;
};

class FakeServiceContext : public ServiceContext {
 public:
  // Image bytes as a service has: kShadowBytes without the header.
  static constexpr size_t kShadowImageBytes = 64 * 1024 - 64;
  static constexpr size_t kDoorbellBytes = 4096;

  explicit FakeServiceContext(uint64_t ram_mib = 1);

  GuestMemory& memory() override { return memory_; }
  Interrupts& interrupts() override { return interrupts_; }
  absl::Span<uint8_t> shadow_image() override {
    return absl::MakeSpan(shadow_image_);
  }
  // One page for each index asked for.
  absl::Span<uint8_t> doorbell(size_t index) override {
    return absl::MakeSpan(
        doorbells_.try_emplace(index, kDoorbellBytes).first->second);
  }
  Nanoseconds Now() override { return now_ += tick_; }
  void Watch(int fd, unsigned /*group*/) override { watched_.push_back(fd); }
  void AddDisk(Growable* disk) override { disks_.push_back(disk); }
  void Log(absl::string_view line) override;
  [[noreturn]] void Fail(absl::string_view why) override;

  FakeInterrupts& fake_interrupts() { return interrupts_; }
  void Advance(Nanoseconds by) { now_ += by; }
  // From now on each look at the clock moves it: for code that waits.
  void set_tick(Nanoseconds tick) { tick_ = tick; }
  const std::vector<int>& watched() const { return watched_; }
  const std::vector<Growable*>& disks() const { return disks_; }
  const std::vector<std::string>& log() const { return log_; }

  // RAM as bytes, for tests' expectations. The range must be mapped.
  std::string ram(uint64_t address, size_t size_bytes) const;
  void set_ram(uint64_t address, absl::string_view bytes);

 private:
  GuestMemory memory_;
  FakeInterrupts interrupts_;
  std::vector<uint8_t> shadow_image_;
  std::map<size_t, std::vector<uint8_t>> doorbells_;
  Nanoseconds now_ = 1'000'000'000;
  Nanoseconds tick_ = 0;
  std::vector<int> watched_;
  std::vector<Growable*> disks_;
  std::vector<std::string> log_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_TESTING_FAKE_SERVICE_CONTEXT_H_
