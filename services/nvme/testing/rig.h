// ControllerRig is a whole controller in a unit test: guest RAM, disks in
// memory, and the accesses that a driver makes.
//
//   ControllerRig rig;
//   rig.Enable();
//   rig.CreateIoQueuePair(1);
//   const Completion done = rig.Submit(1, Read(/*slba=*/0, /*blocks=*/1));
//
// TRUST    For tests only.
// ERRORS   None. THREADS  One.

#ifndef BULKHEAD_SERVICES_NVME_TESTING_RIG_H_
#define BULKHEAD_SERVICES_NVME_TESTING_RIG_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "services/nvme/controller.h"
#include "services/nvme/spec.h"
#include "services/runtime/testing/fake_service_context.h"
#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::nvme {

// Where things lie in the rig's RAM.
inline constexpr uint64_t kRamMib = 32;
inline constexpr uint64_t kAdminSq = 0x10000;
inline constexpr uint64_t kAdminCq = 0x20000;
inline constexpr uint64_t kQueuesAt = 0x100000;  // 0x20000 for each pair
inline constexpr uint64_t kLists = 0x1f00000;
inline constexpr uint64_t kShadowAt = 0x30000;
inline constexpr uint64_t kEventIndicesAt = 0x31000;
inline constexpr uint64_t kBuffer = 0xa00000;

Command MakeCommand(IoOpcode opcode, uint32_t nsid = 1);
Command MakeCommand(AdminOpcode opcode, uint32_t nsid = 0);
// Reads, writes and the like: PRP1 at kBuffer, PRP2 the page after it.
Command BlockCommand(IoOpcode opcode, uint64_t slba, uint32_t blocks,
                     uint32_t nsid = 1);

inline Status StatusOf(const Completion& completion) {
  return static_cast<Status>(completion.status >> 1 & 0x7ff);
}

struct RigOptions {
  std::vector<unsigned> block_bits = {9};
  uint64_t capacity_bytes = 8 << 20;
  bool start = true;  // enable, with MSI-X on
};

class ControllerRig {
 public:
  explicit ControllerRig(const RigOptions& options = RigOptions());
  ~ControllerRig();

  // ---- registers and configuration space
  uint32_t Read32(uint64_t offset);
  uint64_t Read64(uint64_t offset);
  void Write32(uint64_t offset, uint32_t value);
  void Write64(uint64_t offset, uint64_t value);
  void SetBusMaster(bool enabled);
  void TurnMsixOn();
  void TurnMsiOn();

  // ---- the life of a controller
  // Sets up the admin queues and waits for RDY.
  void Enable(uint32_t entries = 32, uint32_t cc = 0x00460001);
  void Disable();
  bool ready() { return (Read32(kCsts) & kCstsReady) != 0; }
  bool fatal() { return (Read32(kCsts) & kCstsFatal) != 0; }
  void CreateIoQueuePair(uint16_t id, uint32_t entries = 64,
                         uint16_t vector = 1);
  // Takes over a submission queue at SqAt(id), with its completion queue at
  // CqAt(id), that is about to be made by a command of the test's own.
  void Adopt(uint16_t id, uint32_t entries);
  void UseShadowDoorbells();
  // They are at kShadowAt, or are about to be, by a command of the test's own.
  void AdoptShadowDoorbells() { shadowed_ = true; }

  // ---- commands
  // Runs one to its end. A cid of its own is filled in.
  Completion Submit(uint16_t queue, Command command);
  // Puts one into the ring; Ring tells of it.
  uint16_t Push(uint16_t queue, Command command);
  void Ring(uint16_t queue);
  // The next completion, if one is there; rings the head's doorbell.
  std::optional<Completion> Reap(uint16_t queue);
  // As long as the device wants to.
  void Turns(int at_most = 1000);

  Completion Identify(Cns cns, uint32_t nsid, std::string* page);
  Completion GetLog(LogPage page, uint32_t bytes, std::string* data,
                    uint64_t offset = 0);
  Completion SetFeature(Feature feature, uint32_t dword11);
  Completion GetFeature(Feature feature, uint32_t dword11 = 0,
                        uint32_t select = 0);

  // ---- what a test looks at
  std::string ram(uint64_t address, size_t bytes) const {
    return context.ram(address, bytes);
  }
  void set_ram(uint64_t address, const std::string& bytes) {
    context.set_ram(address, bytes);
  }
  int interrupts(uint32_t vector) {
    return context.fake_interrupts().msix(vector);
  }
  uint64_t SqAt(uint16_t queue) const {
    return queue == 0 ? kAdminSq : kQueuesAt + queue * 0x20000ull;
  }
  uint64_t CqAt(uint16_t queue) const {
    return queue == 0 ? kAdminCq : kQueuesAt + queue * 0x20000ull + 0x10000;
  }

  FakeServiceContext context{kRamMib};
  std::vector<scsi::MemoryBackend*> disks;  // owned by the controller
  std::unique_ptr<Controller> controller;

 private:
  struct HostRing {
    uint32_t entries = 0;
    uint32_t tail = 0;
    uint32_t head = 0;
    uint16_t phase = 1;
  };
  std::array<HostRing, kQueues> rings_ = {};
  uint16_t next_cid_ = 1;
  bool shadowed_ = false;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_TESTING_RIG_H_
