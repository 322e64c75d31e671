#include "services/nvme/testing/frame_driver.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "services/pci/spec.h"
#include "services/runtime/device.h"

namespace bulkhead::nvme {
namespace {

constexpr uint64_t kAdminSq = 0x1000;
constexpr uint64_t kAdminCq = 0x2000;
constexpr uint64_t kShadow = 0x3000;
constexpr uint64_t kEventIndices = 0x4000;
constexpr uint64_t kSq = 0x10000;  // of pair 1; the next is kPairBytes on
constexpr uint64_t kCq = 0x20000;
constexpr uint64_t kPairBytes = 0x20000;
static_assert(kSq + FrameDriver::kMostPairs * kPairBytes <=
              FrameDriver::kFreeRam);

uint64_t SqOf(unsigned pair) { return kSq + (pair - 1) * kPairBytes; }
uint64_t CqOf(unsigned pair) { return kCq + (pair - 1) * kPairBytes; }
constexpr uint32_t kAdminEntries = 32;
constexpr int kMostTries = 100'000;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "nvme: %s\n", what);
  std::exit(1);
}

}  // namespace

FrameDriver::FrameDriver(FrameRig& rig) : rig_(rig), ram_(rig.ram_base()) {}

uint32_t FrameDriver::Load32(uint64_t at) const {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(ram_ + at),
                         __ATOMIC_ACQUIRE);
}

void FrameDriver::Store32(uint64_t at, uint32_t value) {
  __atomic_store_n(reinterpret_cast<uint32_t*>(ram_ + at), value,
                   __ATOMIC_RELEASE);
}

void FrameDriver::Enable() {
  rig_.Write(kConfigRegion, pci::kCommand, 2,
             pci::kCommandMemorySpace | pci::kCommandBusMaster);
  uint64_t at = rig_.Read(kConfigRegion, pci::kCapabilitiesPointer, 1);
  while (at != 0 && rig_.Read(kConfigRegion, at, 1) != pci::kCapabilityMsix) {
    at = rig_.Read(kConfigRegion, at + 1, 1);
  }
  rig_.Write(kConfigRegion, at + pci::kMsixControl, 2, pci::kMsixEnable);
  rig_.Connect(MSIX, 0);
  for (unsigned i = 0; i < kMostPairs; ++i) rig_.Connect(MSIX, kVector + i);
  std::memset(ram_, 0, kFreeRam);
  admin_tail_ = admin_head_ = 0;
  admin_phase_ = 1;
  pairs_ = {};
  rig_.Write(0, kAqa, 4, (kAdminEntries - 1) | (kAdminEntries - 1) << 16);
  rig_.Write(0, kAsq, 8, kAdminSq);
  rig_.Write(0, kAcq, 8, kAdminCq);
  rig_.Write(0, kCc, 4, 0x00460001);
  for (int i = 0; (rig_.Read(0, kCsts, 4) & kCstsReady) == 0; ++i) {
    if (i == kMostTries) Die("does not get ready");
  }
}

void FrameDriver::Disable() {
  rig_.Write(0, kCc, 4, 0x00460000);
  for (int i = 0; (rig_.Read(0, kCsts, 4) & kCstsReady) != 0; ++i) {
    if (i == kMostTries) Die("does not stop");
  }
}

void FrameDriver::CreateQueues(bool interrupts, unsigned pairs, bool one_vector,
                               bool in_memory) {
  Command command = {};
  for (uint32_t id = 1; id <= pairs; ++id) {
    const uint32_t vector = one_vector ? kVector : kVector + id - 1;
    command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateCompletionQueue);
    command.prp1 = CqOf(id);
    command.cdw10 = id | (kEntries - 1) << 16;
    command.cdw11 = 1u | (interrupts ? 2u : 0u) | vector << 16;
    if (Admin(command).status >> 1 != 0) Die("no completion queue");
    command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateSubmissionQueue);
    command.prp1 = SqOf(id);
    command.cdw11 = 1 | id << 16;
    if (Admin(command).status >> 1 != 0) Die("no submission queue");
  }
  in_memory_ = in_memory;
  if (!in_memory) return;
  command = {};
  command.opcode = static_cast<uint8_t>(AdminOpcode::kDoorbellBufferConfig);
  command.prp1 = kShadow;
  command.prp2 = kEventIndices;
  if (Admin(command).status >> 1 != 0) Die("no doorbells in memory");
}

Completion FrameDriver::Admin(Command command) {
  command.cid = static_cast<uint16_t>(admin_tail_);
  std::memcpy(ram_ + kAdminSq + admin_tail_ * sizeof command, &command,
              sizeof command);
  admin_tail_ = (admin_tail_ + 1) % kAdminEntries;
  rig_.Write(0, kDoorbells, 4, admin_tail_);
  const uint64_t at = kAdminCq + admin_head_ * sizeof(Completion);
  for (int i = 0; (Load32(at + 12) >> 16 & 1) != admin_phase_; ++i) {
    rig_.Ping();
    if (i == kMostTries) Die("an admin command does not end");
  }
  Completion completion;
  std::memcpy(&completion, ram_ + at, sizeof completion);
  admin_head_ = (admin_head_ + 1) % kAdminEntries;
  if (admin_head_ == 0) admin_phase_ ^= 1;
  rig_.Write(0, kDoorbells + 4, 4, admin_head_);
  return completion;
}

void FrameDriver::Push(const Command& command, unsigned pair) {
  Pair& p = pairs_[pair];
  std::memcpy(ram_ + SqOf(pair) + p.tail * sizeof command, &command,
              sizeof command);
  p.tail = (p.tail + 1) % kEntries;
}

// Memory first; the register only when the event index lies between.
void FrameDriver::RingDoorbell(uint64_t offset, uint32_t now, uint32_t old) {
  if (in_memory_) {
    Store32(kShadow + offset, now);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const auto index = static_cast<uint16_t>(Load32(kEventIndices + offset));
    if (static_cast<uint16_t>(now - index - 1) >=
        static_cast<uint16_t>(now - old)) {
      return;
    }
  }
  ++register_doorbells_;
  rig_.Write(0, kDoorbells + offset, 4, now);
}

void FrameDriver::Ring(unsigned pair) {
  Pair& p = pairs_[pair];
  if (p.tail == p.rung) return;
  const uint32_t old = p.rung;
  p.rung = p.tail;
  RingDoorbell(8 * pair, p.tail, old);
}

bool FrameDriver::Take(Completion* completion, unsigned pair) {
  Pair& p = pairs_[pair];
  if (!HasCompletion(pair)) return false;
  std::memcpy(completion, ram_ + CqOf(pair) + p.head * sizeof *completion,
              sizeof *completion);
  if (++p.head == kEntries) {
    p.head = 0;
    p.phase ^= 1;
  }
  // Once for all that have come together, as Linux does.
  if (!HasCompletion(pair)) {
    const uint32_t old = p.head_rung;
    p.head_rung = p.head;
    RingDoorbell(8 * pair + 4, p.head, old);
  }
  return true;
}

bool FrameDriver::HasCompletion(unsigned pair) const {
  const Pair& p = pairs_[pair];
  const uint32_t last = Load32(CqOf(pair) + p.head * sizeof(Completion) + 12);
  return (last >> 16 & 1) == p.phase;
}

Completion FrameDriver::Run(const Command& command, unsigned pair) {
  Push(command, pair);
  Ring(pair);
  Completion completion;
  for (int i = 0; !Take(&completion, pair); ++i) {
    rig_.Ping();
    if (i == kMostTries) Die("a command does not end");
  }
  return completion;
}

}  // namespace bulkhead::nvme
