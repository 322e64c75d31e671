// The chip as a PCI device: BARs, register access, resets, timers, shadows,
// saved state.

#include "services/lsi53c895a/controller.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "proto/frame.pb.h"
#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kDone = 0x77;
constexpr Nanoseconds kMillisecond = 1'000'000;

// ---- §4.1

TEST(ControllerTest, IsAn895AToPci) {
  Rig rig;
  const auto config = [&](uint64_t offset, unsigned bytes) {
    return rig.chip->ReadRegion(kConfigRegion, offset, bytes);
  };
  EXPECT_EQ(config(0x00, 4), 0x00121000u);
  EXPECT_EQ(config(0x09, 2) | config(0x0b, 1) << 16, 0x010000u);
  EXPECT_EQ(config(0x3d, 1), 1u);  // INTA#
  EXPECT_EQ(config(0x34, 1), 0x40u);
  EXPECT_EQ(config(0x40, 1), 0x01u);  // power management
  rig.WriteConfig(0x18, 4, ~0u);
  EXPECT_EQ(config(0x18, 4), 0xffffe000u);
}

TEST(ControllerTest, RegistersAnswerInBothBarsAndRepeatInTheMemoryBar) {
  Rig rig;
  rig.chip->WriteRegion(kIoBar, SCRATCHA, 4, 0x12345678);
  EXPECT_EQ(rig.Read32(SCRATCHA), 0x12345678u);
  EXPECT_EQ(rig.chip->ReadRegion(kMemoryBar, 0x300 + SCRATCHA, 2), 0x5678u);
}

TEST(ControllerTest, DescribesItsShadowedRegisters) {
  Rig rig;
  DeviceDescription description;
  rig.chip->Describe(&description);
  ASSERT_EQ(description.shadows_size(), 2);
  for (const ShadowRange& shadow : description.shadows()) {
    EXPECT_LE(shadow.offset(), ISTAT0);
    EXPECT_EQ(shadow.offset() % 8, 0u);
    EXPECT_EQ(shadow.size_bytes(), 8u);
  }
}

// Loads of ISTAT0 and DSA never need the service.
TEST(ControllerTest, ShadowFollowsStatusThroughAnInterrupt) {
  Rig rig;
  const auto shadow = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, rig.context.shadow_image().data() + at, 4);
    return value;
  };
  rig.Write32(DSA, 0xabcd0000);
  rig.Write8(MBOX1, 0x5a);
  EXPECT_EQ(shadow(0), 0xabcd0000u);
  EXPECT_EQ(shadow(4), 0x5a000000u);
  rig.Run(Assembler().IntFly().Int(1));
  EXPECT_EQ(shadow(4), 0x5a000000u | kIstat0Intf | kIstat0Dip);
  rig.Write8(ISTAT0, kIstat0Intf);
  rig.Read8(DSTAT);
  EXPECT_EQ(shadow(4), 0x5a000000u);
  EXPECT_EQ(rig.Read32(ISTAT0), shadow(4));
}

// ---- registers

TEST(RegisterTest, ReadOnlyAndReservedBytesDropWrites) {
  Rig rig;
  for (const uint8_t offset : {SFBR, SSID, SBCL, SSTAT1, CTEST1, SBC}) {
    const uint8_t before = rig.Read8(offset);
    rig.Write8(offset, static_cast<uint8_t>(~before));
    EXPECT_EQ(rig.Read8(offset), before) << int{offset};
  }
  rig.Write8(0xf0, 0xff);
  EXPECT_EQ(rig.Read8(0xf0), 0);
}

TEST(RegisterTest, ResetValuesAreTheManuals) {
  Rig rig;
  EXPECT_EQ(rig.Read8(SCNTL0), 0xc0);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe);
  EXPECT_EQ(rig.Read8(CTEST1), 0xf0);
  EXPECT_EQ(rig.Read8(STEST0), 0x03);
  EXPECT_EQ(rig.Read8(STEST4) & kStest4Lvd, kStest4Lvd);
  EXPECT_EQ(rig.Read32(ISTAT0), 0u);
}

