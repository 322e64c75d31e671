// Block moves: the data path, its addressing forms, and phase mismatches.

#include <gtest/gtest.h>

#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint8_t kRead = 0x08;
constexpr uint8_t kWrite = 0x0a;
constexpr uint8_t kTestUnitReady = 0x00;
constexpr uint32_t kDone = 0x77;
constexpr uint32_t kMismatch = 0x99;

TEST(BlockMoveTest, ReadCommandRunsFromSelectionToBusFree) {
  Rig rig;
  Assembler program = rig.SendCommand(kRead, 4);
  program.Move(Phase::kDataIn, 64, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);

  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 64), Rig::Pattern(64));
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 2), std::string(2, '\0'));
  EXPECT_EQ(rig.Read32(CSBC), 64u);
  EXPECT_EQ(rig.Read8(SCNTL1) & kScntl1Con, 0);
  EXPECT_EQ(rig.bus->tasks(), 0u);
}

TEST(BlockMoveTest, WriteCommandHandsDataOutToTheTarget) {
  Rig rig;
  rig.set_ram(Rig::kBuffer, Rig::Pattern(32, 5));
  Assembler program = rig.SendCommand(kWrite, 2);
  program.Move(Phase::kDataOut, 32, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.bus->written, Rig::Pattern(32, 5));
}

// Scatter: chained moves, pieces of the task that do not match them.
TEST(BlockMoveTest, PiecesAndSegmentsNeedNotMatch) {
  Rig rig;
  rig.bus->piece_bytes = 10;
  Assembler program = rig.SendCommand(kRead, 4);
  program.ChainedMove(Phase::kDataIn, 7, Rig::kBuffer)
      .ChainedMove(Phase::kDataIn, 40, Rig::kBuffer + 0x100)
      .ChainedMove(Phase::kDataIn, 17, Rig::kBuffer + 0x200);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 7), Rig::Pattern(7));
  EXPECT_EQ(rig.ram(Rig::kBuffer + 0x100, 40), Rig::Pattern(40, 7));
  EXPECT_EQ(rig.ram(Rig::kBuffer + 0x200, 17), Rig::Pattern(17, 47));
}

TEST(BlockMoveTest, IndirectMoveFetchesItsAddress) {
  Rig rig;
  rig.set_ram32(Rig::kTable, Rig::kBuffer);
  Assembler program = rig.SendCommand(kRead, 1);
  program.MoveIndirect(Phase::kDataIn, 16, Rig::kTable);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 16), Rig::Pattern(16));
}

TEST(BlockMoveTest, TableIndirectMoveFetchesCountAndAddress) {
  Rig rig;
  rig.Write32(DSA, Rig::kTable);
  rig.set_ram32(Rig::kTable - 8, 16);
  rig.set_ram32(Rig::kTable - 4, Rig::kBuffer);
  Assembler program = rig.SendCommand(kRead, 1);
  program.MoveTable(Phase::kDataIn, -8);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 16), Rig::Pattern(16));
}

// CCNTL1: 40-bit tables take bits [39:32] from the upper byte of the count.
TEST(BlockMoveTest, FortyBitTableEntryReachesRamAboveFourGigabytes) {
  Rig rig;
  ASSERT_TRUE(rig.context.memory()
                  .Map({0x300000000}, 0x1000, 0x200000, true, true)
                  .ok());
  rig.Write8(CCNTL1, kCcntl1En64tibmv | kCcntl1Timod);
  rig.Write32(DSA, Rig::kTable);
  rig.set_ram32(Rig::kTable, 0x03000010);
  rig.set_ram32(Rig::kTable + 4, 0x80);
  Assembler program = rig.SendCommand(kRead, 1);
  program.MoveTable(Phase::kDataIn, 0);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(0x200080, 16), Rig::Pattern(16));
}

// CCNTL1: indexed tables name the selector that holds the upper dword.
TEST(BlockMoveTest, IndexedTableEntryTakesItsSelector) {
  for (const uint8_t index : {0x02, 0x13}) {
    Rig rig;
    ASSERT_TRUE(rig.context.memory()
                    .Map({0x500000000}, 0x1000, 0x200000, true, true)
                    .ok());
    rig.Write8(CCNTL1, kCcntl1En64tibmv);
    rig.Write32(DSA, 0x40000);
    rig.set_ram32(Rig::kTable, uint32_t{index} << 24 | 0x10);
    rig.set_ram32(Rig::kTable + 4, 0);
    Assembler program = rig.SendCommand(kRead, 1);
    program.ReadModifyWrite(Operator::kLoad,
                            index == 2 ? SCRATCHC + 8 : uint8_t{DRS}, 5);
    program.Load(SCRATCHA, 4, Rig::kTable);
    program.MoveTable(Phase::kDataIn, 0);
    if (index == 2) {
      Rig::Finish(&program, kDone);
      rig.Run(program);
      EXPECT_EQ(rig.Interrupted(), kDone);
      EXPECT_EQ(rig.ram(0x200000, 16), Rig::Pattern(16));
    } else {
      rig.Run(program);  // DRS moved the table itself out of reach
      EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
    }
  }
}

