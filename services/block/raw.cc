#include "services/block/raw.h"

#include <errno.h>
#include <string.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/frame.pb.h"
#include "services/block/growth_check.h"
#include "services/block/request_check.h"

namespace bulkhead::block {
namespace {

// Requests that complete at once and submit the next from inside their
// completion: after so many, others get their turn.
constexpr size_t kDrainBudget = 128;

}  // namespace

absl::StatusOr<std::unique_ptr<RawBackend>> RawBackend::Create(
    std::shared_ptr<FileIo> file, std::unique_ptr<WorkerPool> pool,
    const RawOptions& options) {
  const int64_t bytes = file->Size();
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "its size cannot be told: ", strerror(static_cast<int>(-bytes))));
  }
  if (bytes == 0) return absl::InvalidArgumentError("it is empty");
  return std::unique_ptr<RawBackend>(new RawBackend(
      std::move(file), std::move(pool), options, static_cast<uint64_t>(bytes)));
}

RawBackend::RawBackend(std::shared_ptr<FileIo> file,
                       std::unique_ptr<WorkerPool> pool,
                       const RawOptions& options, uint64_t file_bytes)
    : file_(std::move(file)),
      pool_(std::move(pool)),
      queue_(pool_.get()),
      options_(options) {
  // A last sector that the file holds only in part ends in zeroes.
  geometry_.capacity_bytes =
      (file_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  tail_bytes_ = geometry_.capacity_bytes - file_bytes;
  geometry_.read_only = options.read_only;
  geometry_.can_discard = !options.read_only;
  geometry_.can_write_zeroes = !options.read_only;
  geometry_.discard_granularity_bytes = 4096;
  for (Slot& slot : slots_) {
    slot.next_free = free_;
    free_ = &slot;
  }
}

RawBackend::~RawBackend() = default;

void RawBackend::Submit(Request* request) {
  request->next = nullptr;
  ++in_flight_;
  if (in_completion_) {
    // The call that it comes from goes on with it: nothing recurses.
    (postponed_last_ != nullptr ? postponed_last_->next : postponed_first_) =
        request;
    postponed_last_ = request;
    return;
  }
  Start(request);
  if (postponed_first_ != nullptr) Drain();
}

size_t RawBackend::Poll() {
  const Batch batch(this);
  const size_t polled = pool_->Poll();
  return polled + Drain();
}

// Starts what came from inside completions; returns how many.
size_t RawBackend::Drain() {
  size_t started = 0;
  while (postponed_first_ != nullptr && started < kDrainBudget) {
    Request* request = postponed_first_;
    postponed_first_ = request->next;
    if (postponed_first_ == nullptr) postponed_last_ = nullptr;
    request->next = nullptr;
    Start(request);
    ++started;
  }
  if (postponed_first_ != nullptr) pool_->Wake();
  return started;
}

void RawBackend::Start(Request* request) {
  IoStatus status = CheckRequest(*request, geometry_);
  if (status == IoStatus::kOk && free_ == nullptr) status = IoStatus::kInvalid;
  if (status != IoStatus::kOk) {
    Finish(request, status);
    return;
  }
  Slot* slot = free_;
  if (!Prepare(*request, slot)) {
    Finish(request, IoStatus::kOk);
    return;
  }
  free_ = slot->next_free;
  slot->request = request;
  slot->owner = this;
  slot->finished = OnFinished;
  if (queue_.Start(slot)) OnFinished(slot);
}

// False: there is nothing to do.
bool RawBackend::Prepare(const Request& request, Slot* slot) const {
  slot->file = file_.get();
  slot->segments = request.segments;
  slot->segment_count = request.segment_count;
  slot->offset_bytes = request.offset_bytes;
  slot->length_bytes = request.length_bytes;
  slot->may_miss_bytes = 0;
  const bool durable =
      (request.force_unit_access || !write_cache_) && !options_.ignore_flush;
  slot->durable = durable;
  switch (request.operation) {
    case Operation::kRead:
      // The file's last sector, and no more, may be incomplete.
      if (request.offset_bytes + request.length_bytes ==
          geometry_.capacity_bytes) {
        slot->may_miss_bytes = tail_bytes_;
      }
      slot->operation = FileOperation::kRead;
      break;
    case Operation::kWrite:
      slot->operation =
          durable ? FileOperation::kDurableWrite : FileOperation::kWrite;
      break;
    case Operation::kFlush:
      slot->operation = FileOperation::kSync;
      slot->length_bytes = 0;
      return !options_.ignore_flush && !options_.read_only;
    case Operation::kDiscard:
      slot->operation = FileOperation::kPunchHole;
      break;
    case Operation::kWriteZeroes:
      slot->operation = request.may_unmap ? FileOperation::kPunchZeroes
                                          : FileOperation::kWriteZeroes;
      break;
  }
  return request.length_bytes > 0;
}

void RawBackend::ReportStatistics(Statistics* statistics) const {
  Statistic* counter = statistics->add_counters();
  counter->set_name("block_ring_enters");
  counter->set_value(pool_->ring_enters());
}

void RawBackend::OnFinished(FileWork* work) {
  Slot* slot = static_cast<Slot*>(work);
  RawBackend* self = static_cast<RawBackend*>(slot->owner);
  Request* request = slot->request;
  slot->next_free = self->free_;
  self->free_ = slot;
  self->Finish(request, StatusOfErrno(slot->error));
}

void RawBackend::Finish(Request* request, IoStatus status) {
  request->status = status;
  --in_flight_;
  const bool outer = !in_completion_;
  in_completion_ = true;
  request->done(request);
  if (outer) in_completion_ = false;
}

// ---- Growing

void RawBackend::Grow(Growth* growth) {
  const uint64_t size = growth->size_bytes;
  if (absl::Status s = CheckGrowth(size, geometry_); !s.ok()) {
    growth->End(s);
    return;
  }
  // As at opening: a write to its last sector would make the file longer.
  const uint32_t whole = file_->direct_bytes();
  if (whole != 0 && !options_.read_only && size % whole != 0) {
    growth->End(absl::InvalidArgumentError(absl::StrCat(
        "direct: ", size, " bytes are not a multiple of ", whole)));
    return;
  }
  growth_.self = this;
  growth_.growth = growth;
  growth_.run = GrowFile;
  growth_.done = OnGrown;
  pool_->Post(&growth_);
}

// Somebody may have made the file, or the device, longer already: its last
// sector tells, and then nothing is to be done. To ask for the size would take
// a system call that nothing else needs.
void RawBackend::GrowFile(Work* work) {
  auto* growth = static_cast<GrowthWork*>(work);
  RawBackend& self = *growth->self;
  const uint64_t size = growth->growth->size_bytes;
  alignas(4096) uint8_t sector[4096];
  const uint64_t whole =
      size % sizeof(sector) == 0 ? sizeof(sector) : uint64_t{kSectorBytes};
  growth->error =
      ReadBytes(*self.file_, sector, whole, size - whole, BeyondEnd::kFails);
  if (growth->error != -ENODATA || self.options_.read_only) return;
  // The guest's next flush covers it: a sync here could swallow the one report
  // of a write-back that failed.
  growth->error = self.file_->Truncate(size);
}

void RawBackend::OnGrown(Work* work) {
  auto* growth = static_cast<GrowthWork*>(work);
  RawBackend& self = *growth->self;
  if (growth->error == 0) self.SetCapacity(growth->growth->size_bytes);
  growth->growth->End(GrowthStatus(growth->error));
}

void RawBackend::SetCapacity(uint64_t bytes) {
  geometry_.capacity_bytes = bytes;
  tail_bytes_ = 0;
}

}  // namespace bulkhead::block
