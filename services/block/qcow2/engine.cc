#include "services/block/qcow2/engine.h"

#include <string.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/frame.pb.h"
#include "services/block/request_check.h"

namespace bulkhead::block::qcow2 {
namespace {

constexpr uint64_t kBounceBytes = 4 << 20;
constexpr uint64_t kMinBounces = 2;
constexpr uint64_t kMaxBounces = 64;
// Op steps between two looks at anything else.
constexpr unsigned kDrainBudget = 1024;

}  // namespace

// ---- Opening

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::vector<Layer> layers, std::unique_ptr<WorkerPool> pool,
    const EngineOptions& options) {
  std::unique_ptr<Engine> engine(
      new Engine(std::move(layers), std::move(pool), options));
  if (!options.read_only) {
    if (absl::Status s = engine->PrepareWriting(); !s.ok()) return s;
  }
  return engine;
}

Engine::Engine(std::vector<Layer> layers, std::unique_ptr<WorkerPool> pool,
               const EngineOptions& options)
    : layers_(std::move(layers)),
      pool_(std::move(pool)),
      queue_(pool_.get()),
      options_(options),
      cluster_bytes_(active().header().cluster_bytes()),
      segment_memory_(new iovec[kMaxInFlight * kMaxSegments]) {
  const uint64_t size = active().header().size_bytes;
  geometry_.capacity_bytes = size / kSectorBytes * kSectorBytes;
  geometry_.read_only = options.read_only;
  geometry_.can_discard = !options.read_only;
  geometry_.can_write_zeroes = !options.read_only;
  geometry_.optimal_bytes =
      static_cast<uint32_t>(std::min<uint64_t>(cluster_bytes_, 64 << 10));
  geometry_.discard_granularity_bytes =
      static_cast<uint32_t>(active().header().subcluster_bytes());
  if (layers_.size() > 1) {
    below_.reset(
        static_cast<Below*>(std::calloc(kBelowEntries, sizeof(Below))));
  }
  ops_.reserve(kMaxInFlight);
  std::vector<const Coding*> codings;
  bool with_zstd = false;
  for (const Layer& layer : layers_) {
    if (layer.image == nullptr) continue;
    codings.push_back(&layer.image->coding());
    with_zstd |= layer.image->header().compression == kZstd;
  }
  decoded_ = std::make_unique<DecodedCache>(
      codings, options.decoded_cache_bytes, with_zstd);
}

// Writing needs refcounts that can be believed as far as metadata goes: an
// uncounted table would be handed out as a free cluster.
absl::Status Engine::PrepareWriting() {
  Image& image = active();
  if (image.header().version == 1) {
    return absl::UnimplementedError("version 1 images are read-only here");
  }
  if (image.header().encrypted()) {
    return absl::UnimplementedError(
        "images with legacy AES encryption are read-only here");
  }
  auto refcounts = Refcounts::Open(&image.file(), image.header());
  if (!refcounts.ok()) return refcounts.status();
  refcounts_ = *std::move(refcounts);
  bool counted = true;
  const bool read = image.metadata().ForEach([&](uint64_t cluster) {
    uint64_t count = 0;
    const bool ok = refcounts_->Get(cluster, &count) == 0;
    counted &= count > 0;
    return ok;
  });
  if (!read) return absl::InvalidArgumentError("its refcounts cannot be read");
  if (!counted) {
    return absl::InvalidArgumentError(
        "its refcounts call metadata free; qemu-img check -r all repairs that");
  }
  image.ReserveGrowth();
  bookkeeper_ = std::make_unique<Bookkeeper>(&image, refcounts_.get());
  order_.reset(new OrderWork);  // not zeroed: its tables are large
  order_->engine = this;
  publications_.reserve(kMaxPublications);
  releases_.reserve(kMaxReleases);
  const uint64_t bounces =
      std::clamp(kBounceBytes / cluster_bytes_, kMinBounces, kMaxBounces);
  bounce_memory_.reset(new uint8_t[bounces * cluster_bytes_]);
  for (uint64_t i = 0; i < bounces; ++i) {
    free_bounces_.push_back(&bounce_memory_[i * cluster_bytes_]);
  }
  return absl::OkStatus();
}

