// Tasks on their way through a bus: logical units that exist and do not, task
// attributes, tags, task management, unit attention, sense data.

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

using block::Operation;
using State = Task::State;

constexpr uint64_t kBlocks = 2048;
const Bytes kTestUnitReady(6, 0);
const Bytes kRequestSense = {0x03, 0, 0, 0, 0xff, 0};
const Bytes kInquiry = {0x12, 0, 0, 0, 0xff, 0};

Bytes Write(uint32_t lba) { return Cdb10(Opcode::kWrite10, lba, 1); }
Bytes Read(uint32_t lba) { return Cdb10(Opcode::kRead10, lba, 1); }

// Fills a WRITE's one block; the backend then has it.
void GiveBlock(Task* task, uint8_t value) {
  ASSERT_EQ(task->state(), State::kDataOut);
  const auto buffer = task->buffer();
  std::fill(buffer.begin(), buffer.end(), value);
  task->Advance(buffer.size());
}

// Two disks behind target 0, LUNs 0 and 3, one behind target 5, LUN 1.
class SeveralUnits {
 public:
  SeveralUnits()
      : rig({{.target = 0, .lun = 0, .serial = "a", .backend = &disks[0]},
             {.target = 0, .lun = 3, .serial = "b", .backend = &disks[1]},
             {.target = 5, .lun = 1, .serial = "c", .backend = &disks[2]}},
            {}) {}
  MemoryBackend disks[3] = {MemoryBackend(65536), MemoryBackend(65536),
                            MemoryBackend(65536)};
  BusRig rig;
};

// ---- Which units there are
// ---------------------------------------------------

TEST(BusTest, TargetsExistWhereAUnitIs) {
  SeveralUnits units;
  EXPECT_TRUE(units.rig.bus().HasTarget(0));
  EXPECT_TRUE(units.rig.bus().HasTarget(5));
  EXPECT_FALSE(units.rig.bus().HasTarget(1));
  EXPECT_FALSE(units.rig.bus().HasTarget(99));
}

TEST(BusTest, EachUnitHasItsOwnDisk) {
  SeveralUnits units;
  for (const auto& [target, lun, disk] :
       {std::tuple{0, 0, 0}, std::tuple{0, 3, 1}, std::tuple{5, 1, 2}}) {
    units.rig.Address(target, lun);
    units.rig.ClearAttention();
    const Bytes data = Pattern(512, disk + 1);
    EXPECT_TRUE(units.rig.Run(Write(0), data).good());
    EXPECT_TRUE(std::equal(data.begin(), data.end(),
                           units.disks[disk].bytes().begin()));
  }
}

// SPC-4 §6.33, and §6.6.2: qualifier 011b, type 1Fh.
TEST(BusTest, MissingLunAnswersInquiryReportLunsAndRequestSenseOnly) {
  SeveralUnits units;
  for (const unsigned lun : {1u, 7u, 8u, 200u}) {
    units.rig.Address(0, lun);
    EXPECT_EQ(units.rig.Run(kInquiry).data_in[0], 0x7f);
    const Outcome outcome = units.rig.Run(kTestUnitReady);
    EXPECT_EQ(outcome.key(), SenseKey::kIllegalRequest);
    EXPECT_EQ(outcome.code(), SenseCode::kLogicalUnitNotSupported);
    EXPECT_EQ(units.rig.Run(Write(0), Bytes(512)).code(),
              SenseCode::kLogicalUnitNotSupported);
    const Outcome sense = units.rig.Run(kRequestSense);
    EXPECT_TRUE(sense.good());
    EXPECT_EQ(sense.data_in[12], 0x25);
    const Outcome luns =
        units.rig.Run({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0});
    ASSERT_EQ(luns.data_in.size(), 24u);
    EXPECT_EQ(luns.data_in[3], 16);
    EXPECT_EQ(luns.data_in[9], 0);
    EXPECT_EQ(luns.data_in[17], 3);
  }
}

