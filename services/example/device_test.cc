#include "services/example/device.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "services/example/spec.h"
#include "services/pci/spec.h"
#include "services/runtime/testing/fake_service_context.h"

namespace bulkhead::example {
namespace {

class DeviceTest : public ::testing::Test {
 protected:
  DeviceTest() { device_.WriteRegion(kConfigRegion, pci::kCommand, 2, 6); }

  void Sum(uint64_t address, uint64_t bytes) {
    device_.WriteRegion(kRegistersBar, kSource, 8, address);
    device_.WriteRegion(kRegistersBar, kLength, 4, bytes);
    device_.WriteRegion(kRegistersBar, kStart, 4, 1);
    while (device_.Run(context_.Now()).busy) ++turns_;
  }
  uint64_t Register(uint64_t offset) {
    return device_.ReadRegion(kRegistersBar, offset, 4);
  }

  FakeServiceContext context_{/*ram_mib=*/1};
  Device device_{context_};
  int turns_ = 0;
};

TEST_F(DeviceTest, BytesAreSummedAndTheDriverIsInterrupted) {
  context_.set_ram(0x1000, std::string(3, '\x05'));
  Sum(0x1000, 3);
  EXPECT_EQ(Register(kSum), 15u);
  EXPECT_EQ(Register(kStatus), kStatusDone);
  EXPECT_TRUE(context_.fake_interrupts().intx_level());
  device_.WriteRegion(kRegistersBar, kStatus, 4, kStatusDone);
  EXPECT_FALSE(context_.fake_interrupts().intx_level());
}

TEST_F(DeviceTest, LongRequestTakesSeveralTurns) {
  Sum(0, 1 << 20);
  EXPECT_GT(turns_, 4);
  EXPECT_EQ(Register(kStatus), kStatusDone);
}

TEST_F(DeviceTest, RangeOutsideRamIsAFaultOfTheDriver) {
  for (const uint64_t address :
       {uint64_t{1} << 20, (uint64_t{1} << 20) - 1, ~uint64_t{0} - 1}) {
    Sum(address, 2);
    EXPECT_EQ(Register(kStatus), kStatusFault) << address;
    device_.WriteRegion(kRegistersBar, kStatus, 4, ~0u);
  }
}

TEST_F(DeviceTest, ResetAndSavedStateKeepNothingThatIsNotTheirs) {
  Sum(0, 16);
  const auto state = device_.State();
  const std::vector<std::byte> saved(state.begin(), state.end());
  device_.Reset();
  EXPECT_EQ(Register(kStatus), ~uint32_t{0}) << "memory space is off again";
  ASSERT_TRUE(device_.LoadState(saved));
  EXPECT_EQ(Register(kStatus), kStatusDone);
  EXPECT_FALSE(device_.LoadState(absl::MakeConstSpan(saved).subspan(1)));
}

}  // namespace
}  // namespace bulkhead::example
