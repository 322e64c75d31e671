// The instruction set apart from block moves (§5.4 to §5.8).

#include "services/lsi53c895a/scripts.h"

#include <gtest/gtest.h>

#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kYes = 0x11;
constexpr uint32_t kNo = 0x22;

// ---- §5.6 Transfer control

TEST(TransferControlTest, InterruptStopsWithItsOperandInDsps) {
  Rig rig;
  rig.Run(Assembler().Int(0xcafe));
  EXPECT_EQ(rig.Interrupted(), 0xcafeu);
  EXPECT_EQ(rig.Read32(DSP), Rig::kScriptAt + 8);
}

TEST(TransferControlTest, JumpCallAndReturnFollowDspAndTemp) {
  Rig rig;
  Assembler routine;
  routine.ReadModifyWrite(Operator::kLoad, SCRATCHA, 0x5a).Return();
  rig.Load(0x18000, routine);
  rig.Run(Assembler().Call(0x18000).JumpRelative(8).Int(kNo).Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read8(SCRATCHA), 0x5a);
  EXPECT_EQ(rig.Read32(TEMP), Rig::kScriptAt + 8);
}

TEST(TransferControlTest, RelativeJumpGoesBackwards) {
  Rig rig;
  rig.Run(Assembler().Jump(Rig::kScriptAt + 16).Int(kYes).JumpRelative(-16));
  EXPECT_EQ(rig.Interrupted(), kYes);
}

TEST(TransferControlTest, JumpWithoutConditionAndTrueBitIsNoOperation) {
  Rig rig;
  rig.Run(Assembler().Jump(0, kIfFalse).Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
}

TEST(TransferControlTest, DataCompareIgnoresMaskedBits) {
  Rig rig;
  rig.Run(Assembler()
              .ToSfbr(Operator::kLoad, 0, 0x83)
              .Int(kNo, kIfTrue | Data(0x80))
              .Int(kNo, kIfFalse | Data(0x80, 0x0f))
              .Int(kYes, kIfTrue | Data(0x80, 0x0f)));
  EXPECT_EQ(rig.Interrupted(), kYes);
}

TEST(TransferControlTest, CarryConditionSeesSetAndClear) {
  Rig rig;
  rig.Run(Assembler()
              .Set(kIoSetCarry)
              .Int(kNo, kIfFalse | kTransferCarry)
              .Clear(kIoSetCarry)
              .Int(kNo, kIfTrue | kTransferCarry)
              .Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
}

// Both compares must be false for a branch on false.
TEST(TransferControlTest, MixedCompareResultsTakeNeitherBranch) {
  Rig rig;
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .ToSfbr(Operator::kLoad, 0, 0x01)
              .Int(kNo, kIfTrue | When(Phase::kMessageOut) | Data(0x02))
              .Int(kNo, kIfFalse | When(Phase::kMessageOut) | Data(0x02))
              .Int(kYes, kIfTrue | When(Phase::kMessageOut) | Data(0x01)));
  EXPECT_EQ(rig.Interrupted(), kYes);
}

TEST(TransferControlTest, Jump64LoadsTheFetchSelector) {
  Rig rig;
  rig.Load(0x18000, Assembler().Int(kYes));
  Assembler program;
  program.Jump(0x18000, kIfTrue | kTransfer64).Word(0);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kYes);

  Assembler beyond;
  beyond.Jump(0x18000, kIfTrue | kTransfer64).Word(7);
  rig.Run(beyond);
  EXPECT_EQ(rig.Read32(SFS), 7u);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
}

TEST(TransferControlTest, InterruptOnTheFlyRaisesThePinAndRunsOn) {
  Rig rig;
  rig.Run(Assembler().IntFly().Int(kYes));
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Intf, kIstat0Intf);
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());
  rig.Write8(ISTAT0, kIstat0Intf);
  EXPECT_FALSE(rig.context.fake_interrupts().intx_level());
  EXPECT_EQ(rig.Interrupted(), kYes);
}

TEST(TransferControlTest, ReservedOpcodeIsIllegal) {
  Rig rig;
  rig.Run(Assembler().Raw(0xa0080000, 0));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

// ---- §5.5 Read/write

struct OperatorCase {
  Operator op;
  bool carry_in;
  uint8_t value, data, result;
  bool carry_out;
};

class OperatorTest : public testing::TestWithParam<OperatorCase> {};

TEST_P(OperatorTest, ResultAndCarryAreAsTable53) {
  const OperatorCase& c = GetParam();
  Rig rig;
  Assembler program;
  if (c.carry_in) program.Set(kIoSetCarry);
  program.ReadModifyWrite(Operator::kLoad, SCRATCHA, c.value)
      .ReadModifyWrite(c.op, SCRATCHA, c.data)
      .Int(kYes, kIfTrue | kTransferCarry)
      .Int(kNo);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), c.carry_out ? kYes : kNo);
  EXPECT_EQ(rig.Read8(SCRATCHA), c.result);
}