// SAM-5 §7: a task management function is for one logical unit, and so is a
// tag, also among those that do not exist.
TEST(BusTest, MissingLunsKeepTheirTasksApart) {
  SeveralUnits units;
  Bus& bus = units.rig.bus();
  units.rig.Address(0, 9);
  units.rig.Start(kInquiry, 1);
  units.rig.Address(0, 10);
  Task* other = units.rig.Start(kInquiry, 1);
  EXPECT_EQ(bus.Find(0, 9, 1)->state(), State::kDataIn);
  EXPECT_EQ(other->state(), State::kDataIn);
  bus.AbortTask(0, 9, 1);
  EXPECT_EQ(bus.Find(0, 9, 1), nullptr);
  bus.AbortTaskSet(0, 9);
  bus.LogicalUnitReset(0, 9);
  EXPECT_EQ(bus.Find(0, 10, 1), other);
  EXPECT_TRUE(units.rig.Finish(other).good());
}

TEST(BusTest, ConfigurationMistakesAreNamed) {
  MemoryBackend disk(65536);
  MemoryBackend tiny(512);
  const UnitConfig good = {.serial = "x", .backend = &disk};
  EXPECT_TRUE(MakeBus({good}).ok());
  const auto fails = [&](auto change) {
    UnitConfig unit = good;
    change(unit);
    return MakeBus({unit}).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(fails([](UnitConfig& u) { u.target = 16; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.lun = 8; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.kind = UnitKind::kAbsent; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.block_size_bytes = 1024; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.serial = "a serial far too long"; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.vendor = "control\x01"; }));
  EXPECT_TRUE(fails([](UnitConfig& u) { u.backend = nullptr; }));
  EXPECT_TRUE(fails([&](UnitConfig& u) {
    u.backend = &tiny;
    u.block_size_bytes = 4096;
  }));
  EXPECT_FALSE(MakeBus({good, good}).ok());
  EXPECT_FALSE(MakeBus({good}, {.piece_bytes = 1000}).ok());
  EXPECT_FALSE(MakeBus({good}, {.piece_count = 1}).ok());
}

// ---- Unit attention and sense data
// -------------------------------------------

// SAM-5 §5.14: told once, by the first command that may tell it.
TEST(UnitAttentionTest, PowerOnIsToldOnceAndNotByInquiry) {
  BusRig rig(kBlocks);
  rig.Rebuild();
  EXPECT_TRUE(rig.Run(kInquiry).good());
  const Outcome first = rig.Run(Read(0));
  EXPECT_EQ(first.key(), SenseKey::kUnitAttention);
  EXPECT_EQ(first.code(), SenseCode::kPowerOnOccurred);
  EXPECT_TRUE(rig.Run(Read(0)).good());
}

// SAM-5 §5.14.5: a later reset replaces what was waiting.
TEST(UnitAttentionTest, BusResetTakesThePlaceOfEarlierConditions) {
  BusRig rig(kBlocks);
  rig.Rebuild();
  rig.bus().TargetReset(0);
  rig.bus().BusReset();
  EXPECT_EQ(rig.Run(kTestUnitReady).code(), SenseCode::kScsiBusResetOccurred);
  EXPECT_TRUE(rig.Run(kTestUnitReady).good());
}

// SPC-4 §6.39: REQUEST SENSE tells the condition as data, with GOOD status.
TEST(UnitAttentionTest, RequestSenseTellsItWithGoodStatus) {
  BusRig rig(kBlocks);
  rig.bus().LogicalUnitReset(0, 0);
  const Outcome outcome = rig.Run(kRequestSense);
  EXPECT_TRUE(outcome.good());
  EXPECT_EQ(outcome.data_in[2], 0x06);
  EXPECT_EQ(LoadBe16(&outcome.data_in[12]), 0x2903);
  EXPECT_TRUE(rig.Run(kTestUnitReady).good());
}

// Parallel SCSI has no autosense: REQUEST SENSE fetches it, once.
TEST(SenseTest, RequestSenseFetchesWhatTheLastErrorWas) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run(Read(kBlocks)).status, Status::kCheckCondition);
  const Outcome fixed = rig.Run(kRequestSense);
  EXPECT_TRUE(fixed.good());
  EXPECT_EQ(fixed.data_in.size(), 18u);
  EXPECT_EQ(fixed.data_in[0], 0x70);
  EXPECT_EQ(fixed.data_in[12], 0x21);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[2], 0x00);  // NO SENSE

  EXPECT_EQ(rig.Run(Read(kBlocks)).status, Status::kCheckCondition);
  const Outcome descriptors = rig.Run({0x03, 0x01, 0, 0, 0xff, 0});  // DESC
  EXPECT_EQ(descriptors.data_in[0], 0x72);
  EXPECT_EQ(descriptors.data_in[2], 0x21);
}

