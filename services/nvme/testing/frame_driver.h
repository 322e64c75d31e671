// FrameDriver is an NVMe driver that reaches a real service through its frames,
// as the shim would carry them: admin commands, and I/O queue pairs in shared
// RAM with doorbells in memory, as Linux uses them.
//
// TRUST    For tests and benchmarks only.
// ERRORS   A controller that does not get ready or does not answer within ten
//          seconds ends the program.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_NVME_TESTING_FRAME_DRIVER_H_
#define BULKHEAD_SERVICES_NVME_TESTING_FRAME_DRIVER_H_

#include <array>
#include <cstdint>

#include "services/nvme/spec.h"
#include "services/runtime/testing/frame_rig.h"

namespace bulkhead::nvme {

class FrameDriver {
 public:
  static constexpr uint32_t kEntries = 1024;
  // Free for the driver's user: everything from here on.
  static constexpr uint64_t kFreeRam = 0x100000;
  static constexpr unsigned kMostPairs = 4;
  // Pair i has vector kVector + i - 1, or all have kVector.
  static constexpr uint32_t kVector = 1;

  explicit FrameDriver(FrameRig& rig);

  // Turns MSI-X and the controller on.
  void Enable();
  void Disable();
  // Makes queue pairs 1 to `pairs`, with doorbells in memory or in registers.
  void CreateQueues(bool interrupts, unsigned pairs = 1,
                    bool one_vector = false, bool in_memory = true);

  Completion Admin(Command command);
  // Puts a command into a queue; Ring tells the controller of all new ones.
  void Push(const Command& command, unsigned pair = 1);
  void Ring(unsigned pair = 1);
  // The next completion of a queue, if there is one.
  bool Take(Completion* completion, unsigned pair = 1);
  Completion Run(const Command& command, unsigned pair = 1);

  // Doorbells of I/O queues that had to be written to a register.
  uint64_t register_doorbells() const { return register_doorbells_; }

 private:
  bool HasCompletion(unsigned pair) const;
  uint32_t Load32(uint64_t at) const;
  void Store32(uint64_t at, uint32_t value);
  void RingDoorbell(uint64_t offset, uint32_t now, uint32_t old);

  FrameRig& rig_;
  uint8_t* const ram_;
  uint32_t admin_tail_ = 0;
  uint32_t admin_head_ = 0;
  uint32_t admin_phase_ = 1;
  struct Pair {
    uint32_t tail = 0;
    uint32_t rung = 0;  // the tail that the controller was told of
    uint32_t head = 0;
    uint32_t head_rung = 0;
    uint32_t phase = 1;
  };
  std::array<Pair, kMostPairs + 1> pairs_;
  bool in_memory_ = true;
  uint64_t register_doorbells_ = 0;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_TESTING_FRAME_DRIVER_H_