TEST(BlockMoveTest, ReservedSelectorIndexIsIllegal) {
  Rig rig;
  rig.Write8(CCNTL1, kCcntl1En64tibmv);
  rig.Write32(DSA, Rig::kTable);
  rig.set_ram32(Rig::kTable, 0x16000010);
  Assembler program = rig.SendCommand(kRead, 1);
  program.MoveTable(Phase::kDataIn, 0);
  rig.Run(program);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

TEST(BlockMoveTest, DirectMove64TakesAThirdDword) {
  Rig rig;
  ASSERT_TRUE(rig.context.memory()
                  .Map({0x700000000}, 0x1000, 0x200000, true, true)
                  .ok());
  Assembler program = rig.SendCommand(kRead, 1);
  program.ReadModifyWrite(Operator::kLoad, CCNTL1, kCcntl1En64dbmv)
      .Move(Phase::kDataIn, 16, 0x40)
      .Word(7)
      .ReadModifyWrite(Operator::kLoad, CCNTL1, 0);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(0x200040, 16), Rig::Pattern(16));
}

TEST(BlockMoveTest, LargeMoveSpansSlices) {
  Rig rig;
  rig.bus->block_bytes = 0x4000;
  Assembler program = rig.SendCommand(kRead, 128);  // 2 MiB
  program.Move(Phase::kDataIn, 0x200000, 0x100000);
  Rig::Finish(&program, kDone);
  rig.Load(Rig::kScriptAt, program);
  rig.Write32(DSP, Rig::kScriptAt);
  EXPECT_TRUE(rig.OneTurn().busy);
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(0x100000, 0x200000), Rig::Pattern(0x200000));
}

// A move of single bytes that finds the slice used up waits for the next one.
TEST(BlockMoveTest, UsedUpSliceEndsBeforeTheStatusPhase) {
  constexpr uint32_t kBytes = (1 << 20) - 7;  // IDENTIFY and the CDB count, too
  Rig rig;
  rig.bus->block_bytes = kBytes;
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kDataIn, kBytes, 0x100000);
  Rig::Finish(&program, kDone);
  rig.Load(Rig::kScriptAt, program);
  rig.set_ram(Rig::kStatusAt, "\xee");
  rig.Write32(DSP, Rig::kScriptAt);
  EXPECT_TRUE(rig.OneTurn().busy);
  EXPECT_EQ(rig.ram(0x100000, kBytes), Rig::Pattern(kBytes));
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 1), "\xee");
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
}

TEST(BlockMoveTest, DataInToOnChipRam) {
  Rig rig;
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kDataIn, 16, Rig::kRamAt + 0x1000);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.chip->ReadRegion(kScriptsRamBar, 0x1000, 1),
            FakeBus::Pattern(0));
}

TEST(BlockMoveTest, CountOfZeroIsIllegalOutsideDataPhases) {
  Rig rig;
  rig.Run(Assembler().SelectWithAtn(3, 0).Move(Phase::kMessageOut, 0, 0));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

TEST(BlockMoveTest, BothIndirectionsAtOnceAreIllegal) {
  Rig rig;
  rig.Run(Assembler().Raw(kMoveIndirect | kMoveTableIndirect | 4, 0));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatIid);
}

TEST(BlockMoveTest, WithoutBusMasteringEveryMoveIsABusFault) {
  Rig rig;
  rig.WriteConfig(4, 2, 3);
  rig.RunOnChip(Assembler().Load(SCRATCHA, 4, Rig::kBuffer));
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
}

TEST(BlockMoveTest, BusyTargetThatMayNotDisconnectHoldsTheProgram) {
  Rig rig;
  rig.bus->busy = true;
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kDataIn, 16, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Read8(ISTAT1), kIstat1Scrun);
  EXPECT_FALSE(rig.OneTurn().busy);

  rig.bus->busy = false;
  rig.bus->Complete();
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 16), Rig::Pattern(16));
}

// ---- phase mismatches

TEST(PhaseMismatchTest, ShortReadInterruptsWithWhatIsLeft) {
  Rig rig;
  rig.Write8(SIEN0, kSistMa);
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kDataIn, 100, Rig::kBuffer);
  rig.Run(program);
  EXPECT_TRUE(rig.context.fake_interrupts().intx_level());
  EXPECT_EQ(rig.Read8(SBCL) & kBusPhaseMask, 3);  // status
  EXPECT_EQ(rig.Read32(DBC), 0x09000000u + 84);
  EXPECT_EQ(rig.Read32(DNAD), Rig::kBuffer + 16);
  EXPECT_EQ(rig.Read32(SBC), 16u);
  EXPECT_EQ(rig.Read8(DFIFO), 84);  // nothing in the FIFO
  EXPECT_EQ(rig.Read16(SIST0), kSistMa);
}

