// Device is a virtio block device: one backend behind virtqueues.
//
// A chain becomes one block::Request whose segments are the guest's own pages:
// no copy, no allocation, no lock on the way of a read or a write.
//
// TRUST    Headers and ranges are copied out of guest memory once, then
// checked.
//          Data is the guest's, goes past unread, and may change meanwhile.
// ERRORS   A driver's mistake is answered with VIRTIO_BLK_S_IOERR or _UNSUPP; a
//          chain without a place for the status is DEVICE_NEEDS_RESET. So are
//          the backend's failures: VIRTIO_BLK_S_IOERR.
// THREADS  The service's loop.
// SPEC     VIRTIO 1.2 §5.2.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "absl/types/span.h"
#include "services/block/backend.h"
#include "services/virtio/transport.h"
#include "services/virtio_blk/spec.h"

namespace bulkhead::virtio_blk {

struct Options {
  unsigned queues = 1;
  uint16_t queue_size = virtio::kMaxQueueSize;
  uint32_t block_size_bytes = 512;
  bool packed = true;     // offer packed virtqueues
  bool in_order = false;  // offer IN_ORDER: a slow request holds up fast ones
  std::string serial;     // at most kIdBytes
};

class Device final : public virtio::Transport {
 public:
  Device(ServiceContext& context, std::unique_ptr<block::Backend> backend,
         const Options& options);

  absl::Span<const std::byte> State() const override;
  bool LoadState(absl::Span<const std::byte> state) override;
  void ReportStatistics(Statistics* statistics) const override;

 protected:
  unsigned Serve(unsigned index, virtio::Queue& queue,
                 unsigned budget) override;
  bool Poll() override;
  bool HasRoom() const override { return free_ != nullptr; }
  size_t in_flight(unsigned index) const override { return per_queue_[index]; }
  size_t in_flight() const override { return in_flight_; }
  void Drain() override;
  absl::Span<const uint8_t> device_config() const override;
  void WriteDeviceConfig(uint64_t offset, unsigned size_bytes,
                         uint64_t value) override;
  void FeaturesChanged(uint64_t features) override;

 private:
  // One chain from its Pop to its Complete.
  struct Slot {
    block::Request request;
    virtio::Chain chain;
    Device* device;
    uint8_t* status;  // in guest memory
    Slot* next;
    uint32_t type;
    uint32_t written_bytes;  // of data
    uint16_t queue;
    uint16_t range;  // discard, write zeroes: the next
    uint16_t range_count;
    std::array<Range, kMaxRanges> ranges;
  };

  struct SavedState {
    virtio::TransportState transport;
    uint8_t writeback;
    uint8_t reserved[7];
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  static virtio::DeviceKind MakeKind(const block::Geometry& geometry,
                                     const Options& options);
  void FillConfig();
  void FollowBackend();

  // requests.cc
  void Begin(Slot* slot);
  void Move(Slot* slot, uint64_t sector);
  void StartRanges(Slot* slot);
  bool NextRange(Slot* slot);
  void Submit(Slot* slot, block::Operation operation, uint64_t offset_bytes,
              uint64_t length_bytes);
  void GetId(Slot* slot);
  void Finish(Slot* slot, uint8_t status);
  static void OnDone(block::Request* request);
  bool InCapacity(uint64_t sector, uint64_t bytes) const;

  SavedState state_ = {};
  const Options options_;
  const std::unique_ptr<block::Backend> backend_;
  Config config_ = {};
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<iovec[]> segments_;  // of all slots; touched as far as used
  Slot* free_ = nullptr;
  size_t in_flight_ = 0;
  std::array<size_t, virtio::kMaxQueues> per_queue_ = {};
  uint64_t failed_requests_ = 0;
  uint64_t refused_requests_ = 0;
};

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_