// SCSI-2 §7.6: an initiator that goes on without asking will never ask. Or else
// each later error would be told the sense data of the one before it.
TEST(SenseTest, NextCommandForgetsTheSenseOfTheLast) {
  BusRig rig(kBlocks);
  for (const uint32_t tag : {kUntagged, uint32_t{4}}) {
    EXPECT_EQ(rig.Run(Read(kBlocks)).status, Status::kCheckCondition);
    EXPECT_TRUE(rig.Finish(rig.Start(kTestUnitReady, tag)).good());
    EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x00);
  }
}

// Commands at work at the same time end badly before the driver asks about the
// first of them.
TEST(SenseTest, ErrorsOfAQueueAreToldInTheirOrder) {
  BusRig rig(kBlocks);
  rig.disk().FailAt(Operation::kRead, 0, block::IoStatus::kIoError);
  rig.disk().FailAt(Operation::kRead, 512, block::IoStatus::kUnavailable);
  rig.disk().Hold();
  Task* first = rig.Start(Read(0), 1);
  Task* second = rig.Start(Read(1), 2);
  rig.disk().ReleaseAll();
  EXPECT_EQ(rig.Finish(first).code(), SenseCode::kUnrecoveredReadError);
  EXPECT_EQ(rig.Finish(second).code(), SenseCode::kInternalTargetFailure);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x11);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x44);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x00);
}

TEST(SenseTest, MoreErrorsThanAreKeptDropTheOldest) {
  BusRig rig(kBlocks);
  rig.disk().FailAt(Operation::kRead, 0, block::IoStatus::kIoError);
  rig.disk().FailAt(Operation::kRead, 512, block::IoStatus::kUnavailable);
  rig.disk().Hold();
  std::vector<Task*> tasks;
  for (uint32_t tag = 0; tag < 20; ++tag) {
    tasks.push_back(rig.Start(Read(tag == 19 ? 1 : 0), tag));
  }
  rig.disk().ReleaseAll();
  for (Task* task : tasks) rig.Finish(task);
  for (size_t i = 0; i + 1 < kMaxPendingSense; ++i) {
    EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x11);
  }
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x44);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x00);
}

TEST(SenseTest, AdapterWithAutosenseLeavesNothingForRequestSense) {
  MemoryBackend disk(65536);
  BusRig rig({{.serial = "x", .backend = &disk}}, {.autosense = true});
  EXPECT_EQ(rig.Run(kTestUnitReady).code(), SenseCode::kPowerOnOccurred);
  EXPECT_EQ(rig.Run(kRequestSense).data_in[12], 0x00);
}

// ---- Odd commands
// ------------------------------------------------------------

TEST(BusTest, UnknownOpcodesAndServiceActions) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0xff, 0, 0, 0, 0, 0}).code(), SenseCode::kInvalidOpcode);
  EXPECT_EQ(rig.Run(Cdb16(Opcode::kServiceActionIn16, 0, 32, 0x1f)).code(),
            SenseCode::kInvalidFieldInCdb);
}

// FORMAT UNIT, SANITIZE and PERSISTENT RESERVE are not there, and say so.
TEST(BusTest, CommandsThatAreNotImplementedAreInvalidOpcodes) {
  BusRig rig(kBlocks);
  for (const Opcode opcode :
       {Opcode::kFormatUnit, Opcode::kSanitize, Opcode::kPersistentReserveIn,
        Opcode::kPersistentReserveOut}) {
    const Outcome outcome = rig.Run(Cdb10(opcode, 0, 0), Bytes(512));
    EXPECT_EQ(outcome.key(), SenseKey::kIllegalRequest);
    EXPECT_EQ(outcome.code(), SenseCode::kInvalidOpcode);
    EXPECT_EQ(outcome.data_out_bytes, 0u);
  }
}

TEST(BusTest, CdbShorterThanItsCommandIsRefused) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x28, 0, 0, 0, 0, 0}).code(),
            SenseCode::kInvalidFieldInCdb);
  EXPECT_EQ(rig.Run({}).code(), SenseCode::kInvalidFieldInCdb);
}

