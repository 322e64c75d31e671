// What a bus saves, and how tasks come back: a service that dies and is started
// again goes on where its adapter is.

#include "services/scsi/state.h"

#include <algorithm>
#include <cstring>

#include "gtest/gtest.h"
#include "services/runtime/endian.h"
#include "services/scsi/testing/bus_rig.h"

namespace bulkhead::scsi {
namespace {

using block::Operation;
using State = Task::State;

constexpr uint64_t kBlocks = 4096;
constexpr size_t kPiece = 128 * 1024;

Bytes Write(uint32_t lba, uint16_t blocks) {
  return Cdb10(Opcode::kWrite10, lba, blocks);
}
Bytes Read(uint32_t lba, uint16_t blocks) {
  return Cdb10(Opcode::kRead10, lba, blocks);
}

// The state as it was, in a new bus over the same disks.
bool Restart(BusRig& rig) {
  auto state = std::make_unique<BusState>(rig.bus().state());
  rig.Rebuild();
  return rig.bus().LoadState(*state);
}

void Give(Task* task, const Bytes& data, size_t at, size_t size) {
  while (size > 0) {
    ASSERT_EQ(task->state(), State::kDataOut);
    const auto buffer = task->buffer();
    const size_t now = std::min(size, buffer.size());
    std::copy_n(data.begin() + std::ptrdiff_t(at), now, buffer.begin());
    task->Advance(now);
    at += now;
    size -= now;
  }
}

TEST(StateTest, UnitsKeepWhatTheyRememberBetweenCommands) {
  BusRig rig(kBlocks);
  ASSERT_TRUE(rig.Run({0x16, 0, 0, 0, 0, 0}).good());
  ASSERT_TRUE(rig.Run({0x1e, 0, 0, 0, 1, 0}).good());
  ASSERT_TRUE(rig.Run({0x15, 0x10, 0, 0, 24, 0},
                      {0, 0, 0, 0, 0x08, 0x12, 0, 0, 0, 0, 0, 0,
                       0, 0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0})
                  .good());
  EXPECT_EQ(rig.Run(Read(kBlocks, 1)).status, Status::kCheckCondition);
  ASSERT_TRUE(Restart(rig));
  EXPECT_FALSE(rig.disk().write_cache());
  const UnitState& unit = rig.bus().state().units[0];
  EXPECT_TRUE(unit.reserved);
  EXPECT_TRUE(unit.prevented);
  // Neither a new unit attention, nor a lost sense.
  EXPECT_EQ(rig.Run({0x03, 0, 0, 0, 0xff, 0}).data_in[12], 0x21);
  EXPECT_TRUE(rig.Run(Bytes(6)).good());
}

// In the middle of a block, in the middle of a piece.
TEST(StateTest, ReadGoesOnAtTheNextByte) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(kBlocks * 512);
  rig.disk().bytes() = data;
  for (const size_t moved : {size_t{0}, size_t{1}, size_t{511}, size_t{512},
                             size_t{70'001}, kPiece, kPiece + 700}) {
    Task* task = rig.Start(Read(8, 1024), 1);
    size_t left = moved;
    while (left > 0) {
      const size_t now = std::min(left, task->buffer().size());
      task->Advance(now);
      left -= now;
    }
    ASSERT_TRUE(Restart(rig));
    task = rig.bus().Find(0, 0, 1);
    ASSERT_NE(task, nullptr);
    EXPECT_EQ(task->remaining_bytes(), 1024 * 512 - moved);
    const auto begin = data.begin() + std::ptrdiff_t(8 * 512 + moved);
    const Outcome outcome = rig.Finish(task);
    EXPECT_TRUE(outcome.good());
    EXPECT_EQ(outcome.data_in,
              Bytes(begin, data.begin() + std::ptrdiff_t(1032 * 512)));
  }
}

TEST(StateTest, WriteGoesOnAfterTheLastPieceThatWasWritten) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(1024 * 512);
  Task* task = rig.Start(Write(0, 1024), 1);
  Give(task, data, 0, 2 * kPiece);
  ASSERT_TRUE(Restart(rig));
  task = rig.bus().Find(0, 0, 1);
  const Outcome outcome =
      rig.Finish(task, Bytes(data.begin() + 2 * kPiece, data.end()));
  EXPECT_TRUE(outcome.good());
  EXPECT_TRUE(std::equal(data.begin(), data.end(), rig.disk().bytes().begin()));
}

// Its bytes were in the buffers of a process that is gone: the initiator must
// send the command again, and is told so.
TEST(StateTest, WriteWhoseBytesAreLostIsAborted) {
  BusRig rig(kBlocks);
  const Bytes data = Pattern(1024 * 512);
  Give(rig.Start(Write(0, 1024), 1), data, 0, kPiece + 100);
  rig.disk().Hold();
  Give(rig.Start(Write(2000, 1), 2), data, 0, 512);
  auto state = std::make_unique<BusState>(rig.bus().state());
  rig.disk().ReleaseAll();
  rig.bus().Poll();  // the kernel finishes what the dead process began
  rig.Rebuild();
  ASSERT_TRUE(rig.bus().LoadState(*state));
  for (const uint32_t tag : {1u, 2u}) {
    Task* task = rig.bus().Find(0, 0, tag);
    ASSERT_EQ(task->state(), State::kStatus);
    const Outcome outcome = rig.Finish(task);
    EXPECT_EQ(outcome.key(), SenseKey::kAbortedCommand);
  }
}

// One block of WRITE SAME was received, and one written: not "all is written".
TEST(StateTest, ParametersThatAreLostAbortTheirCommand) {
  BusRig rig(kBlocks);
  Task* task = rig.Start(Cdb10(Opcode::kWriteSame10, 0, 2048), 1);
  rig.disk().Hold();
  Give(task, Bytes(512, 0x77), 0, 512);
  auto state = std::make_unique<BusState>(rig.bus().state());
  for (TaskState& record : state->tasks) record.done_bytes = 512;
  rig.disk().ReleaseAll();
  while (!rig.bus().idle()) rig.bus().Poll();
  rig.Rebuild();
  ASSERT_TRUE(rig.bus().LoadState(*state));
  EXPECT_EQ(rig.Finish(rig.bus().Find(0, 0, 1)).key(),
            SenseKey::kAbortedCommand);
}

TEST(StateTest, RepliesGoOnAndAreMadeOnce) {
  BusRig rig(kBlocks);
  const Bytes whole = rig.Run({0x12, 0, 0, 0, 96, 0}).data_in;
  Task* inquiry = rig.Start({0x12, 0, 0, 0, 96, 0}, 1);
  inquiry->Advance(40);
  EXPECT_EQ(rig.Run(Read(kBlocks, 1)).status, Status::kCheckCondition);
  Task* sense = rig.Start({0x03, 0, 0, 0, 18, 0}, 2);
  sense->Advance(4);
  ASSERT_TRUE(Restart(rig));
  EXPECT_EQ(rig.Finish(rig.bus().Find(0, 0, 1)).data_in,
            Bytes(whole.begin() + 40, whole.end()));
  // REQUEST SENSE took the sense data; they are told to their end.
  const Bytes rest = rig.Finish(rig.bus().Find(0, 0, 2)).data_in;
  ASSERT_EQ(rest.size(), 14u);
  EXPECT_EQ(rest[8], 0x21);
  EXPECT_EQ(rig.Run({0x03, 0, 0, 0, 18, 0}).data_in[12], 0x00);
}

TEST(StateTest, FinishedTasksKeepTheirStatusAndSense) {
  BusRig rig(kBlocks);
  rig.Start(Bytes(6), 1);
  rig.Start(Read(kBlocks, 1), 2);
  ASSERT_TRUE(Restart(rig));
  EXPECT_TRUE(rig.Finish(rig.bus().Find(0, 0, 1)).good());
  EXPECT_EQ(rig.Finish(rig.bus().Find(0, 0, 2)).code(),
            SenseCode::kLbaOutOfRange);
}

TEST(StateTest, DormantTasksStayBehindTheirElders) {
  BusRig rig(kBlocks);
  rig.Start(Write(0, 1), 1);
  rig.Start(Write(0, 1), 2, TaskAttribute::kOrdered);
  rig.Start(Write(0, 1), 3);
  ASSERT_TRUE(Restart(rig));
  EXPECT_EQ(rig.bus().Find(0, 0, 1)->state(), State::kDataOut);
  EXPECT_EQ(rig.bus().Find(0, 0, 2)->state(), State::kBusy);
  for (const uint32_t tag : {1u, 2u, 3u}) {
    EXPECT_TRUE(rig.Finish(rig.bus().Find(0, 0, tag),
                           Bytes(512, static_cast<uint8_t>(tag)))
                    .good());
  }
  EXPECT_EQ(rig.disk().bytes()[0], 3);
}

TEST(StateTest, LongOperationGoesOnWhereItWas) {
  BusRig rig(uint64_t{1} << 22, 512, /*kept_bytes=*/1 << 20);
  const Bytes cdb = Cdb16(Opcode::kWriteSame16, 0, 0x3fffff, 0x09);
  rig.Start(cdb, 1);
  const size_t first = rig.disk().log().size();
  ASSERT_TRUE(Restart(rig));
  EXPECT_TRUE(rig.Finish(rig.bus().Find(0, 0, 1)).good());
  // No step was done twice.
  const auto& log = rig.disk().log();
  EXPECT_EQ(log[first].offset_bytes,
            log[first - 1].offset_bytes + log[first - 1].length_bytes);
}

TEST(StateTest, StateOfOtherDisksIsRefused) {
  BusRig rig(kBlocks);
  BusRig larger(2 * kBlocks);
  EXPECT_FALSE(rig.bus().LoadState(larger.bus().state()));
  BusRig cdrom = BusRig::Cdrom(kBlocks / 4);
  EXPECT_FALSE(rig.bus().LoadState(cdrom.bus().state()));
}

TEST(StateTest, BusWithTasksRefusesAState) {
  BusRig rig(kBlocks);
  auto state = std::make_unique<BusState>(rig.bus().state());
  rig.Start(Write(0, 1), 1);
  EXPECT_FALSE(rig.bus().LoadState(*state));
}

// What a state says was done lies beyond the command's blocks, or between two.
TEST(StateTest, ProgressThatTheCommandCannotHaveMadeAbortsIt) {
  for (const uint64_t progress : {uint64_t{1} << 30, uint64_t{100}}) {
    BusRig rig(kBlocks);
    rig.Start(Cdb10(Opcode::kWriteAndVerify10, 0, 8), 1);
    auto state = std::make_unique<BusState>(rig.bus().state());
    for (TaskState& task : state->tasks) {
      if (task.phase != TaskPhase::kRunning) continue;
      task.moved_bytes = task.done_bytes = progress;
    }
    rig.Rebuild();
    ASSERT_TRUE(rig.bus().LoadState(*state));
    EXPECT_EQ(rig.Finish(rig.bus().Find(0, 0, 1), Bytes(4096)).key(),
              SenseKey::kAbortedCommand);
    EXPECT_TRUE(rig.disk().log().empty());
  }
}

// Every single byte of a good state, set to each of a few values: it is refused
// or loaded, and a loaded bus works.
TEST(StateTest, DamagedStatesAreRefusedOrHarmless) {
  BusRig rig(kBlocks);
  rig.Start(Write(0, 1024), 1);
  rig.Start(Read(0, 1024), 2)->Advance(1000);
  rig.Start(Read(kBlocks, 1), 3);
  const BusState good = rig.bus().state();
  const size_t unit_end = offsetof(BusState, units) + sizeof(UnitState);
  const size_t tasks = offsetof(BusState, tasks);
  size_t loaded = 0;
  size_t refused = 0;
  auto state = std::make_unique<BusState>();
  for (size_t at = 0; at < tasks + 4 * sizeof(TaskState); ++at) {
    if (at == unit_end) at = tasks;  // skip the unused units
    for (const uint8_t value : {0x00, 0x02, 0xff}) {
      std::memcpy(state.get(), &good, sizeof good);
      reinterpret_cast<uint8_t*>(state.get())[at] = value;
      rig.Rebuild();
      if (!rig.bus().LoadState(*state)) {
        ++refused;
        continue;
      }
      ++loaded;
      rig.bus().Poll();
      rig.bus().BusReset();
      rig.ClearAttention();
      ASSERT_TRUE(rig.Run(Read(0, 1)).good()) << at;
    }
  }
  EXPECT_GT(loaded, 0u);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace bulkhead::scsi
