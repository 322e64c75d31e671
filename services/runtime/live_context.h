// LiveContext is the ServiceContext of a real service.
//
// TRUST    As ServiceContext says.
// ERRORS   Create: what GuestMemory::Create and the kernel refuse.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_LIVE_CONTEXT_H_
#define BULKHEAD_SERVICES_RUNTIME_LIVE_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/channel.h"
#include "proto/shadow.h"
#include "services/runtime/eventfd_interrupts.h"
#include "services/runtime/growth.h"
#include "services/runtime/log.h"
#include "services/runtime/service_context.h"
#include "services/runtime/shared_pages.h"

namespace bulkhead {

class LiveContext : public ServiceContext {
 public:
  static constexpr size_t kMaxWatched = 64;

  struct Watched {
    int fd;
    unsigned group;
  };

  // `control` outlives this; Fail sends its last words there.
  static absl::StatusOr<std::unique_ptr<LiveContext>> Create(GuestMemory memory,
                                                             Channel& control,
                                                             int log_fd);

  // Once, when the device is built: makes its doorbells' pages and its
  // interrupt vectors.
  absl::Status Adopt(const DeviceDescription& description);

  // ServiceContext:
  GuestMemory& memory() override { return memory_; }
  Interrupts& interrupts() override { return interrupts_; }
  absl::Span<uint8_t> shadow_image() override {
    return shadow_.bytes().subspan(sizeof(ShadowHeader));
  }
  absl::Span<uint8_t> doorbell(size_t index) override;
  Nanoseconds Now() override;
  void Watch(int fd, unsigned group) override;
  void AddDisk(Growable* disk) override { disks_.push_back(disk); }
  void Log(absl::string_view line) override { log_.Write(Now(), line); }
  [[noreturn]] void Fail(absl::string_view why) override;

  // The server's side.
  EventfdInterrupts& eventfd_interrupts() { return interrupts_; }
  ShadowHeader& shadow() {
    return *reinterpret_cast<ShadowHeader*>(shadow_.bytes().data());
  }
  const std::vector<Watched>& watched() const { return watched_; }
  const std::vector<Growable*>& disks() const { return disks_; }
  bool has_doorbells() const { return !doorbells_.empty(); }
  const bulkhead::Log& log() const { return log_; }
  // What Hello carries: the shadow memfd, then the doorbells'.
  const std::vector<int>& shared_fds() const { return shared_fds_; }

 private:
  struct Doorbell {
    SharedPages pages;
    uint64_t offset;
    uint64_t size_bytes;
  };

  LiveContext(GuestMemory memory, SharedPages shadow, Channel& control,
              int log_fd);

  GuestMemory memory_;
  SharedPages shadow_;
  Channel& control_;
  bulkhead::Log log_;
  EventfdInterrupts interrupts_;
  std::vector<Doorbell> doorbells_;
  std::vector<Watched> watched_;
  std::vector<Growable*> disks_;
  std::vector<int> shared_fds_;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_LIVE_CONTEXT_H_