TEST(PhaseMismatchTest, JumpStoresTheContextOfATableMove) {
  Rig rig;
  rig.Load(0x18000, Assembler().Int(kMismatch));
  rig.Write8(CCNTL0, kCcntl0Enpmj);
  rig.Write32(PMJAD1, 0x18000);
  rig.Write32(DSA, Rig::kTable);
  rig.set_ram32(Rig::kTable + 8, 0x5a000064);
  rig.set_ram32(Rig::kTable + 12, Rig::kBuffer);
  Assembler program = rig.SendCommand(kRead, 1);
  const uint32_t move_at = Rig::kScriptAt + program.size_bytes();
  program.MoveTable(Phase::kDataIn, 8);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kMismatch);
  EXPECT_EQ(rig.Read32(RBC), 0x5a000000u + 84);
  EXPECT_EQ(rig.Read32(UA), Rig::kBuffer + 16);
  EXPECT_EQ(rig.Read32(ESA), Rig::kTable + 8);
  EXPECT_EQ(rig.Read32(IA), move_at);
  EXPECT_EQ(rig.Read16(SIST0), 0);
}

TEST(PhaseMismatchTest, JumpControlChoosesByDirection) {
  Rig rig;
  rig.Load(0x18000, Assembler().Int(1));
  rig.Load(0x19000, Assembler().Int(2));
  rig.Write8(CCNTL0, kCcntl0Enpmj | kCcntl0Pmjctl);
  rig.Write32(PMJAD1, 0x18000);
  rig.Write32(PMJAD2, 0x19000);
  Assembler in = rig.SendCommand(kTestUnitReady, 0);
  in.Move(Phase::kDataIn, 4, Rig::kBuffer);
  rig.Run(in);
  EXPECT_EQ(rig.Interrupted(), 2u);
  Assembler out = rig.SendCommand(kTestUnitReady, 0);
  out.Move(Phase::kDataOut, 4, Rig::kBuffer);
  rig.Run(out);
  EXPECT_EQ(rig.Interrupted(), 1u);
}

TEST(PhaseMismatchTest, NonDataPhasesInterruptUnlessTheyMayJump) {
  Rig rig;
  rig.Load(0x18000, Assembler().Int(kMismatch));
  rig.Write8(CCNTL0, kCcntl0Enpmj);
  rig.Write32(PMJAD1, 0x18000);
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kStatus, 1, Rig::kStatusAt);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), ~0u);
  EXPECT_EQ(rig.Read16(SIST0), kSistMa);

  rig.Write8(CCNTL0, kCcntl0Enpmj | kCcntl0Enndj);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kMismatch);
}

// ---- what firmware sends

// SeaBIOS and OVMF: SRST left set, selection without ATN but with IDENTIFY, 16
// bytes for every CDB, no CLEAR ACK before the next program.
TEST(FirmwareTest, ProgramsOfSeaBiosRunOneAfterTheOther) {
  Rig rig;
  rig.Write8(ISTAT0, kIstat0Srst);
  for (const uint8_t blocks : {4, 0, 2}) {
    const bool reads = blocks != 0;
    rig.set_ram(Rig::kMessages, std::string("\x80\x08", 2));
    rig.set_ram(Rig::kCdb, std::string(16, '\0'));
    rig.set_ram(Rig::kCdb, std::string(1, reads ? kRead : kTestUnitReady));
    rig.set_ram(Rig::kCdb + 4, std::string(1, static_cast<char>(blocks)));
    Assembler program;
    program.Raw(0x40030000, 0)
        .Raw(0x06000001, Rig::kMessages)
        .Raw(0x02000010, Rig::kCdb)
        .Raw(0x87820000, 0x18)
        .Raw(0x07000002, Rig::kStatusAt + 8)
        .Raw(0x50000000, 0)
        .Raw(0x07000002, Rig::kStatusAt + 8)
        .Raw((reads ? 0x01000000u : 0u) | blocks * 16, Rig::kBuffer)
        .Raw(0x03000001, Rig::kStatusAt)
        .Raw(0x07000001, Rig::kStatusAt + 1)
        .Raw(0x98080000, 0);
    rig.set_ram(Rig::kStatusAt, "\xff\xff");
    rig.set_ram(Rig::kBuffer, std::string(64, '\0'));
    rig.Run(program);
    EXPECT_EQ(rig.Read8(DSTAT) & kDstatSir, kDstatSir);
    EXPECT_EQ(rig.Read8(SIST0), 0);
    EXPECT_EQ(rig.Read8(SIST1), 0);
    EXPECT_EQ(rig.ram(Rig::kStatusAt, 2), std::string(2, '\0'));
    EXPECT_EQ(rig.ram(Rig::kBuffer, blocks * 16u), Rig::Pattern(blocks * 16));
  }
}

// A program that gave up on a command leaves a nexus; the next one selects.
TEST(FirmwareTest, SelectionAfterAGivenUpCommandDropsIt) {
  Rig rig;
  Assembler program = rig.SendCommand(kRead, 1);
  program.Move(Phase::kStatus, 1, Rig::kStatusAt);
  rig.Run(program);
  EXPECT_EQ(rig.Read16(SIST0), kSistMa);
  EXPECT_EQ(rig.bus->tasks(), 1u);

  Assembler next = rig.SendCommand(kTestUnitReady, 0);
  Rig::Finish(&next, kDone);
  rig.Run(next);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.bus->tasks(), 0u);
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
