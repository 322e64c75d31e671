#include "services/virtio_blk/testing/rig.h"

#include <algorithm>
#include <cstring>

namespace bulkhead::virtio_blk {
namespace {

constexpr int kTurns = 1000;

}  // namespace

Rig::Rig(const Setup& setup) : setup_(setup), context_(setup.ram_mib) {
  auto backend = std::make_unique<scsi::MemoryBackend>(
      setup.capacity_bytes, std::min(setup.capacity_bytes, kKeptBytes));
  backend->mutable_geometry().read_only = setup.read_only;
  backend_ = backend.get();
  std::vector<std::unique_ptr<block::Backend>> backends;
  backends.push_back(std::move(backend));
  device_ =
      std::make_unique<Device>(context_, std::move(backends), setup.device);
  driver_ = std::make_unique<virtio::PciDriver>(
      [this](uint32_t region, uint64_t offset, unsigned size) {
        return device_->ReadRegion(region, offset, size);
      },
      [this](uint32_t region, uint64_t offset, unsigned size, uint64_t value) {
        device_->WriteRegion(region, offset, size, value);
      });
  driver_->EnableMsix(setup.msix);
}

uint64_t Rig::WantedFeatures() {
  uint64_t features = driver_->DeviceFeatures() & ~setup_.without_features;
  if (!setup_.packed) features &= ~virtio::kFeaturePacked;
  if (!setup_.indirect) features &= ~virtio::kFeatureIndirect;
  if (!setup_.event_index) features &= ~virtio::kFeatureEventIndex;
  return features;
}

bool Rig::Boot() {
  if (!driver_->found() || !driver_->Reset()) return false;
  if (!driver_->Negotiate(WantedFeatures())) return false;
  queues_.clear();
  for (unsigned i = 0; i < setup_.device.queues; ++i) {
    queues_.push_back(std::make_unique<virtio::DriverQueue>(
        virtio::DriverQueue::Options{.ram = ram(),
                                     .at = kRingAt + i * kRingStride,
                                     .size = kQueueSize,
                                     .packed = setup_.packed,
                                     .event_index = setup_.event_index,
                                     .indirect = setup_.indirect}));
    queues_.back()->EnableInterrupts();
    driver_->SetUpQueue(
        static_cast<uint16_t>(i), *queues_.back(),
        setup_.msix ? static_cast<uint16_t>(i + 1) : virtio::kNoVector);
  }
  driver_->Start();
  return (driver_->status() & virtio::kStatusNeedsReset) == 0;
}

void Rig::Run() {
  for (int i = 0; i < kTurns; ++i) {
    const Turn turn = device_->Run(context_.Now());
    if (!turn.busy && !turn.worked) return;
  }
}

bool Rig::Submit(uint16_t queue, uint32_t slot, uint32_t type, uint64_t sector,
                 const std::vector<Buffer>& data) {
  const RequestHeader header = {type, 0u, sector};
  std::memcpy(ram() + kHeaderAt + slot * 16, &header, sizeof header);
  ram()[kStatusAt + slot] = kNoAnswer;
  std::vector<Buffer> buffers = {{kHeaderAt + slot * 16, 16, false}};
  buffers.insert(buffers.end(), data.begin(), data.end());
  buffers.push_back({kStatusAt + slot, 1, true});
  if (!queues_[queue]->Add(buffers, slot)) return false;
  if (queues_[queue]->Publish()) driver_->Notify(queue);
  return true;
}

uint8_t Rig::StatusOf(uint32_t slot) { return ram()[kStatusAt + slot]; }

uint8_t Rig::Do(uint32_t type, uint64_t sector,
                const std::vector<Buffer>& data) {
  if (!Submit(0, 0, type, sector, data)) return kNoAnswer;
  Run();
  uint32_t token;
  uint32_t written;
  if (!queues_[0]->Take(&token, &written)) return kNoAnswer;
  queues_[0]->EnableInterrupts();
  return StatusOf(0);
}

uint8_t Rig::Write(uint64_t sector, const std::string& data) {
  std::memcpy(ram() + kDataAt, data.data(), data.size());
  return Do(kTypeOut, sector,
            {{kDataAt, static_cast<uint32_t>(data.size()), false}});
}

std::string Rig::Read(uint64_t sector, uint32_t bytes) {
  std::memset(ram() + kDataAt, 0xaa, bytes);
  const uint8_t status = Do(kTypeIn, sector, {{kDataAt, bytes, true}});
  if (status != kStatusOk) return "status " + std::to_string(status);
  return std::string(reinterpret_cast<char*>(ram() + kDataAt), bytes);
}

uint8_t Rig::DoRanges(uint32_t type, const std::vector<Range>& ranges) {
  const auto bytes = static_cast<uint32_t>(ranges.size() * sizeof(Range));
  std::memcpy(ram() + kDataAt, ranges.data(), bytes);
  return Do(type, 0, {{kDataAt, bytes, false}});
}

}  // namespace bulkhead::virtio_blk