TEST(RegisterTest, ScratchRegistersShowBarsWhileAsked) {
  Rig rig;
  rig.Write32(SCRATCHA, 1);
  rig.Write8(CTEST2, kCtest2Pcicie);
  EXPECT_EQ(rig.Read32(SCRATCHA), Rig::kMemoryBarAt);
  EXPECT_EQ(rig.Read32(SCRATCHB), Rig::kRamAt);
  rig.Write8(CTEST2, 0);
  EXPECT_EQ(rig.Read32(SCRATCHA), 1u);
}

TEST(RegisterTest, WideBitsClearByWritingOne) {
  Rig rig;
  rig.Run(Assembler().SelectWithAtn(FakeBus::kTarget, 0).Int(1));
  EXPECT_EQ(rig.Read8(SCNTL2), kScntl2Sdu);
  rig.Write8(SCNTL2, kScntl2Wsr);
  EXPECT_EQ(rig.Read8(SCNTL2), 0);
}

// ---- resets and abort

TEST(ResetTest, SoftwareResetRestoresRegistersAndKeepsRam) {
  Rig rig;
  rig.chip->WriteRegion(kScriptsRamBar, 0, 4, 0xfeedface);
  rig.Write32(SCRATCHA, 5);
  rig.Run(Assembler().WaitReselect(0));
  rig.Write8(ISTAT0, kIstat0Srst);
  EXPECT_EQ(rig.Read8(ISTAT1), 0);
  EXPECT_EQ(rig.Read32(SCRATCHA), 0u);
  EXPECT_EQ(rig.chip->ReadRegion(kScriptsRamBar, 0, 4), 0xfeedfaceu);
}

// What Linux does at start: RST for a while, with nothing else on the lines.
TEST(ResetTest, ScsiResetShowsOnTheBusAndEndsCommands) {
  Rig rig;
  Assembler program = rig.SendCommand(0x08, 1);
  program.Int(1);
  rig.Run(program);
  rig.Read8(DSTAT);
  ASSERT_EQ(rig.bus->tasks(), 1u);

  rig.Write8(SIEN0, kSistRst);
  rig.Write8(SCNTL1, kScntl1Rst);
  EXPECT_EQ(rig.Read8(SSTAT0) & kSstat0Rst, kSstat0Rst);
  EXPECT_EQ(rig.Read8(SBCL), 0);
  EXPECT_EQ(rig.Read16(SBDL), 0);
  EXPECT_EQ(rig.bus->log.back(), "BusReset");
  EXPECT_EQ(rig.bus->tasks(), 0u);
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());
  rig.Write8(SCNTL1, 0);
  EXPECT_EQ(rig.Read8(SSTAT0), 0);
  EXPECT_EQ(rig.Read16(SIST0), kSistRst);
}

TEST(ResetTest, AbortStopsAWaitingProgram) {
  Rig rig;
  rig.Run(Assembler().WaitReselect(0));
  rig.Write8(ISTAT0, kIstat0Abrt);
  EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, 0);
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Dip, kIstat0Dip);
  rig.Write8(ISTAT0, 0);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatAbrt);
}

TEST(ResetTest, PciResetLeavesNothingBehind) {
  Rig rig;
  Assembler program = rig.SendCommand(0x08, 1);
  program.Int(1);
  rig.Write8(DIEN, kDstatSir);
  rig.Run(program);
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());
  rig.chip->Reset();
  EXPECT_FALSE(rig.context.fake_interrupts().intx_level());
  EXPECT_EQ(rig.bus->tasks(), 0u);
  EXPECT_EQ(rig.Read8(ISTAT0), 0xff);  // COMMAND is clear: nothing decodes
}

// ---- timers

TEST(TimerTest, GeneralPurposeTimerExpiresOnce) {
  Rig rig;
  rig.Write8(STIME1, 4);  // 1 ms
  const Turn turn = rig.OneTurn();
  EXPECT_EQ(turn.deadline, rig.context.Now() + kMillisecond);
  rig.context.Advance(kMillisecond);
  EXPECT_EQ(rig.OneTurn().deadline, kNoDeadline);
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Sip, 0);  // masked: status only
  EXPECT_EQ(rig.Read16(SIST0), kSistGen);
}

TEST(TimerTest, EnabledGeneralTimerStopsTheProgram) {
  Rig rig;
  rig.Write8(SIEN1, kSistGen >> 8);
  rig.Run(Assembler().WaitReselect(0));
  rig.Write8(STIME1, 1);
  rig.context.Advance(kMillisecond);
  rig.OneTurn();
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());
  EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, 0);
}