// SAM-5 §5.3, §8.6.5: no ACA.
TEST(BusTest, AcaIsRefused) {
  BusRig rig(kBlocks);
  EXPECT_EQ(rig.Run({0x00, 0, 0, 0, 0, 0x04}).code(),
            SenseCode::kInvalidFieldInCdb);
  const Outcome outcome =
      rig.Finish(rig.Start(kTestUnitReady, 1, TaskAttribute::kAca));
  EXPECT_EQ(outcome.code(), SenseCode::kInvalidMessageError);
}

// ---- Task attributes (SAM-5 §8.8)
// --------------------------------------------

TEST(TaskSetTest, SimpleTasksRunSideBySide) {
  BusRig rig(kBlocks);
  Task* first = rig.Start(Write(0), 1);
  Task* second = rig.Start(Write(1), 2);
  EXPECT_EQ(first->state(), State::kDataOut);
  EXPECT_EQ(second->state(), State::kDataOut);
  EXPECT_TRUE(rig.Finish(second, Bytes(512)).good());
  EXPECT_TRUE(rig.Finish(first, Bytes(512)).good());
}

TEST(TaskSetTest, OrderedTaskWaitsForOlderAndHoldsBackYounger) {
  BusRig rig(kBlocks);
  Task* older = rig.Start(Write(0), 1);
  Task* ordered = rig.Start(Write(1), 2, TaskAttribute::kOrdered);
  Task* younger = rig.Start(Write(2), 3);
  EXPECT_EQ(ordered->state(), State::kBusy);
  EXPECT_EQ(younger->state(), State::kBusy);
  EXPECT_TRUE(rig.Finish(older, Bytes(512)).good());
  EXPECT_EQ(ordered->state(), State::kDataOut);
  EXPECT_EQ(younger->state(), State::kBusy);
  EXPECT_TRUE(rig.Finish(ordered, Bytes(512)).good());
  EXPECT_EQ(younger->state(), State::kDataOut);
  EXPECT_TRUE(rig.Finish(younger, Bytes(512)).good());
}

TEST(TaskSetTest, HeadOfQueueOvertakesWhatWaits) {
  BusRig rig(kBlocks);
  Task* running = rig.Start(Write(0), 1);
  Task* ordered = rig.Start(Write(1), 2, TaskAttribute::kOrdered);
  Task* urgent = rig.Start(Write(2), 3, TaskAttribute::kHeadOfQueue);
  EXPECT_EQ(urgent->state(), State::kDataOut);
  EXPECT_TRUE(rig.Finish(running, Bytes(512)).good());
  EXPECT_EQ(ordered->state(), State::kBusy);  // for the urgent one
  EXPECT_TRUE(rig.Finish(urgent, Bytes(512)).good());
  EXPECT_EQ(ordered->state(), State::kDataOut);
  EXPECT_TRUE(rig.Finish(ordered, Bytes(512)).good());
}

TEST(TaskSetTest, UnitsDoNotWaitForEachOther) {
  SeveralUnits units;
  units.rig.ClearAttention();
  Task* running = units.rig.Start(Write(0), 1);
  Task* waiting = units.rig.Start(Write(0), 2, TaskAttribute::kOrdered);
  units.rig.Address(0, 3);
  units.rig.ClearAttention();
  EXPECT_TRUE(units.rig.Run(Write(0), Bytes(512)).good());
  EXPECT_EQ(waiting->state(), State::kBusy);
  units.rig.bus().AbortTaskSet(0, 0);
  EXPECT_EQ(units.rig.bus().Find(0, 0, 1), nullptr);
  (void)running;
}

// ---- Tags and task management
// ------------------------------------------------

// SAM-5 §5.10: overlapped commands. Nobody's pointer dies.
TEST(TaskSetTest, OverlappedTagEndsAllCommandsOfTheUnit) {
  BusRig rig(kBlocks);
  Task* first = rig.Start(Write(0), 7);
  Task* other = rig.Start(Write(1), 8);
  Task* again = rig.Start(Write(2), 7);
  EXPECT_EQ(first->status(), Status::kTaskAborted);
  EXPECT_EQ(other->status(), Status::kTaskAborted);
  EXPECT_EQ(again->status(), Status::kCheckCondition);
  const Outcome outcome = rig.Finish(again);
  EXPECT_EQ(outcome.key(), SenseKey::kAbortedCommand);
  EXPECT_EQ(outcome.code(), SenseCode::kOverlappedCommandsAttempted);
  EXPECT_EQ(rig.Finish(first).status, Status::kTaskAborted);
  EXPECT_EQ(rig.Finish(other).status, Status::kTaskAborted);
  EXPECT_EQ(rig.disk().Count(Operation::kWrite), 0u);
}