INSTANTIATE_TEST_SUITE_P(
    AllOperators, OperatorTest,
    testing::Values(
        OperatorCase{Operator::kLoad, true, 0x12, 0x34, 0x34, true},
        OperatorCase{Operator::kShiftLeft, true, 0x81, 0, 0x03, true},
        OperatorCase{Operator::kShiftLeft, false, 0x41, 0, 0x82, false},
        OperatorCase{Operator::kShiftRight, true, 0x03, 0, 0x81, true},
        OperatorCase{Operator::kShiftRight, false, 0x02, 0, 0x01, false},
        OperatorCase{Operator::kOr, true, 0x50, 0x05, 0x55, true},
        OperatorCase{Operator::kXor, false, 0xff, 0x0f, 0xf0, false},
        OperatorCase{Operator::kAnd, true, 0x3c, 0x0f, 0x0c, true},
        OperatorCase{Operator::kAdd, true, 0xff, 0x01, 0x00, true},
        OperatorCase{Operator::kAdd, true, 0x10, 0x01, 0x11, false},
        OperatorCase{Operator::kAddWithCarry, true, 0xfe, 0x01, 0x00, true},
        OperatorCase{Operator::kAddWithCarry, false, 0xfe, 0x01, 0xff, false}));

TEST(ReadWriteTest, SfbrCarriesAByteFromRegisterToRegister) {
  Rig rig;
  rig.Run(Assembler()
              .ReadModifyWrite(Operator::kLoad, MBOX0, 0x77)
              .ToSfbr(Operator::kOr, MBOX0, 0)
              .FromSfbr(Operator::kAnd, PMJAD1, 0x70)  // address above 0x7f
              .Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read32(PMJAD1), 0x70u);
}

TEST(ReadWriteTest, SfbrServesAsOperand) {
  Rig rig;
  Assembler program;
  program.ToSfbr(Operator::kLoad, 0, 0x0f)
      .ReadModifyWrite(Operator::kLoad, SCRATCHA, 0x01)
      .Raw(0x7e800000 | SCRATCHA << 16, 0)  // SCRATCHA + SFBR to SCRATCHA
      .Int(kYes);
  rig.Run(program);
  EXPECT_EQ(rig.Read8(SCRATCHA), 0x10);
}

// ---- §5.8 Load and store

TEST(LoadStoreTest, MovesUpToFourBytesAbsoluteAndDsaRelative) {
  Rig rig;
  rig.set_ram32(Rig::kBuffer, 0x11223344);
  rig.set_ram32(Rig::kTable - 4, 0xaabbccdd);
  rig.Write32(DSA, Rig::kTable);
  rig.Run(Assembler()
              .Load(SCRATCHA, 4, Rig::kBuffer)
              .LoadRelative(SCRATCHB + 1, 2, -3)
              .Store(SCRATCHA + 2, 2, Rig::kBuffer + 6)
              .StoreRelative(SCRATCHA, 4, 8)
              .Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read32(SCRATCHA), 0x11223344u);
  EXPECT_EQ(rig.Read32(SCRATCHB), 0x00bbcc00u);
  EXPECT_EQ(rig.ram32(Rig::kBuffer + 4), 0x11220000u);
  EXPECT_EQ(rig.ram32(Rig::kTable + 8), 0x11223344u);
}

TEST(LoadStoreTest, ReachesTheChipsOwnRam) {
  Rig rig;
  rig.RunOnChip(Assembler()
                    .Load(SCRATCHA, 4, Rig::kRamAt)
                    .Store(SCRATCHA, 4, Rig::kRamAt + kScriptsRamBytes - 4)
                    .Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read32(SCRATCHA), 0xe1340004u);
  EXPECT_EQ(rig.chip->ReadRegion(kScriptsRamBar, kScriptsRamBytes - 4, 4),
            0xe1340004u);
}

TEST(LoadStoreTest, MisalignedOrCrossingADwordIsIllegal) {
  for (const Assembler& program :
       {Assembler().Load(SCRATCHA, 4, Rig::kBuffer + 1),
        Assembler().Load(SCRATCHA + 2, 4, Rig::kBuffer + 2),
        Assembler().Load(SCRATCHA, 0, Rig::kBuffer),
        Assembler().Store(SCRATCHA, 7, Rig::kBuffer)}) {
    Rig rig;
    rig.Run(program);
    EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
  }
}

TEST(LoadStoreTest, LoadCannotWriteSfbr) {
  Rig rig;
  rig.set_ram32(Rig::kBuffer, 0xffffffff);
  rig.Run(Assembler()
              .ToSfbr(Operator::kLoad, 0, 0x42)
              .Load(SFBR, 1, Rig::kBuffer)
              .Int(kYes));
  EXPECT_EQ(rig.Read8(SFBR), 0x42);
}

TEST(LoadStoreTest, ARegisterBarIsNotMemory) {
  Rig rig;
  rig.Run(Assembler().Load(SCRATCHA, 4, Rig::kMemoryBarAt + SCRATCHB));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
}

// ---- §5.7 Memory move

