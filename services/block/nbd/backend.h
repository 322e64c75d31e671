// NbdBackend is a disk on an NBD server.
//
// The service cannot connect: the launcher does, and hands sockets in over the
// connector (proto/backend_connector.h). Reconnecting, and why no acknowledged
// write is lost by it: client.h.
//
// TRUST    The server is hostile; requests are checked as everywhere.
// ERRORS   See Backend. kUnavailable: the server stayed away for too long.
// THREADS  The loop; the network on a thread of the backend's own.

#ifndef BULKHEAD_SERVICES_BLOCK_NBD_BACKEND_H_
#define BULKHEAD_SERVICES_BLOCK_NBD_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/block/backend.h"
#include "services/block/nbd/client.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block::nbd {

class NbdBackend final : public Backend {
 public:
  // Set-up: waits for the first connection until `deadline_ns`.
  static absl::StatusOr<std::unique_ptr<NbdBackend>> Create(
      int connector, const ClientOptions& options, uint64_t deadline_ns,
      AtEnd at_end);
  // Waits for what is in flight.
  ~NbdBackend() override;

  const Geometry& geometry() const override { return geometry_; }
  void Submit(Request* request) override;
  size_t Poll() override;
  int event_fd() const override;
  void Wake() override;
  size_t in_flight() const override { return in_flight_; }
  void Grow(Growth* growth) override {
    growth->End(absl::FailedPreconditionError(
        "the size of an NBD export is taken when its VM starts"));
  }
  void SetWriteCache(bool enabled) override;
  void ReportStatistics(Statistics* statistics) const override;

 private:
  // The thread's, which outlives the backend when it is parked.
  struct Shared;

  NbdBackend(std::shared_ptr<Shared> shared, AtEnd at_end);
  absl::Status StartThread();

  std::shared_ptr<Shared> shared_;
  const AtEnd at_end_;
  Geometry geometry_;
  size_t in_flight_ = 0;
  Request* refused_first_ = nullptr;
  Request* refused_last_ = nullptr;
};

}  // namespace bulkhead::block::nbd

#endif  // BULKHEAD_SERVICES_BLOCK_NBD_BACKEND_H_
