// Device is a virtio block device: one disk behind virtqueues. Each group of
// queues has a backend of its own, all of the same disk, and its own slots.
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
// THREADS  The service's loop; of a group's requests, the group's thread.
// SPEC     VIRTIO 1.2 §5.2.

#ifndef BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_
#define BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

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
  // A backend for each group of queues, at most as many as queues.
  Device(ServiceContext& context,
         std::vector<std::unique_ptr<block::Backend>> backends,
         const Options& options);

  absl::Span<const std::byte> State() const override;
  bool LoadState(absl::Span<const std::byte> state) override;
  void ReportStatistics(Statistics* statistics) const override;

 protected:
  unsigned Serve(unsigned index, virtio::Queue& queue,
                 unsigned budget) override;
  bool Poll(unsigned group) override;
  bool HasRoom(unsigned group) const override {
    return groups_[group].free != nullptr;
  }
  size_t in_flight(unsigned index) const override { return per_queue_[index]; }
  size_t in_flight_of_group(unsigned group) const override {
    return groups_[group].in_flight;
  }
  size_t in_flight() const override;
  void DropHeld() override;
  void Drain() override;
  // The disk has grown, and the driver is to know.
  bool WantsRest() override;
  void AtRest() override;
  absl::Span<const uint8_t> device_config() const override;
  void WriteDeviceConfig(uint64_t offset, unsigned size_bytes,
                         uint64_t value) override;
  void FeaturesChanged(uint64_t features) override;

 private:
  struct Group;

  // One chain from its Pop to its Complete.
  struct Slot {
    block::Request request;
    virtio::Chain chain;
    Device* device;
    Group* group;
    uint8_t* status;  // in guest memory
    Slot* next;
    uint32_t type;
    uint32_t written_bytes;  // of data
    uint16_t queue;
    uint16_t range;  // discard, write zeroes: the next
    uint16_t range_count;
    std::array<Range, kMaxRanges> ranges;
  };

  struct alignas(64) Group {
    std::unique_ptr<block::Backend> backend;
    std::unique_ptr<Slot[]> slots;
    // Of all slots; touched as far as used.
    std::unique_ptr<iovec[]> segments;
    Slot* free = nullptr;
    size_t in_flight = 0;
    uint64_t failed_requests = 0;
    uint64_t refused_requests = 0;
  };

  struct SavedState {
    virtio::TransportState transport;
    uint8_t writeback;
    uint8_t reserved[7];
  };
  static_assert(std::is_trivially_copyable_v<SavedState>);

  static virtio::DeviceKind MakeKind(const block::Geometry& geometry,
                                     unsigned groups, const Options& options);
  void FillConfig();
  void SetWriteCache(bool enabled);
  const block::Geometry& geometry() const {
    return groups_[0].backend->geometry();
  }

  // requests.cc
  void Begin(Slot* slot);
  void Move(Slot* slot, uint64_t sector);
  void StartRanges(Slot* slot);
  bool NextRange(Slot* slot);
  void Submit(Slot* slot, block::Operation operation, uint64_t offset_bytes,
              uint64_t length_bytes);
  void GetId(Slot* slot);
  void Refuse(Slot* slot, uint8_t status);
  void Finish(Slot* slot, uint8_t status);
  static void OnDone(block::Request* request);
  bool InCapacity(uint64_t sector, uint64_t bytes) const;

  SavedState state_ = {};
  const Options options_;
  const std::unique_ptr<Group[]> groups_;
  const unsigned group_count_;
  Config config_ = {};
  std::array<size_t, virtio::kMaxQueues> per_queue_ = {};
};

}  // namespace bulkhead::virtio_blk

#endif  // BULKHEAD_SERVICES_VIRTIO_BLK_DEVICE_H_
