// The controller's registers and its life: enable, disable, shutdown, resets,
// saved states.

#include "services/nvme/controller.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "services/nvme/testing/rig.h"

namespace bulkhead::nvme {
namespace {

// NVMe 1.4 §3.1.1, §3.1.2.
TEST(NvmeControllerTest, TellsItsCapabilitiesAndVersion) {
  ControllerRig rig({.start = false});

  const uint64_t cap = rig.Read64(kCap);
  EXPECT_EQ(cap & 0xffff, kMaxQueueEntries - 1);
  EXPECT_NE(cap & kCapContiguousQueues, 0u);
  EXPECT_NE(cap & kCapNvmCommandSet, 0u);
  EXPECT_EQ(cap >> 32 & 0xf, 0u) << "doorbell stride";
  EXPECT_EQ(rig.Read32(kVs), kVersion14);
  EXPECT_EQ(rig.Read32(kCsts), 0u);
}

// §7.6.1.
TEST(NvmeControllerTest, EnabledControllerIsReadyAndDisabledOneIsNot) {
  ControllerRig rig;
  EXPECT_TRUE(rig.ready());
  EXPECT_FALSE(rig.fatal());

  rig.Disable();
  EXPECT_FALSE(rig.ready());
  // §7.3.2: the admin queue's registers survive a controller reset.
  EXPECT_EQ(rig.Read64(kAsq), kAdminSq);

  rig.Enable();
  EXPECT_TRUE(rig.ready());
  std::string page;
  EXPECT_EQ(StatusOf(rig.Identify(Cns::kController, 0, &page)),
            Status::kSuccess);
}

TEST(NvmeControllerTest, ImpossibleConfigurationsAreFatal) {
  const uint32_t good = 0x00460001;
  for (const uint32_t cc :
       {good | 5u << kCcPageShift, good | 1u << 4, good | 1u << 11}) {
    ControllerRig rig({.start = false});
    rig.Enable(32, cc);
    EXPECT_TRUE(rig.fatal()) << std::hex << cc;
    EXPECT_FALSE(rig.ready());
    rig.Disable();
    rig.Enable();
    EXPECT_TRUE(rig.ready()) << "a reset makes it good again";
  }
  ControllerRig rig({.start = false});
  rig.Write32(kAqa, 0);  // queues of one entry
  rig.Write32(kCc, good);
  EXPECT_TRUE(rig.fatal());
}

TEST(NvmeControllerTest, AdminQueueOutsideRamIsFatalAndAResetHeals) {
  ControllerRig rig({.start = false});
  rig.TurnMsixOn();
  rig.Write32(kAqa, 31 | 31 << 16);
  rig.Write64(kAsq, uint64_t{1} << 40);
  rig.Write64(kAcq, kAdminCq);
  rig.Write32(kCc, 0x00460001);
  EXPECT_TRUE(rig.ready());

  rig.Write32(kDoorbells, 1);
  rig.Turns();
  EXPECT_TRUE(rig.fatal());

  rig.Disable();
  rig.Enable();
  EXPECT_TRUE(rig.ready());
  EXPECT_FALSE(rig.fatal());
}

// §3.1.5, CC.EN: a reset with requests in the backend.
TEST(NvmeControllerTest, ResetUnderLoadIsReadyAgainOnlyWhenNothingTouchesRam) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  rig.disks[0]->Hold();
  for (int i = 0; i < 8; ++i) rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();

  rig.Write32(kCc, 0x00460000);
  rig.Turns();
  EXPECT_TRUE(rig.ready()) << "reads may still write guest memory";

  // An impatient host does not wait.
  rig.Write32(kCc, 0x00460001);
  rig.Turns();
  rig.disks[0]->ReleaseAll();
  rig.Turns();
  EXPECT_TRUE(rig.ready());
  EXPECT_FALSE(rig.Reap(1).has_value()) << "nobody hears of them";

  rig.Disable();
  rig.Enable();
  std::string page;
  EXPECT_EQ(StatusOf(rig.Identify(Cns::kController, 0, &page)),
            Status::kSuccess);
}

// §7.6.2.
TEST(NvmeControllerTest, ShutdownFlushesEveryNamespaceAndThenSaysSo) {
  ControllerRig rig({.block_bits = {9, 12}});
  rig.disks[1]->Hold();

  rig.Write32(kCc, 0x00464001);
  rig.Turns();
  EXPECT_EQ(rig.Read32(kCsts) & kCstsShutdownMask, kCstsShutdownOccurring);
  rig.disks[1]->ReleaseAll();
  rig.Turns();

  EXPECT_EQ(rig.Read32(kCsts) & kCstsShutdownMask, kCstsShutdownComplete);
  EXPECT_EQ(rig.disks[0]->Count(block::Operation::kFlush), 1u);
  EXPECT_EQ(rig.disks[1]->Count(block::Operation::kFlush), 1u);
}

TEST(NvmeControllerTest, PciResetEndsEverythingAtOnce) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);

  rig.controller->Reset();

  rig.SetBusMaster(true);
  EXPECT_EQ(rig.Read32(kCsts), 0u);
  EXPECT_EQ(rig.Read32(kCc), 0u);
  EXPECT_EQ(rig.Read64(kAsq), 0u);
  rig.TurnMsixOn();
  rig.Enable();
  EXPECT_TRUE(rig.ready());
}

