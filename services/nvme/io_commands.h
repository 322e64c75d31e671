// IoCommands carries out the NVM command set. A command holds one slot from
// fetch to completion and has at most one request in a backend, so no backend
// is ever given more than it takes, and nothing is allocated.
//
// Reads and writes go straight between guest RAM and the image. What needs
// memory of its own (long scattered transfers, comparisons, lists of ranges)
// borrows one of a few work areas, or waits for one.
//
// TRUST    Commands have been copied once; ranges and lists are checked here.
//          Data in guest RAM may change while it moves.
// ERRORS   A Status for the host. Of a host's I/O error it is told no more
//          than "write fault".
// THREADS  The service's loop, or the thread of the queue group.
// SPEC     NVMe 1.4 §6.

#ifndef BULKHEAD_SERVICES_NVME_IO_COMMANDS_H_
#define BULKHEAD_SERVICES_NVME_IO_COMMANDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "services/block/backend.h"
#include "services/nvme/data_pointer.h"
#include "services/nvme/dma.h"
#include "services/nvme/logs.h"
#include "services/nvme/namespace.h"
#include "services/nvme/queues.h"
#include "services/nvme/spec.h"

namespace bulkhead::nvme {

inline constexpr unsigned kMaxTransferPages = 8;  // MDTS: 2^8 * 4 KiB = 1 MiB
inline constexpr uint64_t kMaxTransferBytes =
    uint64_t{1} << (kPageBits + kMaxTransferPages);
inline constexpr unsigned kMaxCommands = block::kMaxInFlight;
// §6.6, ACWU: blocks of a fused compare and write.
inline constexpr uint32_t kMaxFusedBlocks = 16;

class IoCommands {
 public:
  // Those of one queue group.
  IoCommands(unsigned group, Subsystem& subsystem, Queues& queues, Logs& logs,
             Dma& dma);

  void SetPageBits(unsigned page_bits) { page_bits_ = page_bits; }

  // Whether Start may be called.
  bool HasRoom() const { return free_ != nullptr || made_ < kMaxCommands; }
  // Takes a fetched command over; it may be complete on return.
  void Start(uint16_t sq_id, const Command& command);

  // Takes what backends have finished, and goes on with what waits; one
  // bounded slice. True: something happened.
  bool Run();
  // Whether Run would go on at once.
  bool busy() const { return continue_.first != nullptr || released_; }

  // The controller is reset: nobody hears of what is in flight.
  void Orphan();
  // A queue is going: first halves of fused pairs that wait in it end.
  void DropFused(uint16_t sq_id);
  // Puts them back into their queues instead.
  void ReturnFused();
  // Commands that are not complete.
  unsigned in_flight() const { return in_flight_; }
  // Nothing is under way: no backend has a request.
  bool idle() const { return in_flight_ == 0; }

  struct Counters {
    uint64_t commands = 0;
    uint64_t errors = 0;
    uint64_t waits = 0;  // for a work area
  };
  const Counters& counters() const { return counters_; }

 private:
  static constexpr size_t kInlineSegments = 40;
  static constexpr size_t kAreaBytes = 64 << 10;
  static constexpr unsigned kAreas = 16;
  static constexpr unsigned kStepsPerRun = 32;

  struct WorkArea {
    std::array<iovec, block::kMaxSegments> segments;
    std::array<uint8_t, kAreaBytes> bytes;
    WorkArea* next;
  };

  struct Slot {
    block::Request request;
    std::array<iovec, kInlineSegments> inline_segments;
    IoCommands* owner = nullptr;
    Command command = {};
    Namespace* target = nullptr;
    WorkArea* area = nullptr;
    Segments data;
    // Work in steps: Compare, Verify, Dataset Management, Flush of all.
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
    uint64_t done_bytes = 0;
    uint64_t step_bytes = 0;
    uint32_t index = 0;
    uint32_t count = 0;
    // The second half of a fused pair, in its first.
    Slot* fused = nullptr;
    Outcome outcome;
    uint16_t sq_id = 0;
    bool in_use = false;
    bool stepped = false;         // goes on in Run
    bool submitted = false;       // a backend has its request
    bool active = false;          // counted in active_
    bool owns_exclusive = false;  // its namespace is exclusive_
    bool orphaned = false;
    Slot* next = nullptr;
  };

  struct List {
    Slot* first = nullptr;
    Slot* last = nullptr;
    void Append(Slot* slot);
    Slot* Pop();
  };

  // kLater: the command has to wait for a work area or a fused pair.
  enum class Began { kYes, kLater };
  Began Begin(Slot* slot);
  Began BeginReadOrWrite(Slot* slot);
  Began BeginCompare(Slot* slot);
  Began BeginVerify(Slot* slot);
  Began BeginDataset(Slot* slot);
  Began BeginWriteZeroes(Slot* slot);
  Began BeginFlush(Slot* slot);
  Began BeginFused(Slot* first);
  void BeginOrWait(Slot* slot);
  Began EndEarly(Slot* slot, Outcome outcome);

  // Both set the slot's fields for what comes.
  Outcome CheckNamespace(Slot* slot, bool writes);
  Outcome CheckRange(Slot* slot);
  bool TakeArea(Slot* slot);
  Outcome Map(Slot* slot, uint64_t length_bytes, DmaDirection direction,
              bool* later);

  // Holds a first half, or makes a pair. False: no part of one.
  bool TakeFused(Slot* slot);
  void Pair(Slot* first, Slot* second);

  // Goes on with a command that works in steps.
  void Step(Slot* slot);
  void StepCompare(Slot* slot);
  void StepVerify(Slot* slot);
  void StepDataset(Slot* slot);
  void StepFlush(Slot* slot);
  void ReadIntoArea(Slot* slot);
  Outcome CopyRanges(Slot* slot);

  void Submit(Slot* slot, block::Operation operation, uint64_t offset_bytes,
              uint64_t length_bytes);
  static void OnDone(block::Request* request);
  static Outcome OutcomeOf(const Slot& slot);
  void Finish(Slot* slot, Outcome outcome);
  void Post(Slot* slot);
  Slot* SlotAt(unsigned index) {
    return reinterpret_cast<Slot*>(&slots_[index * sizeof(Slot)]);
  }
  Slot* TakeSlot();
  void LetOthersGo(Slot* slot);
  void Release(Slot* slot);
  void ReleaseArea(Slot* slot);

  const unsigned group_;
  Subsystem& subsystem_;
  Queues& queues_;
  Logs& logs_;
  Dma& dma_;
  unsigned page_bits_ = kPageBits;

  // Memory of kMaxCommands slots; what was never used is never touched.
  std::unique_ptr<std::byte[]> slots_;
  unsigned made_ = 0;  // slots there are
  std::unique_ptr<WorkArea[]> areas_;
  Slot* free_ = nullptr;
  WorkArea* free_areas_ = nullptr;
  unsigned in_flight_ = 0;
  List continue_;          // steps to do in Run
  List waiting_;           // for Begin
  bool released_ = false;  // something that a command may wait for
  // First halves whose second has not come, by queue.
  std::array<Slot*, kQueues> fused_first_ = {};
  // The namespace that a fused pair has, or waits to have, for itself.
  const Namespace* exclusive_ = nullptr;
  std::array<uint32_t, kMaxNamespaces> active_ = {};  // commands at work
  Counters counters_;
};

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_IO_COMMANDS_H_
