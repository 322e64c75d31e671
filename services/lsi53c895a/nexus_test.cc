// The bus: messages, disconnection, reselection, negotiation, task management.

#include "services/lsi53c895a/nexus.h"

#include <gtest/gtest.h>

#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint8_t kRead = 0x08;
constexpr uint8_t kTestUnitReady = 0x00;
constexpr uint32_t kDone = 0x77;

std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

// Message out of selection, then message in of `count` bytes, one move each.
std::string Answer(Rig& rig, const std::string& message, uint32_t count) {
  rig.set_ram(Rig::kMessages, message);
  rig.set_ram(Rig::kStatusAt, std::string(16, '\xee'));
  Assembler program;
  program.SelectWithAtn(FakeBus::kTarget, 0)
      .Move(Phase::kMessageOut, static_cast<uint32_t>(message.size()),
            Rig::kMessages);
  for (uint32_t i = 0; i < count; ++i) {
    program.Move(Phase::kMessageIn, 1, Rig::kStatusAt + i).Clear(kIoSetAck);
  }
  program.Int(kDone, kIfTrue | When(Phase::kCommand)).Int(1);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  return rig.ram(Rig::kStatusAt, count);
}

TEST(NegotiationTest, WideRequestIsAnsweredWithEightBits) {
  Rig rig;
  EXPECT_EQ(Answer(rig, Bytes({0x80, 1, 2, 3, 1}), 4), Bytes({1, 2, 3, 0}));
}

TEST(NegotiationTest, SynchronousRequestIsGrantedWithinTheBusLimits) {
  Rig rig;
  EXPECT_EQ(Answer(rig, Bytes({0x80, 1, 3, 1, 12, 15}), 5),
            Bytes({1, 3, 1, 12, 15}));
  EXPECT_EQ(Answer(rig, Bytes({0x80, 1, 3, 1, 9, 62}), 5),
            Bytes({1, 3, 1, 10, 31}));
}

TEST(NegotiationTest, ParallelProtocolRequestLosesWidthAndOptions) {
  Rig rig;
  EXPECT_EQ(Answer(rig, Bytes({0x80, 1, 6, 4, 9, 0, 62, 1, 2}), 8),
            Bytes({1, 6, 4, 10, 0, 31, 0, 0}));
}

TEST(MessageTest, UnknownMessageIsRejected) {
  Rig rig;
  EXPECT_EQ(Answer(rig, Bytes({0x80, 0x1f}), 1), Bytes({kMessageReject}));
  EXPECT_EQ(Answer(rig, Bytes({0x80, 1, 2, 0x55, 0}), 1),
            Bytes({kMessageReject}));
}

TEST(MessageTest, MessagesMayComeInSeveralMoves) {
  Rig rig;
  rig.set_ram(Rig::kMessages, Bytes({0x80, 1, 3, 1, 12, 15}));
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .Move(Phase::kMessageOut, 3, Rig::kMessages)
              .Move(Phase::kMessageOut, 3, Rig::kMessages + 3)
              .Move(Phase::kMessageIn, 5, Rig::kStatusAt)
              .Clear(kIoSetAck)
              .Int(kDone, kIfTrue | When(Phase::kCommand)));
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 5), Bytes({1, 3, 1, 12, 15}));
}

// SPI-3 §10.10: attention is heeded between two messages.
TEST(MessageTest, AttentionAfterAMessageInLeadsToMessageOut) {
  Rig rig;
  rig.set_ram(Rig::kMessages, Bytes({0x80, 1, 2, 3, 1, kMessageReject}));
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .Move(Phase::kMessageOut, 5, Rig::kMessages)
              .Move(Phase::kMessageIn, 4, Rig::kStatusAt)
              .Set(kIoSetAtn)
              .Clear(kIoSetAck)
              .Move(Phase::kMessageOut, 1, Rig::kMessages + 5)
              .Int(kDone, kIfTrue | When(Phase::kCommand)));
  EXPECT_EQ(rig.Interrupted(), kDone);
}

// The last byte of message in and its tag stay readable in SIDL.
TEST(MessageTest, SfbrHasTheFirstByteAndSidlTheLast) {
  Rig rig;
  rig.set_ram(Rig::kMessages, Bytes({0x80, 1, 2, 3, 1}));
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .Move(Phase::kMessageOut, 5, Rig::kMessages)
              .Move(Phase::kMessageIn, 3, Rig::kStatusAt)
              .Int(kDone));
  EXPECT_EQ(rig.Read8(SFBR), 1);
  EXPECT_EQ(rig.Read8(SIDL), 3);
}

// ---- tags, disconnection, reselection

// A program that accepts DISCONNECT and waits to be reselected.
Assembler Disconnecting(Rig& rig, uint8_t code, uint8_t blocks,
                        const std::string& messages) {
  Assembler program = rig.SendCommand(code, blocks, messages);
  program.Move(Phase::kMessageIn, 1, Rig::kStatusAt + 8)
      .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
      .Clear(kIoSetAck)
      .WaitDisconnect()
      .WaitReselect(0);
  return program;
}