// ---- saved states

TEST(NvmeControllerTest, SavedStateGoesOnInAnotherController) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  rig.UseShadowDoorbells();
  rig.disks[0]->bytes()[512] = 'x';
  EXPECT_TRUE(rig.controller->Quiesce().ok());
  const absl::Span<const std::byte> state = rig.controller->State();

  ControllerRig other({.start = false});
  other.disks[0]->bytes()[512] = 'x';
  // The same guest memory.
  std::memcpy(other.context.memory().host_base(),
              rig.context.memory().host_base(), kRamMib << 20);
  ASSERT_TRUE(other.controller->LoadState(state));
  EXPECT_TRUE(other.ready());

  Command command = BlockCommand(IoOpcode::kRead, 1, 1);
  command.cid = 77;
  other.set_ram(other.SqAt(1),
                std::string(reinterpret_cast<const char*>(&command), 64));
  other.context.memory().StoreRelease32({kShadowAt + 8}, 1);
  other.Turns();
  EXPECT_EQ(other.ram(kBuffer, 1), "x");
  EXPECT_EQ(other.ram(other.CqAt(1) + 12, 1), std::string(1, 77));
}

// A queue that is being deleted when the state is saved: its Delete command
// keeps its room in the admin completion queue.
TEST(NvmeControllerTest, SavedDeleteCommandDoesNotOverrunTheAdminQueue) {
  ControllerRig rig;
  rig.Disable();
  rig.Enable(/*entries=*/4);
  rig.CreateIoQueuePair(1);  // completions 0 and 1
  rig.disks[0]->Hold();
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  Command deletion = MakeCommand(AdminOpcode::kDeleteSubmissionQueue);
  deletion.cdw10 = 1;
  rig.Push(0, deletion);
  rig.Ring(0);
  rig.Turns();
  rig.disks[0]->ReleaseAll();
  EXPECT_TRUE(rig.controller->Quiesce().ok());
  const absl::Span<const std::byte> state = rig.controller->State();
  const std::vector<std::byte> saved(state.begin(), state.end());
  ASSERT_TRUE(rig.controller->LoadState(absl::MakeConstSpan(saved)));
  rig.controller->Resume();
  rig.Turns();  // the deletion's completion, which the host does not reap

  // Of four entries three can be used: two are left, and one more must wait.
  const std::string untouched(sizeof(Completion), '\xee');
  const uint64_t fourth = rig.CqAt(0) + sizeof(Completion);
  rig.set_ram(fourth, untouched);
  for (int i = 0; i < 3; ++i) {
    rig.Push(0, MakeCommand(AdminOpcode::kGetFeatures));
  }
  rig.Ring(0);
  rig.Turns();
  EXPECT_EQ(rig.ram(fourth, sizeof(Completion)), untouched);
}

std::vector<std::byte> SaveState(ControllerRig& rig) {
  EXPECT_TRUE(rig.controller->Quiesce().ok());
  const absl::Span<const std::byte> state = rig.controller->State();
  return {state.begin(), state.end()};
}

// Two commands end while the driver has bus mastering off, in a ring of four.
void EndCommandsWithoutBusMaster(ControllerRig& rig, uint16_t cids[2]) {
  rig.CreateIoQueuePair(1, /*entries=*/4);
  rig.disks[0]->Hold();
  cids[0] = rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  cids[1] = rig.Push(1, BlockCommand(IoOpcode::kWrite, 8, 1));
  rig.Ring(1);
  rig.Turns();
  rig.disks[0]->FailAt(block::Operation::kWrite, 8 * 512,
                       block::IoStatus::kIoError);
  rig.SetBusMaster(false);
  rig.disks[0]->ReleaseAll();
  rig.Turns();
}

void ExpectBothOnce(ControllerRig& rig, const uint16_t cids[2]) {
  EXPECT_FALSE(rig.Reap(1).has_value()) << "before it is bus master again";
  rig.SetBusMaster(true);
  rig.Turns();
  const std::optional<Completion> read = rig.Reap(1);
  const std::optional<Completion> write = rig.Reap(1);
  ASSERT_TRUE(read.has_value() && write.has_value());
  EXPECT_EQ(read->cid, cids[0]);
  EXPECT_EQ(StatusOf(*read), Status::kSuccess);
  EXPECT_EQ(write->cid, cids[1]);
  EXPECT_EQ(StatusOf(*write), Status::kWriteFault);
  EXPECT_EQ(write->sq_head, 2);
  rig.SetBusMaster(false);
  rig.SetBusMaster(true);
  rig.Turns();
  EXPECT_FALSE(rig.Reap(1).has_value()) << "a second time";
}

