// Inputs that broke other implementations of this chip. None may crash, hang,
// leak, or write outside the guest's RAM.

#include <gtest/gtest.h>

#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kDone = 0x77;

// CVE-2018-18849: a message in move that asks for far more than the message.
TEST(PublishedBugsTest, Cve201818849BadMessageInLength) {
  Rig rig;
  rig.set_ram(Rig::kMessages, std::string("\x80\x01\x02\x03\x01", 5));
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .Move(Phase::kMessageOut, 5, Rig::kMessages)
              .Move(Phase::kMessageIn, 0x1000, Rig::kBuffer)
              .Int(kDone));
  EXPECT_EQ(rig.Read16(SIST0), kSistMa);  // after the four bytes there are
  EXPECT_EQ(rig.Read32(DBC) & 0xffffff, 0x1000u - 4);
  EXPECT_EQ(rig.ram(Rig::kBuffer + 4, 8), std::string(8, '\0'));
}

// CVE-2019-12068: opcodes of all zeros without end.
TEST(PublishedBugsTest, Cve201912068EndlessZeroOpcodes) {
  Rig rig;
  rig.Write32(DSP, Rig::kBuffer);
  for (int i = 0; i < 10; ++i) rig.OneTurn();
  EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, kIstat1Scrun);
  rig.Write8(ISTAT0, kIstat0Abrt);  // frames are served between the slices
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatAbrt);
  EXPECT_FALSE(rig.OneTurn().busy);
}

TEST(PublishedBugsTest, EndlessLoopIsSlowedDown) {
  Rig rig;
  rig.Load(Rig::kScriptAt, Assembler().JumpRelative(-8));
  rig.Write32(DSP, Rig::kScriptAt);
  Turn turn;
  for (int i = 0; i < 200; ++i) turn = rig.OneTurn();
  EXPECT_FALSE(turn.busy);
  EXPECT_EQ(turn.deadline, rig.context.Now() + 1'000'000);
}

// CVE-2022-0216: abort messages over and over in one message out.
TEST(PublishedBugsTest, Cve20220216RepeatedAbortInMessageOut) {
  Rig rig;
  rig.bus->busy = true;
  std::string messages("\xc0\x20\x05", 3);
  for (int i = 0; i < 40; ++i) messages += std::string("\x06\x0d\x0c\x0e", 4);
  Assembler start = rig.SendCommand(0x08, 1, std::string("\xc0\x20\x05", 3));
  start.Int(kDone);
  rig.Run(start);
  rig.Read8(DSTAT);

  rig.set_ram(Rig::kMessages, messages);
  rig.Run(Assembler()
              .Set(kIoSetAtn)
              .Move(Phase::kMessageOut, static_cast<uint32_t>(messages.size()),
                    Rig::kMessages)
              .Int(kDone));
  EXPECT_EQ(rig.bus->tasks(), 0u);
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Con, 0);  // the first abort freed it
  EXPECT_EQ(rig.Read16(SIST0), kSistUdc);
}

TEST(PublishedBugsTest, Cve20220216AbortBeforeAnyCommand) {
  Rig rig;
  rig.set_ram(Rig::kMessages, std::string("\xc0\x06\x06\x0d", 4));
  for (int i = 0; i < 3; ++i) {
    rig.Run(Assembler()
                .SelectWithAtn(FakeBus::kTarget, 0)
                .Move(Phase::kMessageOut, 4, Rig::kMessages));
    EXPECT_EQ(rig.Read16(SIST0), kSistUdc);
  }
}