TEST(ReselectionTest, BusyTaskDisconnectsAndComesBackWithItsTag) {
  Rig rig;
  rig.bus->busy = true;
  Assembler program =
      Disconnecting(rig, kRead, 1, Bytes({0xc2, kSimpleQueue, 0x51}));
  program.Move(Phase::kMessageIn, 1, Rig::kStatusAt + 9)
      .Clear(kIoSetAck)
      .Move(Phase::kMessageIn, 2, Rig::kStatusAt + 10)
      .Clear(kIoSetAck)
      .Move(Phase::kDataIn, 16, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.bus->log.back(), "Start 3/2/81");
  EXPECT_EQ(rig.Read8(ISTAT0) & kIstat0Con, 0);  // the bus is free meanwhile
  EXPECT_FALSE(rig.OneTurn().busy);

  rig.bus->busy = false;
  rig.bus->Complete();
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt + 8, 4),
            Bytes({Message::kDisconnect, 0x82, kSimpleQueue, 0x51}));
  EXPECT_EQ(rig.Read8(SSID), kSsidValid | FakeBus::kTarget);
  EXPECT_EQ(rig.ram(Rig::kBuffer, 16), Rig::Pattern(16));
}

TEST(ReselectionTest, UntaggedTaskIdentifiesItselfWithOneByte) {
  Rig rig;
  rig.bus->busy = true;
  Assembler program = Disconnecting(rig, kRead, 1, Bytes({0xc0}));
  program.Move(Phase::kMessageIn, 1, Rig::kStatusAt + 9)
      .Clear(kIoSetAck)
      .Move(Phase::kDataIn, 16, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  rig.bus->busy = false;
  rig.bus->Complete();
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt + 9, 1), Bytes({0x80}));
}

// SPI-3 §16.3.3: after data has moved, pointers are saved first.
TEST(ReselectionTest, DisconnectInTheMidstOfDataSavesPointers) {
  Rig rig;
  rig.bus->piece_bytes = 16;
  rig.bus->busy_between_pieces = true;
  Assembler program = rig.SendCommand(kRead, 2, Bytes({0xc0}));
  program.Move(Phase::kDataIn, 16, Rig::kBuffer)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt + 8)
      .Clear(kIoSetAck)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt + 9)
      .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
      .Clear(kIoSetAck)
      .WaitDisconnect()
      .WaitReselect(0)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt + 10)
      .Clear(kIoSetAck)
      .Move(Phase::kDataIn, 16, Rig::kBuffer + 16);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Read8(ISTAT1), kIstat1Scrun);

  rig.bus->Complete();
  rig.Turns();
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt + 8, 3),
            Bytes({kSaveDataPointers, Message::kDisconnect, 0x80}));
  EXPECT_EQ(rig.ram(Rig::kBuffer, 32), Rig::Pattern(32));
}

TEST(ReselectionTest, CompletionsComeBackInTheOrderTheyDisconnected) {
  Rig rig;
  rig.bus->busy = true;
  for (const int tag : {9, 4}) {
    Assembler program =
        rig.SendCommand(kTestUnitReady, 0, Bytes({0xc0, kSimpleQueue, tag}));
    program.Move(Phase::kMessageIn, 1, Rig::kStatusAt + 8)
        .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
        .Clear(kIoSetAck)
        .WaitDisconnect()
        .Int(kDone);
    rig.Run(program);
    EXPECT_EQ(rig.Interrupted(), kDone);
  }
  rig.bus->busy = false;
  rig.bus->Complete();
  for (const int tag : {9, 4}) {
    Assembler program;
    program.WaitReselect(0)
        .Move(Phase::kMessageIn, 1, Rig::kStatusAt + 8)
        .Clear(kIoSetAck)
        .Move(Phase::kMessageIn, 2, Rig::kStatusAt + 8)
        .Clear(kIoSetAck);
    Rig::Finish(&program, kDone);
    rig.Run(program);
    EXPECT_EQ(rig.Interrupted(), kDone);
    EXPECT_EQ(rig.ram(Rig::kStatusAt + 8, 2), Bytes({kSimpleQueue, tag}));
  }
  EXPECT_EQ(rig.bus->tasks(), 0u);
}

TEST(CommandTest, FullBusAnswersTaskSetFull) {
  Rig rig;
  rig.bus->full = true;
  Assembler program = rig.SendCommand(kRead, 1);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 1), Bytes({0x28}));
}

TEST(CommandTest, StatusOfTheTaskReachesTheInitiator) {
  Rig rig;
  Assembler program = rig.SendCommand(0xff, 0);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 2), Bytes({0x02, kCommandComplete}));
}