TEST(NvmeControllerTest, CompletionsHeldWithoutBusMasterAreInTheSavedState) {
  ControllerRig rig;
  uint16_t cids[2];
  EndCommandsWithoutBusMaster(rig, cids);
  const std::vector<std::byte> saved = SaveState(rig);

  ControllerRig other({.start = false});
  other.Adopt(1, 4);
  std::memcpy(other.context.memory().host_base(),
              rig.context.memory().host_base(), kRamMib << 20);
  ASSERT_TRUE(other.controller->LoadState(absl::MakeConstSpan(saved)));
  other.Turns();
  ExpectBothOnce(other, cids);

  // The one that was saved goes on as well, as if nothing had been.
  rig.controller->Resume();
  ExpectBothOnce(rig, cids);
}

// They keep their room: the third command's completion finds the last entry,
// the fourth command waits for the host to reap.
TEST(NvmeControllerTest, CompletionsHeldAcrossASaveKeepTheirRoom) {
  ControllerRig rig;
  uint16_t cids[2];
  EndCommandsWithoutBusMaster(rig, cids);
  const std::vector<std::byte> saved = SaveState(rig);
  ASSERT_TRUE(rig.controller->LoadState(absl::MakeConstSpan(saved)));
  rig.SetBusMaster(true);
  const std::string untouched(sizeof(Completion), '\xee');
  const uint64_t last = rig.CqAt(1) + 3 * sizeof(Completion);
  rig.set_ram(last, untouched);
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Push(1, BlockCommand(IoOpcode::kRead, 0, 1));
  rig.Ring(1);
  rig.Turns();
  EXPECT_EQ(rig.ram(last, sizeof(Completion)), untouched);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(rig.Reap(1).has_value()) << i;
    rig.Turns();
  }
}

// §7.3.2: a reset ends them unheard, also one that comes with the saved state.
TEST(NvmeControllerTest, ResetDropsCompletionsHeldWithoutBusMaster) {
  ControllerRig rig;
  uint16_t cids[2];
  EndCommandsWithoutBusMaster(rig, cids);
  const std::string before = rig.ram(rig.CqAt(1), 64);
  rig.Disable();
  const std::vector<std::byte> saved = SaveState(rig);
  ASSERT_TRUE(rig.controller->LoadState(absl::MakeConstSpan(saved)));
  rig.SetBusMaster(true);
  rig.Turns();
  EXPECT_EQ(rig.ram(rig.CqAt(1), 64), before);
}

TEST(NvmeControllerTest, StateWithCompletionsOfNoQueueIsRefused) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  const std::vector<std::byte> good = SaveState(rig);
  const auto loads = [&](auto change) {
    std::vector<std::byte> bad = good;
    ControllerState state;
    std::byte* const at = &bad[bad.size() - sizeof state];
    std::memcpy(&state, at, sizeof state);
    change(state.queues);
    std::memcpy(at, &state, sizeof state);
    return rig.controller->LoadState(absl::MakeConstSpan(bad));
  };
  const auto hold = [](uint32_t count, uint16_t sq_id) {
    return [count, sq_id](QueueState& queues) {
      queues.unposted_count = count;
      for (UnpostedCompletion& held : queues.unposted) held.sq_id = sq_id;
    };
  };
  EXPECT_TRUE(loads(hold(1, 1)));
  EXPECT_FALSE(loads(hold(1, 2)));
  EXPECT_FALSE(loads(hold(1, kQueues)));
  EXPECT_FALSE(loads(hold(kMaxUnposted + 1, 1)));
}

TEST(NvmeControllerTest, HostileStateIsRefusedOrHarmless) {
  ControllerRig rig;
  rig.CreateIoQueuePair(1);
  EXPECT_TRUE(rig.controller->Quiesce().ok());
  const absl::Span<const std::byte> state = rig.controller->State();
  const std::vector<std::byte> saved(state.begin(), state.end());

  EXPECT_FALSE(rig.controller->LoadState(
      absl::MakeConstSpan(saved.data(), saved.size() - 1)));
  // Every byte, one at a time, at its worst.
  for (size_t i = 0; i < saved.size(); i += 7) {
    std::vector<std::byte> bad = saved;
    bad[i] ^= std::byte{0xff};
    if (!rig.controller->LoadState(absl::MakeConstSpan(bad))) continue;
    for (int turn = 0; turn < 3; ++turn) {
      rig.controller->Run(rig.context.Now());
    }
  }
  ASSERT_TRUE(rig.controller->LoadState(absl::MakeConstSpan(saved)));
  EXPECT_TRUE(rig.ready());
}

}  // namespace
}  // namespace bulkhead::nvme
