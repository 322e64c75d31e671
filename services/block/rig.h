// Rig drives a Backend in tests: one call per request, or many at a time.
//
// THREADS  The test's.

#ifndef BULKHEAD_SERVICES_BLOCK_RIG_H_
#define BULKHEAD_SERVICES_BLOCK_RIG_H_

#include <poll.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "services/block/backend.h"

namespace bulkhead::block {

// A request with its own buffer.
struct RigRequest : Request {
  std::string data;
  iovec segment = {};
  bool ended = false;
};

class Rig {
 public:
  explicit Rig(std::unique_ptr<Backend> backend)
      : backend_(std::move(backend)) {}

  static std::unique_ptr<RigRequest> Make(Operation operation,
                                          uint64_t offset_bytes,
                                          uint64_t length_bytes,
                                          std::string data = "") {
    auto request = std::make_unique<RigRequest>();
    request->operation = operation;
    request->offset_bytes = offset_bytes;
    request->length_bytes = length_bytes;
    if (operation == Operation::kRead) data.assign(length_bytes, '?');
    request->data = std::move(data);
    request->segment = {request->data.data(), request->data.size()};
    request->segments = &request->segment;
    request->segment_count = request->data.empty() ? 0 : 1;
    request->done = [](Request* r) {
      static_cast<RigRequest*>(r)->ended = true;
    };
    return request;
  }

  void Submit(RigRequest* request) { backend_->Submit(request); }

  // Sleeps until the backend has something to do.
  void PollOnce() {
    pollfd event = {backend_->event_fd(), POLLIN, 0};
    if (event.fd >= 0 && backend_->in_flight() > 0 &&
        poll(&event, 1, kWakeUpLimitMs) == 0) {
      ++missed_wake_ups_;
    }
    backend_->Poll();
  }

  // How often nothing woke us although a request was under way. Where that is
  // not 0, a service's loop would have slept for ever.
  int missed_wake_ups() const { return missed_wake_ups_; }

  IoStatus Finish(RigRequest* request) {
    while (!request->ended) PollOnce();
    return request->status;
  }

  IoStatus Run(std::unique_ptr<RigRequest> request) {
    Submit(request.get());
    return Finish(request.get());
  }

  IoStatus Write(uint64_t offset_bytes, std::string data) {
    const uint64_t length = data.size();
    return Run(Make(Operation::kWrite, offset_bytes, length, std::move(data)));
  }
  IoStatus Read(uint64_t offset_bytes, uint64_t length_bytes,
                std::string* data) {
    auto request = Make(Operation::kRead, offset_bytes, length_bytes);
    Submit(request.get());
    const IoStatus status = Finish(request.get());
    *data = request->data;
    return status;
  }
  // The bytes, or "" when the read failed.
  std::string ReadOk(uint64_t offset_bytes, uint64_t length_bytes) {
    std::string data;
    return Read(offset_bytes, length_bytes, &data) == IoStatus::kOk ? data : "";
  }
  IoStatus Flush() { return Run(Make(Operation::kFlush, 0, 0)); }
  IoStatus Discard(uint64_t offset_bytes, uint64_t length_bytes) {
    return Run(Make(Operation::kDiscard, offset_bytes, length_bytes));
  }
  IoStatus Zero(uint64_t offset_bytes, uint64_t length_bytes, bool may_unmap) {
    auto request = Make(Operation::kWriteZeroes, offset_bytes, length_bytes);
    request->may_unmap = may_unmap;
    return Run(std::move(request));
  }

  // Makes the disk longer, and waits for it.
  absl::Status Grow(uint64_t size_bytes) {
    struct Waited : Growth {
      bool ended = false;
    } growth;
    growth.size_bytes = size_bytes;
    growth.done = [](Growth* g) { static_cast<Waited*>(g)->ended = true; };
    backend_->Grow(&growth);
    while (!growth.ended) PollOnce();
    return growth.status;
  }

  Backend& backend() { return *backend_; }
  // Closes it, as a service that ends does.
  void Close() { backend_.reset(); }

 private:
  static constexpr int kWakeUpLimitMs = 5'000;

  std::unique_ptr<Backend> backend_;
  int missed_wake_ups_ = 0;
};

}  // namespace bulkhead::block

#endif  // BULKHEAD_SERVICES_BLOCK_RIG_H_