Engine::~Engine() { Close(); }

// ---- Requests

void Engine::Submit(Request* request) {
  ++in_flight_;
  Begin(request);
  if (!draining_) Drain();
}

size_t Engine::Poll() {
  const size_t before = in_flight_;
  pool_->Poll();
  if (!draining_) Drain();
  return before > in_flight_ ? before - in_flight_ : 0;
}

void Engine::Begin(Request* request) {
  IoStatus status = CheckRequest(*request, geometry_);
  if (status == IoStatus::kOk && free_ops_ == nullptr &&
      ops_.size() == kMaxInFlight) {
    status = IoStatus::kInvalid;
  }
  if (status != IoStatus::kOk) {
    request->status = status;
    --in_flight_;
    request->done(request);
    return;
  }
  Op* op = TakeOp();
  op->request = request;
  op->failed = IoStatus::kOk;
  op->data.offset = request->offset_bytes;
  op->data.end = request->offset_bytes + request->length_bytes;
  op->data.cursor = SegmentCursor(request->segments, request->segment_count);
  op->flush_at_end =
      (request->force_unit_access || !write_cache_) && !options_.ignore_flush;
  switch (request->operation) {
    case Operation::kRead:
      op->reading = &op->data;
      op->after_read = &Engine::CompleteOk;
      op->step = &Engine::ReadStep;
      break;
    case Operation::kWrite:
      op->after_write = &Engine::CompleteData;
      op->step = &Engine::WriteStep;
      break;
    case Operation::kFlush:
      op->step = &Engine::FlushStep;
      break;
    case Operation::kDiscard:
    case Operation::kWriteZeroes:
      op->step = &Engine::ZeroStep;
      break;
  }
  if (growth_ != nullptr) {
    held_by_growth_.Append(op);
    return;
  }
  LinkNewest(op);
  ready_.Append(op);
}

// An op is made when it is first needed, in memory that is there: most disks
// never have many requests under way.
Engine::Op* Engine::TakeOp() {
  if (free_ops_ == nullptr) {
    Op& op = ops_.emplace_back();
    op.engine = this;
    op.segments = &segment_memory_[(ops_.size() - 1) * kMaxSegments];
    return &op;
  }
  Op* op = free_ops_;
  free_ops_ = op->next;
  op->next = nullptr;
  return op;
}

void Engine::Drain() {
  draining_ = true;
  unsigned budget = kDrainBudget;
  do {
    while (!ready_.empty() && budget > 0) {
      --budget;
      Advance(ready_.TakeFirst());
    }
    KickBookkeeper();
  } while (!ready_.empty() && budget > 0);
  if (!ready_.empty()) pool_->Wake();
  draining_ = false;
}

void Engine::Advance(Op* op) {
  if (op->failed != IoStatus::kOk) {
    Fail(op, op->failed);
    return;
  }
  while ((this->*op->step)(op) == Next::kGoOn) {
  }
}

Engine::Next Engine::Complete(Op* op, IoStatus status) {
  Request* request = op->request;
  if (status == IoStatus::kCorrupt) ++corrupt_requests_;
  Unlink(op);
  op->next = free_ops_;
  free_ops_ = op;
  --in_flight_;
  request->status = status;
  request->done(request);
  return Next::kWait;
}

Engine::Next Engine::Fail(Op* op, IoStatus status) {
  if (op->fresh && op->new_clusters > 0) {
    // Nothing refers to them; what they hold is not known.
    AddRelease(op->host_offset / cluster_bytes_, op->new_clusters,
               /*may_punch=*/true);
  }
  LetGo(op);
  return Complete(op, status);
}

Engine::Next Engine::CompleteData(Op* op) {
  if (op->flush_at_end) {
    op->step = &Engine::FlushStep;
    return Next::kGoOn;
  }
  return Complete(op, IoStatus::kOk);
}

Engine::Next Engine::FlushStep(Op* op) {
  const bool nothing_to_do =
      !dirty_ && publications_.empty() && !order_running_ && !sync_failed_;
  if (options_.ignore_flush || options_.read_only || nothing_to_do) {
    return Complete(op, IoStatus::kOk);
  }
  return WaitIn(&flush_waiters_, op);
}

