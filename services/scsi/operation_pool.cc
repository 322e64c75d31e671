#include "services/scsi/operation_pool.h"

namespace bulkhead::scsi {
namespace {

constexpr size_t kBufferAlignment = 4096;  // for backends that use O_DIRECT

}  // namespace

OperationPool::OperationPool(size_t piece_bytes, size_t piece_count)
    : piece_bytes_(piece_bytes),
      bytes_(static_cast<uint8_t*>(
          std::aligned_alloc(kBufferAlignment, piece_bytes * piece_count))),
      operations_(block::kMaxInFlight) {
  for (size_t i = 0; i < operations_.size(); ++i) {
    if (i < piece_count) {
      operations_[i].buffer = bytes_.get() + i * piece_bytes;
    }
    Release(&operations_[i]);
  }
}

Operation* OperationPool::AcquirePiece() {
  Operation* operation = pieces_;
  if (operation == nullptr) return nullptr;
  pieces_ = operation->next;
  --free_piece_count_;
  operation->next = nullptr;
  return operation;
}

Operation* OperationPool::AcquirePlain() {
  Operation* operation = plain_;
  if (operation == nullptr) return nullptr;
  plain_ = operation->next;
  operation->next = nullptr;
  return operation;
}

void OperationPool::Release(Operation* operation) {
  operation->task = nullptr;
  operation->unit = nullptr;
  operation->in_flight = false;
  operation->orphaned_write = false;
  // The last one used is the next one taken: its buffer is in the cache.
  Operation*& list = operation->buffer != nullptr ? pieces_ : plain_;
  released_ = true;
  operation->next = list;
  list = operation;
  if (operation->buffer != nullptr) ++free_piece_count_;
}

}  // namespace bulkhead::scsi
