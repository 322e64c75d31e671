// Backend is where a disk's bytes live: one asynchronous interface over raw
// files, qcow2 images and remote servers. Device models see nothing else of
// storage.
//
//   Request r{.operation = Operation::kRead, ...};
//   backend.Submit(&r);        // may complete it at once
//   ... backend.Poll();        // completes what has become ready
//
// TRUST    offset_bytes and length_bytes come from a guest by way of a device
//          model that has checked them against capacity; Submit checks again
//          and answers kInvalid. Segments are host memory inside guest RAM:
//          their contents may change while an operation runs, and an engine
//          never takes a decision from them. An image file is hostile.
// ERRORS   A request ends exactly once, with an IoStatus. Status values are
//          for opening only.
// THREADS  All calls, and all completions, are on one thread: the service's
// loop,
//          or that of the queue group whose backend it is. Workers stay inside
//          the backend.
//
// Nothing is allocated per request: an engine keeps its bookkeeping in
// Request::scratch, or in a pool made when it was opened.

#ifndef BULKHEAD_SERVICES_BLOCK_BACKEND_H_
#define BULKHEAD_SERVICES_BLOCK_BACKEND_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/runtime/growth.h"

namespace bulkhead {
class Statistics;
}

namespace bulkhead::block {

enum class Operation : uint8_t {
  kRead,
  kWrite,
  kFlush,        // all writes completed before it are on stable storage after
  kDiscard,      // contents become undefined or zero; space may be freed
  kWriteZeroes,  // reads as zeroes afterwards; may_unmap frees space
};

enum class IoStatus : uint8_t {
  kOk,
  kInvalid,  // beyond the end, misaligned, or too many segments
  kReadOnly,
  kNoSpace,      // the host is out of space or quota
  kCorrupt,      // the image's metadata make no sense there
  kIoError,      // the host's read or write failed
  kUnavailable,  // the remote server is gone beyond its deadline
};

struct Request {
  Operation operation = Operation::kRead;
  bool force_unit_access = false;   // kWrite, kWriteZeroes: durable when done
  bool may_unmap = false;           // kWriteZeroes
  IoStatus status = IoStatus::kOk;  // valid in `done`
  uint64_t offset_bytes = 0;        // multiple of 512
  uint64_t length_bytes = 0;        // multiple of 512; sum of segments for I/O
  const iovec* segments = nullptr;  // lives until `done`
  size_t segment_count = 0;

  // Called exactly once, from Submit or Poll. The request is the caller's
  // again, and may be submitted anew from inside `done`.
  void (*done)(Request* request) = nullptr;
  void* owner = nullptr;

  // The backend's, from Submit to `done`.
  Request* next = nullptr;
  std::array<uint64_t, 8> scratch = {};
};

// Requests that a backend accepts at one time; one more is a bug of the caller.
inline constexpr size_t kMaxInFlight = 256;
inline constexpr size_t kMaxSegments = 1024;

struct Geometry {
  uint64_t capacity_bytes = 0;
  bool read_only = false;
  bool can_discard = false;
  bool can_write_zeroes = false;
  // Best alignment and granularity for writes and discards.
  uint32_t optimal_bytes = 4096;
  uint32_t discard_granularity_bytes = 512;
};

class Backend : public Growable {
 public:
  virtual const Geometry& geometry() const = 0;

  virtual void Submit(Request* request) = 0;
  // What is submitted in between may be started together, by EndBatch at the
  // latest. Not nested.
  virtual void BeginBatch() {}
  virtual void EndBatch() {}
  // Completes what is ready; returns how many. Never blocks.
  virtual size_t Poll() = 0;
  // Readable when Poll has something to do; -1: never (all is done inline).
  virtual int event_fd() const { return -1; }
  // Makes event_fd readable. Any thread.
  virtual void Wake() {}
  // Requests submitted and not completed.
  virtual size_t in_flight() const = 0;
  // Ends what has not begun because of the disk's limits, with kUnavailable:
  // its device is reset, and waits for the rest.
  virtual void DropHeld() {}

  // Makes the disk longer, and its file where that is not long enough already;
  // requests go on meanwhile, or wait a moment. geometry() changes before it is
  // done.
  void Grow(Growth* growth) override {
    growth->End(absl::FailedPreconditionError("this disk cannot grow"));
  }

  // Another backend of the same disk (open.h, OpenShared) has grown.
  virtual void Follow(const Geometry& /*grown*/) {}

  // The guest's write-cache switch. Off: every write is durable when done.
  virtual void SetWriteCache(bool enabled) = 0;

  virtual void ReportStatistics(Statistics* statistics) const = 0;
};

// A batch for as long as it lives.
class Batch {
 public:
  explicit Batch(Backend* backend) : backend_(backend) {
    backend_->BeginBatch();
  }
  ~Batch() { backend_->EndBatch(); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

 private:
  Backend* const backend_;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_BACKEND_H_
