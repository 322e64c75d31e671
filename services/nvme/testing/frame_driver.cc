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
constexpr uint64_t kSq = 0x10000;
constexpr uint64_t kCq = 0x20000;
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
  rig_.Connect(MSIX, kVector);
  std::memset(ram_, 0, 0x30000);
  admin_tail_ = admin_head_ = tail_ = rung_ = head_ = 0;
  admin_phase_ = phase_ = 1;
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

void FrameDriver::CreateQueues(bool interrupts) {
  Command command = {};
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateCompletionQueue);
  command.prp1 = kCq;
  command.cdw10 = 1 | (kEntries - 1) << 16;
  command.cdw11 = 1u | (interrupts ? 2u : 0u) | kVector << 16;
  if (Admin(command).status >> 1 != 0) Die("no completion queue");
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateSubmissionQueue);
  command.prp1 = kSq;
  command.cdw11 = 1 | 1u << 16;
  if (Admin(command).status >> 1 != 0) Die("no submission queue");
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

void FrameDriver::Push(const Command& command) {
  std::memcpy(ram_ + kSq + tail_ * sizeof command, &command, sizeof command);
  tail_ = (tail_ + 1) % kEntries;
}

// Memory first; the register only when the event index lies between.
void FrameDriver::RingDoorbell(uint64_t offset, uint32_t now, uint32_t old) {
  Store32(kShadow + offset, now);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  const auto index = static_cast<uint16_t>(Load32(kEventIndices + offset));
  if (static_cast<uint16_t>(now - index - 1) <
      static_cast<uint16_t>(now - old)) {
    ++register_doorbells_;
    rig_.Write(0, kDoorbells + offset, 4, now);
  }
}

void FrameDriver::Ring() {
  if (tail_ == rung_) return;
  const uint32_t old = rung_;
  rung_ = tail_;
  RingDoorbell(8, tail_, old);
}

bool FrameDriver::Take(Completion* completion) {
  const uint64_t at = kCq + head_ * sizeof *completion;
  if ((Load32(at + 12) >> 16 & 1) != phase_) return false;
  std::memcpy(completion, ram_ + at, sizeof *completion);
  const uint32_t old = head_;
  if (++head_ == kEntries) {
    head_ = 0;
    phase_ ^= 1;
  }
  RingDoorbell(12, head_, old);
  return true;
}

Completion FrameDriver::Run(const Command& command) {
  Push(command);
  Ring();
  Completion completion;
  for (int i = 0; !Take(&completion); ++i) {
    rig_.Ping();
    if (i == kMostTries) Die("a command does not end");
  }
  return completion;
}

}  // namespace bulkhead::nvme
