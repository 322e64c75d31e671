#include "services/pci/function.h"

#include <cstring>
#include <map>
#include <utility>

#include "gtest/gtest.h"
#include "proto/frame.pb.h"
#include "services/runtime/testing/fake_service_context.h"

namespace bulkhead::pci {
namespace {

constexpr Layout kLayout = {
    .vendor_id = 0x1af4,
    .device_id = 0x1234,
    .revision = 3,
    .class_code = 0x010802,
    .subsystem_vendor_id = 0x1af4,
    .subsystem_id = 0x1100,
    .interrupt_pin = 1,
    .bars = {Bar{Bar::Kind::kIo, 256}, Bar{Bar::Kind::kMemory32, 1024},
             Bar{Bar::Kind::kMemory64, 8192, /*prefetchable=*/true}},
    .msi_vectors = 4,
    .msix = {.vectors = 5,
             .table_bar = 2,
             .table_offset = 0x1000,
             .pba_bar = 2,
             .pba_offset = 0x1800},
    .express = false,
};

class TestFunction : public Function {
 public:
  explicit TestFunction(ServiceContext& context, Layout layout = kLayout)
      : Function(context, state_, layout) {
    PowerOn();
  }

  uint64_t ReadBar(unsigned bar, uint64_t offset, unsigned) override {
    return bar << 16 | offset;
  }
  void WriteBar(unsigned bar, uint64_t offset, unsigned,
                uint64_t value) override {
    written[{bar, offset}] = value;
  }
  void ResetDevice() override { ++resets; }
  Turn Run(Nanoseconds) override { return {}; }
  absl::Status Quiesce() override { return absl::OkStatus(); }
  void Resume() override {}
  absl::Span<const std::byte> State() const override {
    return {reinterpret_cast<const std::byte*>(&state_), sizeof state_};
  }
  bool LoadState(absl::Span<const std::byte>) override { return false; }
  void ReportStatistics(Statistics*) const override {}

  using Function::DmaRead;
  using Function::DmaWrite;
  using Function::RestoreFunction;
  using Function::SetInterrupt;
  using Function::TriggerMsi;
  using Function::TriggerMsix;

  const FunctionState& state() const { return state_; }

  std::map<std::pair<unsigned, uint64_t>, uint64_t> written;
  int resets = 0;

 private:
  FunctionState state_ = {};
};

class FunctionTest : public testing::Test {
 protected:
  uint32_t Config(uint16_t offset, unsigned size_bytes = 4) {
    return static_cast<uint32_t>(
        function_.ReadRegion(kConfigRegion, offset, size_bytes));
  }
  void SetConfig(uint16_t offset, unsigned size_bytes, uint32_t value) {
    function_.WriteRegion(kConfigRegion, offset, size_bytes, value);
  }
  void EnableAll() {
    SetConfig(kCommand, 2,
              kCommandIoSpace | kCommandMemorySpace | kCommandBusMaster);
  }
  // The offset of a capability, found as software finds it (PCI §6.7).
  uint16_t Capability(uint8_t id) {
    auto at = static_cast<uint16_t>(Config(kCapabilitiesPointer, 1));
    for (int hops = 0; at != 0 && hops < 48; ++hops) {
      if (Config(at, 1) == id) return at;
      at = static_cast<uint16_t>(Config(static_cast<uint16_t>(at + 1), 1));
    }
    ADD_FAILURE() << "no capability " << int{id};
    return 0;
  }
  FakeInterrupts& interrupts() { return context_.fake_interrupts(); }

