// MemoryBackend is a disk in memory for tests: it completes at once, or when
// told to, and fails where told to.
//
// TRUST    Test code only.
// ERRORS   As block::Backend.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_SCSI_TESTING_MEMORY_BACKEND_H_
#define BULKHEAD_SERVICES_SCSI_TESTING_MEMORY_BACKEND_H_

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "services/block/backend.h"

namespace bulkhead::scsi {

class MemoryBackend final : public block::Backend {
 public:
  // Keeps the first `kept_bytes` (0: all); the rest reads as zeroes.
  explicit MemoryBackend(uint64_t capacity_bytes, uint64_t kept_bytes = 0);

  // Requests wait for Release (or for Poll, when `complete_in_poll`).
  void Hold() { holding_ = true; }
  // Completes the oldest `count` waiting requests at the next Poll.
  void Release(size_t count);
  void ReleaseAll();
  void CompleteInPoll() { complete_in_poll_ = true; }

  // Requests of this kind that touch the byte at `offset` end with `status`.
  void FailAt(block::Operation operation, uint64_t offset,
              block::IoStatus status);

  std::vector<uint8_t>& bytes() { return bytes_; }
  block::Geometry& mutable_geometry() { return geometry_; }
  bool write_cache() const { return write_cache_; }

  // What was asked for, in order.
  struct Record {
    block::Operation operation;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    bool force_unit_access;
    bool may_unmap;
  };
  const std::vector<Record>& log() const { return log_; }
  void ClearLog() { log_.clear(); }
  size_t Count(block::Operation operation) const;

  // block::Backend.
  const block::Geometry& geometry() const override { return geometry_; }
  void Submit(block::Request* request) override;
  size_t Poll() override;
  int event_fd() const override { return complete_in_poll_ ? 0 : -1; }
  size_t in_flight() const override { return waiting_.size(); }
  void SetWriteCache(bool enabled) override { write_cache_ = enabled; }
  void ReportStatistics(Statistics*) const override {}

 private:
  block::IoStatus Perform(block::Request* request);
  void Copy(block::Request* request, bool to_disk);
  void Fill(uint64_t offset, uint64_t size, uint8_t value);
  uint64_t Kept(uint64_t offset, uint64_t size) const;

  block::Geometry geometry_;
  std::vector<uint8_t> bytes_;
  std::vector<Record> log_;
  std::deque<block::Request*> waiting_;
  size_t released_ = 0;
  bool holding_ = false;
  bool complete_in_poll_ = false;
  bool write_cache_ = true;
  struct Fault {
    block::Operation operation;
    uint64_t offset;
    block::IoStatus status;
  };
  std::vector<Fault> faults_;
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_TESTING_MEMORY_BACKEND_H_