TEST(TimerTest, HandshakeTimerWatchesAWaitingTarget) {
  Rig rig;
  rig.bus->busy = true;
  rig.Write8(STIME0, 0x40);
  rig.Write8(SIEN1, kSistHth >> 8);
  Assembler program = rig.SendCommand(0x08, 1);
  program.Move(Phase::kDataIn, 16, Rig::kBuffer);
  rig.Run(program);
  EXPECT_EQ(rig.OneTurn().deadline, rig.context.Now() + kMillisecond);
  rig.context.Advance(kMillisecond);
  rig.OneTurn();
  EXPECT_EQ(rig.Read16(SIST0), kSistHth);
}

// ---- saved state

std::vector<std::byte> Saved(const Rig& rig) {
  const absl::Span<const std::byte> state = rig.chip->State();
  return {state.begin(), state.end()};
}

TEST(StateTest, AProgramGoesOnInAnotherLife) {
  Rig rig;
  rig.RunOnChip(Assembler().WaitReselect(Rig::kRamAt + 8).Int(kDone));
  rig.Write32(SCRATCHA, 0x1234);

  Rig other;
  ASSERT_TRUE(other.chip->LoadState(Saved(rig)));
  EXPECT_EQ(other.Read32(SCRATCHA), 0x1234u);
  other.Write8(ISTAT0, kIstat0Sigp);
  other.Turns();
  EXPECT_EQ(other.Interrupted(), kDone);
}

TEST(StateTest, PendingInterruptIsRaisedAgain) {
  Rig rig;
  rig.Write8(DIEN, kDstatSir);
  rig.Run(Assembler().Int(kDone));
  Rig other;
  ASSERT_TRUE(other.chip->LoadState(Saved(rig)));
  EXPECT_TRUE(other.context.fake_interrupts().intx_level());
  EXPECT_EQ(other.Interrupted(), kDone);
}

// A disconnected command goes on with its targets' state.
TEST(StateTest, DisconnectedCommandComesBack) {
  Rig rig;
  rig.bus->busy = true;
  Assembler program = rig.SendCommand(0x08, 1, std::string("\xc0\x20\x07", 3));
  program.Move(Phase::kMessageIn, 1, Rig::kStatusAt)
      .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
      .Clear(kIoSetAck)
      .WaitDisconnect()
      .WaitReselect(0)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt)
      .Clear(kIoSetAck)
      .Move(Phase::kMessageIn, 2, Rig::kStatusAt)
      .Clear(kIoSetAck)
      .Move(Phase::kDataIn, 16, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);

  Rig other;
  other.Load(Rig::kScriptAt, program);
  ASSERT_TRUE(other.chip->LoadState(Saved(rig)));
  other.Turns();
  EXPECT_EQ(other.Interrupted(), kDone);
  EXPECT_EQ(other.ram(Rig::kBuffer, 16), Rig::Pattern(16));
}

TEST(StateTest, FullMessageBufferIsRefused) {
  ChipState state;
  EXPECT_TRUE(IsPlausible(state));
  state.connection.message_out_size = state.connection.message_out.size();
  EXPECT_FALSE(IsPlausible(state));
}

TEST(StateTest, HostileImagesAreRefusedOrHarmless) {
  Rig rig;
  Assembler program = rig.SendCommand(0x08, 1);
  program.Int(1);
  rig.Run(program);
  const std::vector<std::byte> good = Saved(rig);

  Rig other;
  EXPECT_FALSE(other.chip->LoadState({}));
  EXPECT_FALSE(other.chip->LoadState(absl::MakeConstSpan(good).subspan(1)));
  std::vector<std::byte> ones(good.size(), std::byte{0xff});
  EXPECT_FALSE(other.chip->LoadState(ones));
  for (size_t i = 0; i < good.size(); i += 149) {
    std::vector<std::byte> bad = good;
    bad[i] = std::byte{0xff};
    Rig victim;
    if (!victim.chip->LoadState(bad)) continue;
    victim.Write32(DSP, Rig::kScriptAt);
    victim.Turns(20);
    victim.chip->Reset();
  }
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