TEST(CommandTest, CdbMayComeInSeveralMoves) {
  Rig rig;
  rig.set_ram(Rig::kMessages, "\x80");
  rig.set_ram(Rig::kCdb, Bytes({kRead, 0, 0, 0, 1, 0}));
  Assembler program;
  program.SelectWithAtn(FakeBus::kTarget, 0)
      .Move(Phase::kMessageOut, 1, Rig::kMessages)
      .Move(Phase::kCommand, 2, Rig::kCdb)
      .Move(Phase::kCommand, 4, Rig::kCdb + 2)
      .Move(Phase::kDataIn, 16, Rig::kBuffer);
  Rig::Finish(&program, kDone);
  rig.Run(program);
  EXPECT_EQ(rig.Interrupted(), kDone);
}

// §4.2, SCNTL2.SDU.
TEST(DisconnectTest, UnannouncedBusFreeRaisesUnexpectedDisconnect) {
  Rig rig;
  Assembler program = rig.SendCommand(kTestUnitReady, 0);
  program.Move(Phase::kStatus, 1, Rig::kStatusAt)
      .Move(Phase::kMessageIn, 1, Rig::kStatusAt + 1)
      .Clear(kIoSetAck)
      .Int(1);
  rig.Run(program);
  EXPECT_EQ(rig.Read16(SIST0), kSistUdc);
  EXPECT_EQ(rig.Read8(DSTAT), kDstatDfe);
}

// ---- task management

struct ManagementCase {
  std::string messages;
  const char* call;
};

class TaskManagementTest : public testing::TestWithParam<ManagementCase> {};

TEST_P(TaskManagementTest, ReachesTheBusAndFreesIt) {
  Rig rig;
  rig.bus->busy = true;
  Assembler start =
      Disconnecting(rig, kRead, 1, Bytes({0xc1, kSimpleQueue, 7}));
  rig.Run(start);
  ASSERT_EQ(rig.bus->tasks(), 1u);

  const std::string& messages = GetParam().messages;
  rig.set_ram(Rig::kMessages, messages);
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
              .Move(Phase::kMessageOut, static_cast<uint32_t>(messages.size()),
                    Rig::kMessages)
              .Clear(kIoSetAck | kIoSetAtn)
              .WaitDisconnect()
              .Int(kDone));
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.bus->log.back(), GetParam().call);
  EXPECT_EQ(rig.bus->tasks(), 0u);

  rig.bus->busy = false;
  rig.bus->Complete();
  rig.Run(Assembler().WaitReselect(0).Int(1));
  EXPECT_EQ(rig.Interrupted(), ~0u);  // nothing is left to come back
}

INSTANTIATE_TEST_SUITE_P(
    Messages, TaskManagementTest,
    testing::Values(
        ManagementCase{Bytes({0x81, kAbortTaskSet}), "AbortTaskSet 3/1/0"},
        ManagementCase{Bytes({0x81, kSimpleQueue, 7, kAbortTask}),
                       "AbortTask 3/1/7"},
        ManagementCase{Bytes({0x81, kClearTaskSet}), "ClearTaskSet 3/1/0"},
        ManagementCase{Bytes({0x81, kLogicalUnitReset}),
                       "LogicalUnitReset 3/1/0"},
        ManagementCase{Bytes({kTargetReset}), "TargetReset 3/0/0"}));

// SPI-3 §16.3.6: the command ends, and an initiator sends it again. Another
// command of the same nexus (a tag used twice) goes with it.
TEST(TaskManagementTest, InitiatorDetectedErrorEndsTheCommandWithBusy) {
  Rig rig;
  rig.bus->busy = true;
  const std::string messages = Bytes({0xc0, kSimpleQueue, 7});
  Assembler first = Disconnecting(rig, kRead, 1, messages);
  rig.Run(first);
  rig.bus->busy = false;
  Assembler second = rig.SendCommand(kRead, 1, messages);
  rig.set_ram(Rig::kMessages + 3, Bytes({kInitiatorDetectedError}));
  second.Set(kIoSetAtn).Move(Phase::kMessageOut, 1, Rig::kMessages + 3);
  Rig::Finish(&second, kDone);
  rig.Run(second);
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_EQ(rig.ram(Rig::kStatusAt, 1), Bytes({0x08}));
  EXPECT_EQ(rig.bus->tasks(), 0u);
  rig.Run(Assembler().WaitReselect(0).Int(1));
  EXPECT_EQ(rig.Interrupted(), ~0u);
}

// SPI-3 §16.5.2: without IDENTIFY there is nothing to abort.
TEST(TaskManagementTest, AbortWithoutIdentifyOnlyFreesTheBus) {
  Rig rig;
  rig.set_ram(Rig::kMessages, Bytes({kAbortTaskSet}));
  rig.Run(Assembler()
              .SelectWithAtn(FakeBus::kTarget, 0)
              .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
              .Move(Phase::kMessageOut, 1, Rig::kMessages)
              .WaitDisconnect()
              .Int(kDone));
  EXPECT_EQ(rig.Interrupted(), kDone);
  EXPECT_TRUE(rig.bus->log.empty());
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