// CVE-2023-0330: a program that writes its own DSP by every way there is.
TEST(PublishedBugsTest, Cve20230330ProgramWritesItsOwnDsp) {
  Rig rig;
  rig.set_ram32(Rig::kBuffer, Rig::kScriptAt);
  rig.Load(Rig::kScriptAt, Assembler()
                               .ReadModifyWrite(Operator::kAdd, SCRATCHA, 1)
                               .Load(DSP, 4, Rig::kBuffer));
  rig.Write32(DSP, Rig::kScriptAt);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(rig.OneTurn().busy);

  Rig moves;  // DSP through the register BAR, by memory move and block move
  moves.Run(Assembler().MemoryMove(4, Rig::kBuffer, Rig::kMemoryBarAt + DSP));
  EXPECT_EQ(moves.Read8(DSTAT), kDstatDfe | kDstatBf);
  Assembler program = moves.SendCommand(0x08, 1);
  program.Move(Phase::kDataIn, 16, Rig::kMemoryBarAt + DSP);
  moves.Run(program);
  EXPECT_EQ(moves.Read8(DSTAT), kDstatDfe | kDstatBf);
}

// CVE-2024-6519: DMA that ejects the chip's own slot writes to a port of the
// board's; no address but RAM exists for this chip.
TEST(PublishedBugsTest, Cve20246519DmaToAnIoPortOfTheBoard) {
  for (const uint32_t port : {0xae08u, 0xc0000000u + 0xae08u, 0xfee00000u}) {
    Rig rig;
    rig.context.memory().UnmapAll();
    rig.RunOnChip(Assembler().MemoryMove(4, Rig::kRamAt, port));
    EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
  }
}

// Open case: block move data in into the chip's own registers, where a write
// of SCNTL1 would reset the bus under the running transfer.
TEST(PublishedBugsTest, DataInIntoItsOwnRegisterBarIsABusFault) {
  Rig rig;
  Assembler program = rig.SendCommand(0x08, 1);
  program.Move(Phase::kDataIn, 16, Rig::kMemoryBarAt);
  rig.Run(program);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
  EXPECT_EQ(rig.bus->tasks(), 1u);
  EXPECT_NE(rig.bus->log.back(), "BusReset");
}

// Open case: DSP of all ones.
TEST(PublishedBugsTest, DspOfAllOnesIsABusFault) {
  Rig rig;
  rig.Start(~0u);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe | kDstatBf);
}

// Open case: a transfer with no command, and with nobody connected.
TEST(PublishedBugsTest, TransferWithNoRequestQueuedWaits) {
  for (const Phase phase :
       {Phase::kDataIn, Phase::kDataOut, Phase::kStatus, Phase::kMessageIn}) {
    Rig rig;
    rig.Run(Assembler().Move(phase, 16, Rig::kBuffer).Int(kDone));
    EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, kIstat1Scrun);
    EXPECT_FALSE(rig.OneTurn().busy);

    rig.Run(Assembler()
                .SelectWithAtn(FakeBus::kTarget, 0)
                .Move(phase, 16, Rig::kBuffer));
    EXPECT_EQ(rig.Read16(SIST0), kSistMa);
  }
}

// A program that rewrites the instruction being executed.
TEST(PublishedBugsTest, SelfModifyingProgramInOnChipRam) {
  Rig rig;
  rig.RunOnChip(Assembler()
                    .MemoryMove(8, Rig::kRamAt + 20, Rig::kRamAt)
                    .Jump(Rig::kRamAt)
                    .Int(kDone));
  SUCCEED();
}

// A reset from inside the program: the chip is as after one, and idle.
TEST(PublishedBugsTest, ProgramResetsChipAndBusUnderItself) {
  for (const Assembler& program :
       {Assembler().ReadModifyWrite(Operator::kLoad, ISTAT0, kIstat0Srst),
        Assembler().ReadModifyWrite(Operator::kLoad, SCNTL1, kScntl1Rst)}) {
    Rig rig;
    Assembler whole = rig.SendCommand(0x08, 1);
    rig.Load(Rig::kScriptAt + whole.size_bytes(), program);
    rig.Load(Rig::kScriptAt, whole);
    rig.Start(Rig::kScriptAt);
    EXPECT_EQ(rig.Read8(ISTAT1) & kIstat1Scrun, 0);
    EXPECT_EQ(rig.bus->tasks(), 0u);
  }
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
