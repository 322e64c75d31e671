#include "services/block/nbd/backend.h"

#include <errno.h>
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "proto/frame.pb.h"
#include "services/block/nbd/mailbox.h"
#include "services/block/request_check.h"

namespace bulkhead::block::nbd {
namespace {

constexpr size_t kStackBytes = 256 << 10;

}  // namespace

struct NbdBackend::Shared {
  Shared(int connector, const ClientOptions& options)
      : client(&mailbox, connector, options) {}

  Mailbox mailbox;
  Client client;
  pthread_t thread = {};
  bool has_thread = false;
  std::mutex mutex;
  std::condition_variable changed;
  bool started = false;
  bool ended = false;

  static void* Main(void* argument) {
    auto* shared = static_cast<Shared*>(argument);
    shared->Tell(&Shared::started);
    shared->client.Run();
    shared->Tell(&Shared::ended);
    return nullptr;
  }

  // A thread of a locked-down process may not end (it takes munmap and exit).
  static void* MainAndPark(void* argument) {
    Main(argument);
    auto* shared = static_cast<Shared*>(argument);
    std::unique_lock<std::mutex> lock(shared->mutex);
    for (;;) shared->changed.wait(lock);
  }

  void Tell(bool Shared::*what) {
    std::lock_guard<std::mutex> lock(mutex);
    this->*what = true;
    changed.notify_all();
  }
  void WaitFor(bool Shared::*what) {
    std::unique_lock<std::mutex> lock(mutex);
    while (!(this->*what)) changed.wait(lock);
  }
};

absl::StatusOr<std::unique_ptr<NbdBackend>> NbdBackend::Create(
    int connector, const ClientOptions& options, uint64_t deadline_ns,
    AtEnd at_end) {
  auto shared = std::make_shared<Shared>(connector, options);
  if (absl::Status status = shared->mailbox.Open(); !status.ok()) return status;
  if (absl::Status status = shared->client.Connect(deadline_ns); !status.ok()) {
    return status;
  }
  const Facts facts = shared->client.facts();  // the thread's, from here on
  std::unique_ptr<NbdBackend> backend(
      new NbdBackend(std::move(shared), at_end));
  if (absl::Status status = backend->StartThread(); !status.ok()) return status;
  Geometry& geometry = backend->geometry_;
  // A last sector that the export has only in part is not offered.
  geometry.capacity_bytes =
      facts.size_bytes / options.block_bytes * options.block_bytes;
  geometry.read_only = options.read_only;
  geometry.can_discard = !options.read_only && facts.can_trim;
  geometry.can_write_zeroes = !options.read_only;
  geometry.optimal_bytes = static_cast<uint32_t>(
      std::clamp<uint64_t>(facts.best_block_bytes, 512, 1 << 20));
  geometry.discard_granularity_bytes = static_cast<uint32_t>(
      std::clamp<uint64_t>(facts.least_block_bytes, 512, 1 << 20));
  return backend;
}

NbdBackend::NbdBackend(std::shared_ptr<Shared> shared, AtEnd at_end)
    : shared_(std::move(shared)), at_end_(at_end) {}

absl::Status NbdBackend::StartThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  if (at_end_ == AtEnd::kPark) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  }
  const int error = pthread_create(
      &shared_->thread, &attributes,
      at_end_ == AtEnd::kPark ? Shared::MainAndPark : Shared::Main,
      shared_.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) return absl::ErrnoToStatus(error, "starting the NBD thread");
  shared_->has_thread = true;
  // See WorkerPool: a thread's own start is over before the lock-down.
  shared_->WaitFor(&Shared::started);
  return absl::OkStatus();
}

NbdBackend::~NbdBackend() {
  if (!shared_->has_thread) return;
  shared_->mailbox.Stop();
  if (at_end_ == AtEnd::kJoin) {
    pthread_join(shared_->thread, nullptr);
    return;
  }
  shared_->WaitFor(&Shared::ended);
  // The parked thread still waits in it.
  new std::shared_ptr<Shared>(std::move(shared_));
}

void NbdBackend::Submit(Request* request) {
  ++in_flight_;
  const IoStatus status = in_flight_ > kMaxInFlight
                              ? IoStatus::kInvalid
                              : CheckRequest(*request, geometry_);
  if (status == IoStatus::kOk) {
    shared_->mailbox.Put(request);
    return;
  }
  request->status = status;
  request->next = nullptr;
  (refused_last_ != nullptr ? refused_last_->next : refused_first_) = request;
  refused_last_ = request;
  shared_->mailbox.Ring();
}

size_t NbdBackend::Poll() {
  size_t count = 0;
  const auto end_all = [&](Request* request) {
    while (request != nullptr) {
      Request* next = request->next;
      request->next = nullptr;
      --in_flight_;
      ++count;
      request->done(request);
      request = next;
    }
  };
  end_all(shared_->mailbox.TakeEnded());
  Request* refused = refused_first_;
  refused_first_ = refused_last_ = nullptr;
  end_all(refused);
  return count;
}

void NbdBackend::Wake() { shared_->mailbox.Ring(); }

int NbdBackend::event_fd() const { return shared_->mailbox.ended_fd(); }

void NbdBackend::SetWriteCache(bool enabled) {
  shared_->mailbox.SetDurableWrites(!enabled);
}

void NbdBackend::ReportStatistics(Statistics* statistics) const {
  const ClientCounters& counters = shared_->client.counters();
  const auto count = [&](const char* name, uint64_t value) {
    Statistic* counter = statistics->add_counters();
    counter->set_name(name);
    counter->set_value(value);
  };
  count("nbd_connections", counters.connections.load());
  count("nbd_replayed_writes", counters.replayed.load());
  count("nbd_own_flushes", counters.own_flushes.load());
}

}  // namespace bulkhead::block::nbd