// ---- Who is in flight, and who waits

void Engine::LinkNewest(Op* op) {
  op->number = ++last_number_;
  op->older = newest_;
  op->newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = op;
  newest_ = op;
}

void Engine::Unlink(Op* op) {
  (op->older != nullptr ? op->older->newer : oldest_) = op->newer;
  (op->newer != nullptr ? op->newer->older : newest_) = op->older;
}

void Engine::Renumber(Op* op) {
  Unlink(op);
  LinkNewest(op);
}

void Engine::OpList::Append(Op* op) {
  op->next = nullptr;
  (last != nullptr ? last->next : first) = op;
  last = op;
}

void Engine::OpList::Append(OpList* list) {
  if (list->first == nullptr) return;
  (last != nullptr ? last->next : first) = list->first;
  last = list->last;
  *list = OpList{};
}

Engine::Op* Engine::OpList::TakeFirst() {
  Op* op = first;
  first = op->next;
  if (first == nullptr) last = nullptr;
  op->next = nullptr;
  return op;
}

Engine::Next Engine::WaitIn(OpList* list, Op* op) {
  list->Append(op);
  return Next::kWait;
}

void Engine::Resume(OpList* list) { ready_.Append(list); }

void Engine::FailAll(OpList* list, IoStatus status) {
  for (Op* op = list->first; op != nullptr; op = op->next) {
    op->failed = status;
  }
  Resume(list);
}

void Engine::Resume(void** waiters, IoStatus failed) {
  Op* op = static_cast<Op*>(*waiters);
  *waiters = nullptr;
  while (op != nullptr) {
    Op* next = op->next;
    op->failed = failed;
    ready_.Append(op);
    op = next;
  }
}

void Engine::AppendWaiter(void** waiters, Op* op) {
  op->next = static_cast<Op*>(*waiters);
  *waiters = op;
}

// ---- File operations

Engine::Next Engine::StartFile(Op* op, Step then) {
  op->step = then;
  op->work.owner = op;
  op->work.finished = OnFileFinished;
  return queue_.Start(&op->work) ? Next::kGoOn : Next::kWait;
}

void Engine::OnFileFinished(FileWork* work) {
  Op* op = static_cast<Op*>(work->owner);
  if (!op->engine->closing_) op->engine->ready_.Append(op);
}

void Engine::PrepareWork(Op* op, FileOperation operation, size_t layer,
                         uint64_t host_offset, Transfer* transfer,
                         uint64_t bytes) {
  FileWork& work = op->work;
  const Request& request = *op->request;
  if (transfer == &op->data && bytes == request.length_bytes &&
      (request.operation == Operation::kRead ||
       request.operation == Operation::kWrite)) {
    work.segments = request.segments;
    work.segment_count = request.segment_count;
  } else {
    uint64_t peeked = 0;
    work.segments = op->segments;
    work.segment_count =
        transfer->cursor.Peek(op->segments, kMaxSegments, bytes, &peeked);
  }
  const uint64_t file_bytes = layers_[layer].file_bytes();
  const uint64_t end = host_offset + bytes;
  work.file = &layers_[layer].file();
  work.operation = operation;
  work.durable = false;
  work.offset_bytes = host_offset;
  work.length_bytes = bytes;
  work.may_miss_bytes = end > file_bytes ? end - file_bytes : 0;
  op->moving_bytes = bytes;
}

void Engine::PrepareBuffer(Op* op, FileOperation operation,
                           uint64_t host_offset, void* buffer, uint64_t bytes) {
  FileWork& work = op->work;
  op->segments[0] = {buffer, bytes};
  work.segments = op->segments;
  work.segment_count = 1;
  work.file = &active().file();
  work.operation = operation;
  work.durable = false;
  work.offset_bytes = host_offset;
  work.length_bytes = bytes;
  work.may_miss_bytes = 0;
}

void Engine::ReportStatistics(Statistics* statistics) const {
  const auto add = [statistics](const char* name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  add("qcow2_corrupt_requests", corrupt_requests_);
  add("qcow2_leaked_clusters", leaked_clusters_);
  add("block_ring_enters", pool_->ring_enters());
}

}  // namespace bulkhead::block::qcow2
