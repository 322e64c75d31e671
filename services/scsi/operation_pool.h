// OperationPool holds the backend requests of one bus, and the buffers that
// the data of all its tasks pass through. It is made once; nothing is allocated
// later, so neither the number of tasks nor the length of a transfer takes more
// memory.
//
// TRUST    Buffers hold guest data, or stale data of an earlier task: an owner
//          shows its initiator only bytes that it has filled.
// ERRORS   nullptr: all are in use; the task waits.
// THREADS  The service's loop.

#ifndef BULKHEAD_SERVICES_SCSI_OPERATION_POOL_H_
#define BULKHEAD_SERVICES_SCSI_OPERATION_POOL_H_

#include <sys/uio.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "services/block/backend.h"

namespace bulkhead::scsi {

class LogicalUnit;
class ScsiTask;
class TaskHost;

// One backend request and, where it moves data, its buffer.
struct Operation {
  block::Request request;
  iovec segment = {};
  uint8_t* buffer = nullptr;
  ScsiTask* task = nullptr;  // nullptr: nobody waits for it
  LogicalUnit* unit = nullptr;
  TaskHost* host = nullptr;
  bool in_flight = false;
  bool orphaned_write = false;  // of an aborted task: new tasks wait for it
  Operation* next = nullptr;
};

class OperationPool {
 public:
  // piece_count <= block::kMaxInFlight / 2.
  OperationPool(size_t piece_bytes, size_t piece_count);

  size_t piece_bytes() const { return piece_bytes_; }
  size_t free_pieces() const { return free_piece_count_; }
  bool has_plain() const { return plain_ != nullptr; }

  // With a buffer of piece_bytes(), and without one.
  Operation* AcquirePiece();
  Operation* AcquirePlain();
  void Release(Operation* operation);

  const std::vector<Operation>& operations() const { return operations_; }

  // Whether anything was released since the last TakeReleased.
  bool released() const { return released_; }
  bool TakeReleased() { return std::exchange(released_, false); }
  // As if something had been: whoever waits tries again.
  void MarkReleased() { released_ = true; }

 private:
  struct Free {
    void operator()(uint8_t* bytes) const { std::free(bytes); }
  };

  size_t piece_bytes_;
  size_t free_piece_count_ = 0;
  std::unique_ptr<uint8_t[], Free> bytes_;
  // block::kMaxInFlight together, so that no backend is ever given more.
  std::vector<Operation> operations_;
  bool released_ = false;
  Operation* pieces_ = nullptr;
  Operation* plain_ = nullptr;
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_OPERATION_POOL_H_