// A driver asks for sense data, untagged, while tagged commands are at work.
TEST(TaskSetTest, UntaggedCommandAmongTaggedOnesIsNoOverlap) {
  BusRig rig(kBlocks);
  Task* tagged = rig.Start(Write(0), 7);
  EXPECT_TRUE(rig.Run(kRequestSense).good());
  EXPECT_TRUE(rig.Finish(tagged, Bytes(512)).good());
}

TEST(TaskSetTest, MoreTasksThanFitAreRefusedAndOthersGoOn) {
  BusRig rig(kBlocks);
  std::vector<Task*> tasks;
  for (uint32_t tag = 0; tag < kMaxTasks; ++tag) {
    tasks.push_back(rig.Start(Write(tag), tag));
    ASSERT_NE(tasks.back(), nullptr);
  }
  EXPECT_EQ(rig.Start(Write(0), kMaxTasks), nullptr);
  for (size_t i = 0; i < tasks.size(); ++i) {
    EXPECT_TRUE(
        rig.Finish(tasks[i], Bytes(512, static_cast<uint8_t>(i))).good())
        << i;
  }
  EXPECT_EQ(rig.disk().bytes()[255 * 512], 255);
  EXPECT_NE(rig.Start(Write(0), 0), nullptr);
}

// There are fewer buffers than tasks: some wait, all end.
TEST(TaskSetTest, LongTransfersShareTheBuffersWithAHeldBackend) {
  BusRig rig(65536);
  rig.disk().CompleteInPoll();
  rig.Rebuild();
  rig.ClearAttention();
  std::vector<Task*> tasks;
  for (uint32_t tag = 0; tag < kMaxTasks; ++tag) {
    const bool write = tag % 2 == 0;
    tasks.push_back(rig.Start(
        Cdb10(write ? Opcode::kWrite10 : Opcode::kRead10, tag * 256, 256),
        tag));
  }
  EXPECT_LE(rig.disk().in_flight(), block::kMaxInFlight);
  for (uint32_t tag = kMaxTasks; tag-- > 0;) {
    // Tasks that hold buffers end before those that wait for one.
    const uint32_t at = kMaxTasks - 1 - tag;
    const Outcome outcome =
        rig.Finish(tasks[at], Bytes(256 * 512, static_cast<uint8_t>(at + 1)));
    ASSERT_TRUE(outcome.good()) << at;
  }
  EXPECT_EQ(rig.disk().bytes()[254 * 256 * 512], 255);
}

TEST(TaskManagementTest, AbortTaskEndsOneAndLeavesTheOthers) {
  BusRig rig(kBlocks);
  rig.Start(Write(0), 1);
  Task* other = rig.Start(Write(1), 2);
  rig.bus().AbortTask(0, 0, 1);
  EXPECT_EQ(rig.bus().Find(0, 0, 1), nullptr);
  EXPECT_EQ(rig.bus().Find(0, 0, 2), other);
  EXPECT_TRUE(rig.Finish(other, Bytes(512)).good());
  rig.bus().AbortTask(0, 0, 1);   // again
  rig.bus().AbortTask(9, 9, 77);  // nobody
}

// An aborted write may still be at the backend: a later write of the same
// block must not be overtaken by it.
TEST(TaskManagementTest, NewCommandsWaitForAbortedWrites) {
  BusRig rig(kBlocks);
  rig.disk().Hold();
  Task* doomed = rig.Start(Write(5), 1);
  GiveBlock(doomed, 0x11);
  EXPECT_EQ(doomed->state(), State::kBusy);
  rig.bus().AbortTask(0, 0, 1);
  EXPECT_FALSE(rig.bus().idle());

  Task* next = rig.Start(Write(5), 1);
  EXPECT_EQ(next->state(), State::kBusy);
  rig.disk().ReleaseAll();
  EXPECT_TRUE(rig.bus().Poll());
  EXPECT_TRUE(rig.Finish(next, Bytes(512, 0x22)).good());
  EXPECT_EQ(rig.disk().bytes()[5 * 512], 0x22);
  EXPECT_TRUE(rig.bus().idle());
}