  FakeServiceContext context_;
  TestFunction function_{context_};
};

// PCI 3.0 §6.2.1.
TEST_F(FunctionTest, HeaderIdentifiesTheDevice) {
  EXPECT_EQ(Config(kVendorId), 0x12341af4u);
  EXPECT_EQ(Config(kRevisionId), 0x01080203u);
  EXPECT_EQ(Config(kSubsystemVendorId), 0x11001af4u);
  EXPECT_EQ(Config(kHeaderType, 1), 0u);
  EXPECT_EQ(Config(kInterruptPin, 1), 1u);
  SetConfig(kVendorId, 4, 0);
  EXPECT_EQ(Config(kVendorId), 0x12341af4u);
}

// PCI 3.0 §6.2.5.1: write all ones, read back the size.
TEST_F(FunctionTest, BarsReportTheirSizesAndTypes) {
  for (uint16_t i = 0; i < 6; ++i) {
    SetConfig(static_cast<uint16_t>(kBar0 + 4 * i), 4, 0xffffffff);
  }
  EXPECT_EQ(Config(kBar0), 0xffffff01u);
  EXPECT_EQ(Config(kBar0 + 4), 0xfffffc00u);
  EXPECT_EQ(Config(kBar0 + 8), 0xffffe00cu);   // 64-bit, prefetchable
  EXPECT_EQ(Config(kBar0 + 12), 0xffffffffu);  // its upper half
  EXPECT_EQ(Config(kBar0 + 16), 0u);
}

// PCI 3.0 §6.2.2: a function that does not decode leaves the bus at all ones.
TEST_F(FunctionTest, BarsAnswerOnlyWhenTheirSpaceIsEnabled) {
  EXPECT_EQ(function_.ReadRegion(1, 4, 4), 0xffffffffu);
  function_.WriteRegion(1, 4, 4, 5);
  EXPECT_TRUE(function_.written.empty());

  SetConfig(kCommand, 2, kCommandMemorySpace);
  EXPECT_EQ(function_.ReadRegion(1, 4, 4), 0x10004u);
  EXPECT_EQ(function_.ReadRegion(0, 4, 1), 0xffu);
  SetConfig(kCommand, 2, kCommandIoSpace);
  EXPECT_EQ(function_.ReadRegion(0, 4, 1), 4u);
  EXPECT_EQ(function_.ReadRegion(1, 4, 8), ~0ull);
}

// PCI 3.0 §6.2.2, COMMAND.2.
TEST_F(FunctionTest, DmaNeedsBusMaster) {
  char byte = 1;
  EXPECT_FALSE(function_.DmaRead({0}, &byte, 1));
  EXPECT_FALSE(function_.DmaWrite({0}, &byte, 1));
  EnableAll();
  EXPECT_TRUE(function_.DmaWrite({0}, &byte, 1));
  EXPECT_EQ(context_.ram(0, 1), "\x01");
}

// PCI 3.0 §6.2.2, §6.2.3: COMMAND.10 holds INTx back, STATUS.3 shows it still.
TEST_F(FunctionTest, InterruptDisableHoldsTheLineAndStatusShowsIt) {
  function_.SetInterrupt(true);
  EXPECT_TRUE(interrupts().intx_level());
  EXPECT_NE(Config(kStatus, 2) & kStatusInterrupt, 0u);

  SetConfig(kCommand, 2, kCommandInterruptDisable);
  EXPECT_FALSE(interrupts().intx_level());
  EXPECT_NE(Config(kStatus, 2) & kStatusInterrupt, 0u);

  SetConfig(kCommand, 2, 0);
  EXPECT_TRUE(interrupts().intx_level());
  function_.SetInterrupt(false);
  EXPECT_FALSE(interrupts().intx_level());
  EXPECT_EQ(Config(kStatus, 2) & kStatusInterrupt, 0u);
}

TEST_F(FunctionTest, StatusInterruptBitCannotBeWritten) {
  function_.SetInterrupt(true);
  SetConfig(kStatus, 2, 0xffff);
  EXPECT_NE(Config(kStatus, 2) & kStatusInterrupt, 0u);
}

// PCI 3.0 §6.8.1.3: with MSI on, a function does not use INTx.
TEST_F(FunctionTest, MsiReplacesIntx) {
  EnableAll();
  function_.SetInterrupt(true);
  const uint16_t msi = Capability(kCapabilityMsi);
  function_.TriggerMsi(0);
  EXPECT_EQ(interrupts().msi(0), 0);  // not on yet
  SetConfig(static_cast<uint16_t>(msi + kMsiControl), 2, kMsiEnable);
  EXPECT_FALSE(interrupts().intx_level());
  function_.TriggerMsi(0);
  EXPECT_EQ(interrupts().msi(0), 1);
}

// PCI 3.0 §6.8.1.3: four messages asked for, the system gives two.
TEST_F(FunctionTest, MsiFoldsVectorsOntoThoseEnabled) {
  EnableAll();
  const uint16_t msi = Capability(kCapabilityMsi);
  EXPECT_EQ(Config(static_cast<uint16_t>(msi + kMsiControl), 2),
            kMsi64Bit | kMsiPerVectorMasking | 2u << kMsiCapableShift);
  SetConfig(static_cast<uint16_t>(msi + kMsiControl), 2,
            kMsiEnable | 1u << kMsiEnabledShift);
  function_.TriggerMsi(3);
  EXPECT_EQ(interrupts().msi(1), 1);
  function_.TriggerMsi(4);  // the device has no such message
  EXPECT_EQ(interrupts().msi(0), 0);
}

// PCI 3.0 §6.8.3.5: masked messages become pending and are sent on unmasking.
TEST_F(FunctionTest, MaskedMsiIsSentOnceWhenUnmasked) {
  EnableAll();
  const uint16_t msi = Capability(kCapabilityMsi);
  SetConfig(static_cast<uint16_t>(msi + kMsiControl), 2, kMsiEnable);
  SetConfig(static_cast<uint16_t>(msi + kMsiMask), 4, 0xffffffff);
  EXPECT_EQ(Config(static_cast<uint16_t>(msi + kMsiMask)), 0xfu);
  function_.TriggerMsi(0);
  function_.TriggerMsi(0);
  EXPECT_EQ(interrupts().msi(0), 0);
  EXPECT_EQ(Config(static_cast<uint16_t>(msi + kMsiPending)), 1u);
  SetConfig(static_cast<uint16_t>(msi + kMsiMask), 4, 0);
  EXPECT_EQ(interrupts().msi(0), 1);
  EXPECT_EQ(Config(static_cast<uint16_t>(msi + kMsiPending)), 0u);
}

// An MSI is a memory write: it needs COMMAND.2 (PCI 3.0 §6.8.3).
TEST_F(FunctionTest, MessagesNeedBusMaster) {
  SetConfig(static_cast<uint16_t>(Capability(kCapabilityMsix) + kMsixControl),
            2, kMsixEnable);
  function_.TriggerMsix(0);
  EXPECT_EQ(interrupts().msix(0), 0);
  EnableAll();
  function_.TriggerMsix(0);
  EXPECT_EQ(interrupts().msix(0), 1);
}

// PCI 3.0 §6.8.2.3: the function mask holds all vectors back.
TEST_F(FunctionTest, MsixFunctionMaskMakesVectorsPending) {
  EnableAll();
  const auto control =
      static_cast<uint16_t>(Capability(kCapabilityMsix) + kMsixControl);
  EXPECT_EQ(Config(control, 2), 4u);  // table size minus one
  SetConfig(control, 2, kMsixEnable | kMsixFunctionMask);
  function_.TriggerMsix(3);
  EXPECT_EQ(interrupts().msix(3), 0);
  EXPECT_EQ(function_.ReadRegion(2, 0x1800, 8), 8u);
  SetConfig(control, 2, kMsixEnable);
  EXPECT_EQ(interrupts().msix(3), 1);
  EXPECT_EQ(function_.ReadRegion(2, 0x1800, 8), 0u);
  function_.TriggerMsix(5);  // beyond the table
  EXPECT_EQ(interrupts().msix(5), 0);
}

// PCI 3.0 §6.8.2.6-9: table entries are masked after reset; reserved bits are
// zero; the PBA is read-only; the rest of the BAR is the device's.
TEST_F(FunctionTest, MsixTableKeepsOnlyItsWritableBits) {
  EnableAll();
  EXPECT_EQ(function_.ReadRegion(2, 0x1000 + 4 * 16 + 12, 4), 1u);
  function_.WriteRegion(2, 0x1010, 8, ~0ull);
  EXPECT_EQ(function_.ReadRegion(2, 0x1010, 8), 0xfffffffffffffffcull);
  function_.WriteRegion(2, 0x101c, 4, 0xfffffffe);
  EXPECT_EQ(function_.ReadRegion(2, 0x101c, 4), 0u);
  function_.WriteRegion(2, 0x1800, 8, ~0ull);
  EXPECT_EQ(function_.ReadRegion(2, 0x1800, 8), 0u);
  EXPECT_TRUE(function_.written.empty());
  function_.WriteRegion(2, 0x1050, 4, 9);  // past the fifth entry
  EXPECT_EQ(function_.written.at({2, 0x1050}), 9u);
}

// PM 1.2 §3.2.4, §5.4.1: in D3hot only configuration space answers.
TEST_F(FunctionTest, D3hotStopsBarsDmaAndInterrupts) {
  EnableAll();
  function_.SetInterrupt(true);
  const auto control = static_cast<uint16_t>(
      Capability(kCapabilityPowerManagement) + kPmControlStatus);
  SetConfig(control, 2, 1);  // D1: not supported, ignored
  EXPECT_EQ(Config(control, 2) & kPmStateMask, kPmD0);
  SetConfig(control, 2, kPmD3hot);
  EXPECT_EQ(function_.ReadRegion(1, 0, 4), 0xffffffffu);
  EXPECT_FALSE(interrupts().intx_level());
  char byte;
  EXPECT_FALSE(function_.DmaRead({0}, &byte, 1));
  SetConfig(control, 2, kPmD0);
  EXPECT_EQ(function_.ReadRegion(1, 0, 4), 0x10000u);
  EXPECT_TRUE(interrupts().intx_level());
}

TEST_F(FunctionTest, ResetReturnsToPowerOnAndDropsTheLine) {
  EnableAll();
  SetConfig(kBar0 + 4, 4, 0xfebf0000);
  function_.SetInterrupt(true);
  function_.Reset();
  EXPECT_EQ(function_.resets, 1);
  EXPECT_EQ(Config(kCommand, 2), 0u);
  EXPECT_EQ(Config(kBar0 + 4), 0u);
  EXPECT_FALSE(interrupts().intx_level());
}

TEST_F(FunctionTest, DescriptionNamesBarsAndInterrupts) {
  DeviceDescription description;
  function_.Describe(&description);
  ASSERT_EQ(description.regions_size(), 4);
  EXPECT_TRUE(description.regions(0).io_space());
  EXPECT_EQ(description.regions(1).size_bytes(), 1024u);
  EXPECT_TRUE(description.regions(2).is_64bit());
  EXPECT_EQ(description.regions(3).index(), kConfigRegion);
  EXPECT_EQ(description.regions(3).size_bytes(), 256u);
  EXPECT_EQ(description.intx_pin(), 1u);
  EXPECT_EQ(description.msi_vectors(), 4u);
  EXPECT_EQ(description.msix_vectors(), 5u);
}

// PCIe 2.1 §6.6.2, §7.8.
TEST_F(FunctionTest, ExpressEndpointHasExtendedSpaceAndFunctionLevelReset) {
  Layout layout = kLayout;
  layout.bars[0] = {};
  layout.express = true;
  TestFunction express(context_, layout);
  EXPECT_EQ(express.ReadRegion(kConfigRegion, 0xffc, 4), 0u);
  uint64_t at = express.ReadRegion(kConfigRegion, kCapabilitiesPointer, 1);
  while (express.ReadRegion(kConfigRegion, at, 1) != kCapabilityExpress) {
    at = express.ReadRegion(kConfigRegion, at + 1, 1);
    ASSERT_NE(at, 0u);
  }
  EXPECT_NE(
      express.ReadRegion(kConfigRegion, at + kExpressDeviceCapabilities, 4) &
          kExpressFunctionReset,
      0u);
  express.WriteRegion(kConfigRegion, kInterruptLine, 1, 11);
  express.WriteRegion(kConfigRegion, at + kExpressDeviceControl, 2,
                      kExpressInitiateReset);
  EXPECT_EQ(express.resets, 1);
  EXPECT_EQ(express.ReadRegion(kConfigRegion, kInterruptLine, 1), 0u);
}

TEST_F(FunctionTest, SavedStateIsTakenOverAndRaisesTheLine) {
  EnableAll();
  SetConfig(kBar0 + 4, 4, 0xfebf0000);
  function_.SetInterrupt(true);
  const FunctionState saved = function_.state();

  FakeServiceContext other;
  TestFunction restored(other);
  ASSERT_TRUE(restored.RestoreFunction(saved));
  EXPECT_EQ(restored.ReadRegion(kConfigRegion, kBar0 + 4, 4), 0xfebf0000u);
  EXPECT_EQ(restored.ReadRegion(1, 0, 4), 0x10000u);
  EXPECT_TRUE(other.fake_interrupts().intx_level());
}

TEST_F(FunctionTest, HostileStateIsRefusedAndChangesNothing) {
  const FunctionState good = function_.state();
  FunctionState bad = good;
  bad.config[0] ^= 1;  // another vendor
  EXPECT_FALSE(function_.RestoreFunction(bad));
  bad = good;
  bad.interrupt_asserted = 2;
  EXPECT_FALSE(function_.RestoreFunction(bad));
  bad = good;
  bad.msix_pending = 1u << 5;
  EXPECT_FALSE(function_.RestoreFunction(bad));
  bad = good;
  bad.msix_table[kMsixVectorControl] = 2;
  EXPECT_FALSE(function_.RestoreFunction(bad));
  bad = good;
  bad.config[0x44] |= 1;  // D1
  EXPECT_FALSE(function_.RestoreFunction(bad));
  EXPECT_EQ(memcmp(&good, &function_.state(), sizeof good), 0);
}

}  // namespace
}  // namespace bulkhead::pci
