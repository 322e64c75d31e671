// RawBackend is a disk whose bytes are a file's bytes: a regular file or a
// block device.
//
// TRUST    The file's bytes mean nothing to it. Requests are checked.
// ERRORS   See Backend. A file that became shorter than the disk: kIoError.
// THREADS  The loop; what would wait runs on the pool.

#ifndef BULKHEAD_SERVICES_BLOCK_RAW_H_
#define BULKHEAD_SERVICES_BLOCK_RAW_H_

#include <array>
#include <memory>

#include "absl/status/statusor.h"
#include "services/block/backend.h"
#include "services/block/file_io.h"
#include "services/block/file_queue.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {

struct RawOptions {
  bool read_only = false;
  bool ignore_flush = false;
};

class RawBackend final : public Backend {
 public:
  // Several may share a file, each on a thread of its own.
  static absl::StatusOr<std::unique_ptr<RawBackend>> Create(
      std::shared_ptr<FileIo> file, std::unique_ptr<WorkerPool> pool,
      const RawOptions& options);
  ~RawBackend() override;

  const Geometry& geometry() const override { return geometry_; }
  void Submit(Request* request) override;
  void BeginBatch() override { pool_->HoldRing(); }
  void EndBatch() override { pool_->ReleaseRing(); }
  size_t Poll() override;
  int event_fd() const override { return pool_->event_fd(); }
  void Wake() override { pool_->Wake(); }
  size_t in_flight() const override { return in_flight_; }
  void Grow(Growth* growth) override;
  void Follow(const Geometry& grown) override {
    SetCapacity(grown.capacity_bytes);
  }
  void SetWriteCache(bool enabled) override { write_cache_ = enabled; }
  void ReportStatistics(Statistics* statistics) const override;

 private:
  struct Slot : FileWork {
    Request* request = nullptr;
    Slot* next_free = nullptr;
  };

  struct GrowthWork : Work {
    RawBackend* self = nullptr;
    Growth* growth = nullptr;
    int error = 0;
  };

  RawBackend(std::shared_ptr<FileIo> file, std::unique_ptr<WorkerPool> pool,
             const RawOptions& options, uint64_t file_bytes);

  void SetCapacity(uint64_t bytes);
  void Start(Request* request);
  size_t Drain();
  bool Prepare(const Request& request, Slot* slot) const;
  void Finish(Request* request, IoStatus status);
  static void OnFinished(FileWork* work);
  static void GrowFile(Work* work);
  static void OnGrown(Work* work);

  std::shared_ptr<FileIo> file_;
  std::unique_ptr<WorkerPool> pool_;
  FileQueue queue_;
  const RawOptions options_;
  Geometry geometry_;
  uint64_t tail_bytes_ = 0;  // of the last sector, that the file lacks
  bool write_cache_ = true;
  GrowthWork growth_;
  size_t in_flight_ = 0;
  // Requests that arrive from inside a completion.
  bool in_completion_ = false;
  Request* postponed_first_ = nullptr;
  Request* postponed_last_ = nullptr;
  Slot* free_ = nullptr;
  std::array<Slot, kMaxInFlight> slots_;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_RAW_H_