TEST(TaskManagementTest, ResetsEndTasksInEveryState) {
  BusRig rig(kBlocks);
  rig.disk().Hold();
  rig.Start(Read(0), 1);                            // at the backend
  GiveBlock(rig.Start(Write(1), 2), 1);             // at the backend
  rig.Start(Write(2), 3);                           // wants data
  rig.Start(Write(3), 4, TaskAttribute::kOrdered);  // dormant
  rig.Start({0xff, 0, 0, 0, 0, 0}, 5);              // dormant behind it
  rig.bus().BusReset();
  for (uint32_t tag = 1; tag <= 5; ++tag) {
    EXPECT_EQ(rig.bus().Find(0, 0, tag), nullptr);
  }
  rig.disk().ReleaseAll();
  rig.bus().Poll();
  EXPECT_TRUE(rig.bus().idle());
  rig.ClearAttention();
  EXPECT_TRUE(rig.Run(Read(0)).good());
}

TEST(TaskManagementTest, ResetEndsWhatLastsBetweenCommands) {
  BusRig rig(kBlocks);
  EXPECT_TRUE(rig.Run({0x16, 0, 0, 0, 0, 0}).good());  // RESERVE
  EXPECT_TRUE(rig.Run({0x1e, 0, 0, 0, 1, 0}).good());  // PREVENT
  EXPECT_TRUE(rig.Run({0x1b, 0, 0, 0, 0, 0}).good());  // STOP
  rig.bus().TargetReset(0);
  const UnitState& unit = rig.bus().state().units[0];
  EXPECT_FALSE(unit.reserved);
  EXPECT_FALSE(unit.prevented);
  EXPECT_FALSE(unit.stopped);
}

// ---- Pausing
// -----------------------------------------------------------------

TEST(PauseTest, PausedBusStartsNothingAtTheBackendAndThenGoesOn) {
  BusRig rig(kBlocks);
  Task* write = rig.Start(Write(0), 1);
  rig.bus().SetPaused(true);
  Task* read = rig.Start(Read(0), 2);
  GiveBlock(write, 0x33);
  rig.bus().Poll();
  EXPECT_TRUE(rig.disk().log().empty());
  EXPECT_TRUE(rig.bus().idle());
  EXPECT_FALSE(rig.bus().HasWork());

  rig.bus().SetPaused(false);
  EXPECT_TRUE(rig.bus().HasWork());
  EXPECT_TRUE(rig.Finish(write).good());
  EXPECT_TRUE(rig.Finish(read).good());
  EXPECT_EQ(rig.disk().bytes()[0], 0x33);
}

// What waits for the end of a pause does not wait for another task's buffer.
TEST(PauseTest, EachPauseEndsForTheTasksThatBeganInIt) {
  BusRig rig(kBlocks);
  std::vector<Task*> tasks;
  for (uint32_t tag = 0; tag < 4; ++tag) {
    rig.bus().SetPaused(true);
    tasks.push_back(rig.Start(Write(tag), tag));
    EXPECT_EQ(tasks.back()->state(), State::kBusy);
    rig.bus().SetPaused(false);
    EXPECT_TRUE(rig.bus().HasWork());
    rig.bus().Poll();
    EXPECT_EQ(tasks.back()->state(), State::kDataOut) << tag;
  }
  for (Task* task : tasks) EXPECT_TRUE(rig.Finish(task, Bytes(512)).good());
}

// The adapter that advances too far, or twice, or a finished task, moves
// nothing that is not there.
TEST(BusTest, AdvanceIsBoundedByTheBuffer) {
  BusRig rig(kBlocks);
  Task* task = rig.Start(Read(0), 1);
  task->Advance(1'000'000);
  EXPECT_EQ(task->state(), State::kStatus);
  task->Advance(1);
  EXPECT_TRUE(task->buffer().empty());
  EXPECT_EQ(task->remaining_bytes(), 0u);
  task->Release();
}

// The initiator takes less of a read than it asked for.
TEST(BusTest, EndDataDropsTheRestOfARead) {
  BusRig rig(kBlocks);
  Task* task = rig.Start(Cdb10(Opcode::kRead10, 0, 1000), 1);
  task->Advance(100);
  EXPECT_EQ(task->remaining_bytes(), 1000u * 512 - 100);
  task->EndData();
  EXPECT_EQ(task->status(), Status::kGood);
  task->Release();
  EXPECT_TRUE(rig.bus().idle());
}

}  // namespace
}  // namespace bulkhead::scsi
