#include "services/block/ring.h"

#include <errno.h>
#include <liburing.h>
#include <string.h>

#include <utility>

#include "services/block/backend.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block {
namespace {

// The newest flags first; an older kernel is content with fewer.
constexpr unsigned kFlags[] = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_R_DISABLED,
};

absl::Status Failed(int error, const char* step) {
  return absl::ErrnoToStatus(error, step);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(int event_fd) {
  auto ring = std::make_unique<io_uring>();
  int result = -EINVAL;
  for (const unsigned flags : kFlags) {
    result = io_uring_queue_init(kMaxInFlight, ring.get(), flags);
    if (result != -EINVAL) break;
  }
  if (result < 0) return Failed(-result, "io_uring_setup");
  std::unique_ptr<Ring> made(new Ring(std::move(ring)));
  result = io_uring_register_eventfd(made->ring_.get(), event_fd);
  if (result < 0) return Failed(-result, "io_uring: its eventfd");
  return made;
}

Ring::Ring(std::unique_ptr<io_uring> ring) : ring_(std::move(ring)) {}

// Under the steady filter the memory stays mapped: unmapping is refused there,
// and the process is about to end.
Ring::~Ring() = default;

int Ring::AddFile(int fd) {
  files_.push_back(fd);
  return static_cast<int>(files_.size()) - 1;
}

absl::Status Ring::Enable() {
  int result = io_uring_register_files(ring_.get(), files_.data(),
                                       static_cast<unsigned>(files_.size()));
  if (result < 0) return Failed(-result, "io_uring: its files");
  io_uring_restriction allowed[5];
  memset(allowed, 0, sizeof(allowed));
  constexpr uint8_t kOperations[] = {IORING_OP_READV, IORING_OP_WRITEV,
                                     IORING_OP_FSYNC};
  for (size_t i = 0; i < 3; ++i) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = kOperations[i];
  }
  allowed[3].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  allowed[3].sqe_flags = IOSQE_FIXED_FILE;
  allowed[4].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  allowed[4].sqe_flags = IOSQE_FIXED_FILE;
  result = io_uring_register_restrictions(ring_.get(), allowed, 5);
  if (result < 0) return Failed(-result, "io_uring: its restrictions");
  result = io_uring_enable_rings(ring_.get());
  if (result < 0) return Failed(-result, "io_uring: enabling it");
  return absl::OkStatus();
}

bool Ring::Submit(Work* work, RingOperation operation, int file,
                  const iovec* segments, size_t count, uint64_t offset_bytes) {
  io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
  if (entry == nullptr) return false;
  const auto segment_count = static_cast<unsigned>(count);
  switch (operation) {
    case RingOperation::kRead:
      io_uring_prep_readv(entry, file, segments, segment_count, offset_bytes);
      break;
    case RingOperation::kWrite:
      io_uring_prep_writev(entry, file, segments, segment_count, offset_bytes);
      break;
    case RingOperation::kSync:
      io_uring_prep_fsync(entry, file, IORING_FSYNC_DATASYNC);
      break;
  }
  entry->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data(entry, work);
  ++in_flight_;
  unsubmitted_ = true;
  if (!held_) Release();
  return true;
}

void Ring::Release() {
  held_ = false;
  if (!unsubmitted_) return;
  unsubmitted_ = false;
  ++enters_;
  // What is not taken now (EAGAIN, EBUSY) goes with the next.
  if (io_uring_submit(ring_.get()) < 0 || io_uring_sq_ready(ring_.get()) > 0) {
    unsubmitted_ = true;
  }
}

Work* Ring::Take() {
  io_uring_cqe* entry = nullptr;
  if (in_flight_ == 0 || io_uring_peek_cqe(ring_.get(), &entry) != 0) {
    return nullptr;
  }
  auto* work = static_cast<Work*>(io_uring_cqe_get_data(entry));
  work->result = entry->res;
  io_uring_cqe_seen(ring_.get(), entry);
  --in_flight_;
  // The kernel sets the event after the entry: it may be still to come.
  stale_event_ = true;
  return work;
}

void Ring::Wait() {
  io_uring_cqe* entry = nullptr;
  Release();
  (void)io_uring_wait_cqe(ring_.get(), &entry);
}

absl::Status ProbeRing() {
  io_uring ring;
  const int result = io_uring_queue_init(1, &ring, IORING_SETUP_R_DISABLED);
  if (result < 0) return Failed(-result, "io_uring_setup");
  io_uring_queue_exit(&ring);
  return absl::OkStatus();
}

}  // namespace bulkhead::block