TEST(MemoryMoveTest, CopiesAcrossSlices) {
  Rig rig;
  constexpr uint32_t kBytes = 0x180000;  // more than one slice moves
  rig.set_ram(0x200000, Rig::Pattern(kBytes));
  rig.Load(Rig::kScriptAt,
           Assembler().MemoryMove(kBytes, 0x200000, 0x40000).Int(kYes));
  rig.Write32(DSP, Rig::kScriptAt);
  EXPECT_TRUE(rig.OneTurn().busy);
  EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, kIstat1Scrun);
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.ram(0x40000, kBytes), Rig::Pattern(kBytes));
}

TEST(MemoryMoveTest, DifferentAlignmentIsIllegalAndMovesNothing) {
  Rig rig;
  rig.Run(Assembler().MemoryMove(4, Rig::kBuffer, Rig::kBuffer + 0x101));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

TEST(MemoryMoveTest, OutsideRamIsABusFault) {
  Rig rig;
  rig.Run(Assembler().MemoryMove(16, Rig::kBuffer, 0xf0000000));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
}

// ---- §5.4 I/O

TEST(SelectTest, TableEntrySetsIdAndTransferRegisters) {
  Rig rig;
  rig.Write32(DSA, Rig::kTable);
  rig.set_ram32(Rig::kTable + 12, 0x38035f00);  // SCNTL3, ID 3, SXFER
  rig.Run(Assembler().SelectTableWithAtn(12, 0).Int(
      kYes, kIfTrue | When(Phase::kMessageOut)));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read8(SDID), 3);
  EXPECT_EQ(rig.Read8(SXFER), 0x5f);
  EXPECT_EQ(rig.Read8(SCNTL3), 0x38);
  EXPECT_EQ(rig.Read8(SCNTL1) & kScntl1Con, kScntl1Con);
  EXPECT_EQ(rig.Read8(SCNTL2) & kScntl2Sdu, kScntl2Sdu);
}

// The program runs on after SELECT and stops where it needs the phase.
TEST(SelectTest, AbsentTargetTimesOutAtTheFirstInstructionThatNeedsAPhase) {
  Rig rig;
  rig.Write8(SIEN1, kSistSto >> 8);
  rig.Run(Assembler()
              .SelectWithAtn(5, 0)
              .ReadModifyWrite(Operator::kLoad, SCRATCHA, 1)
              .Int(kNo, kIfFalse | When(Phase::kMessageOut))
              .Int(kNo));
  EXPECT_EQ(rig.Read16(SIST0), kSistSto);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe);
  EXPECT_EQ(rig.Read8(SCRATCHA), 1);
  EXPECT_EQ(rig.Read32(DSP), Rig::kScriptAt + 24);
  EXPECT_EQ(rig.Read8(SCNTL1) & kScntl1Con, 0);
}

TEST(SelectTest, AbsentTargetTimesOutThoughTheProgramStops) {
  Rig rig;
  rig.Run(Assembler().SelectWithAtn(5, 0).Int(kYes));
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read16(SIST0), kSistSto);
}

TEST(WaitReselectTest, SignalProcessTakesTheAlternateAddress) {
  Rig rig;
  rig.Load(0x18000, Assembler().ToSfbr(Operator::kOr, CTEST2, 0).Int(kYes));
  rig.Run(Assembler().WaitReselect(0x18000).Int(kNo));
  EXPECT_EQ(rig.Read8(ISTAT1), kIstat1Scrun);  // waits, asking for no turn
  rig.Write8(ISTAT0, kIstat0Sigp);
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kYes);
  EXPECT_EQ(rig.Read8(SFBR) & kCtest2Sigp, kCtest2Sigp);
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Sigp, 0);  // reading CTEST2 cleared it
}

TEST(SelectTest, TargetModeIsRefused) {
  Rig rig;
  rig.Run(Assembler().Set(kIoSetTarget).SelectWithAtn(3, 0));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

// ---- DCNTL, DMODE

TEST(SingleStepTest, InterruptsAfterEachInstructionUntilStarted) {
  Rig rig;
  rig.Write8(DCNTL, kDcntlSsm);
  rig.Run(Assembler()
              .ReadModifyWrite(Operator::kAdd, SCRATCHA, 1)
              .ReadModifyWrite(Operator::kAdd, SCRATCHA, 1)
              .Int(kYes));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatSsi);
  EXPECT_EQ(rig.Read8(SCRATCHA), 1);
  rig.Write8(DCNTL, kDcntlSsm | kDcntlStd);
  rig.Turns();
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatSsi);
  EXPECT_EQ(rig.Read8(SCRATCHA), 2);
  EXPECT_EQ(rig.Read8(DCNTL), kDcntlSsm);  // STD is a command
}

TEST(ManualStartTest, DspDoesNotStartButStdDoes) {
  Rig rig;
  rig.Write8(DMODE, kDmodeMan);
  rig.Run(Assembler().Int(kYes));
  EXPECT_EQ(rig.Interrupted(), ~0u);
  rig.Write8(DCNTL, kDcntlStd);
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kYes);
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
