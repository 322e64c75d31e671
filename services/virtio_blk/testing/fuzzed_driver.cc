#include "services/virtio_blk/testing/fuzzed_driver.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "services/virtio_blk/testing/rig.h"

namespace bulkhead::virtio_blk {
namespace {

// Steps from here on are those of a recorded driver: tests/trace/seeds.
constexpr uint8_t kTraced = 0xf0;
constexpr size_t kDataBytes = 1 << 20;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t Byte() { return empty() ? 0 : data_[at_++]; }
  uint16_t Half() {
    const uint16_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }
  uint64_t Little(unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint64_t{Byte()} << (8 * i);
    return value;
  }
  uint64_t Long() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | Byte();
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

void TracedStep(Rig& rig, Input& input, uint8_t kind, bool* booted) {
  switch (kind) {
    case kTraced: {
      const unsigned size = 1u << (input.Byte() % 4);
      const uint64_t offset = (input.Little(2) & 0x3fff) / size * size;
      rig.device().WriteRegion(virtio::kStructuresBar, offset, size,
                               input.Little(size));
      return;
    }
    case kTraced + 1: {
      const unsigned size = 1u << (input.Byte() % 3);
      // One after the other: a call's arguments have no order.
      const uint64_t offset = input.Byte() / size * size;
      rig.device().WriteRegion(kConfigRegion, offset, size, input.Little(size));
      return;
    }
    case kTraced + 2: {  // data one after the other, as far as they fit
      const uint8_t type = input.Byte();
      const uint64_t sector = input.Little(4);
      std::vector<Buffer> data;
      size_t at = 0;
      for (unsigned left = input.Byte() % 32; left > 0; --left) {
        const auto length = static_cast<uint32_t>(input.Little(3));
        const bool writable = input.Byte() % 2 != 0;
        if (at + length > kDataBytes) break;
        data.push_back({Rig::kDataAt + at, length, writable});
        at += length;
      }
      if (*booted) rig.Submit(0, input.Byte() % 64, type, sector, data);
      return;
    }
    case kTraced + 3:
      rig.backend().ReleaseAll();
      rig.device().WriteRegion(kConfigRegion, 4, 2, 6);
      *booted = rig.Boot();
      return;
    case kTraced + 4: {
      const unsigned size = 1u << (input.Byte() % 4);
      rig.device().ReadRegion(virtio::kStructuresBar,
                              (input.Little(2) & 0x3fff) / size * size, size);
      return;
    }
    case kTraced + 5:
      rig.backend().ReleaseAll();
      rig.device().Reset();
      *booted = false;
      return;
    default:
      rig.device().PrepareToSleep();
      rig.device().Run(rig.context().Now());
  }
}

void Step(Rig& rig, Input& input, bool* booted) {
  const uint8_t kind = input.Byte();
  if (kind >= kTraced) {
    TracedStep(rig, input, kind, booted);
    return;
  }
  switch (kind % 12) {
    case 0: {  // any register
      const unsigned size = 1u << (input.Byte() % 4);
      const uint64_t offset = (input.Half() & 0x303f) / size * size;
      rig.device().WriteRegion(virtio::kStructuresBar, offset, size,
                               input.Byte() & 1 ? input.Long() : input.Byte());
      return;
    }
    case 1:
      rig.device().ReadRegion(virtio::kStructuresBar, input.Half() & 0x303c, 4);
      return;
    case 2: {  // configuration space
      const uint64_t offset = input.Byte() & 0xfc;
      rig.device().WriteRegion(kConfigRegion, offset, 4, input.Long());
      return;
    }
    case 3:
      rig.device().ReadRegion(kConfigRegion, input.Byte() & 0xfc, 4);
      return;
    case 4:  // bytes into a ring
    case 5: {
      const uint64_t area = uint64_t{input.Byte()} % 5 * 0x1000;
      const uint64_t at = Rig::kRingAt + area + input.Byte() * 2;
      const uint16_t value = input.Half();
      std::memcpy(rig.ram() + at, &value, sizeof value);
      return;
    }
    case 6:
    case 7: {  // a request, real or nearly so
      if (!*booted) return;
      const uint8_t type = input.Byte();
      const uint32_t length = (input.Byte() % 9) * 256;
      const uint64_t sector = input.Byte() & 1 ? input.Byte() : input.Long();
      rig.Submit(0, input.Byte() % 64, type % 16, sector,
                 {{Rig::kDataAt + (type & 16) * 0x100000, length,
                   type % 16 != kTypeOut && (type & 32) == 0}});
      return;
    }
    case 8:
      (kind & 16) != 0 ? rig.backend().Hold() : rig.backend().ReleaseAll();
      return;
    case 9:
      rig.backend().ReleaseAll();
      if (!rig.device().Quiesce().ok()) abort();
      rig.device().Resume();
      return;
    case 10:
      rig.backend().ReleaseAll();
      if ((kind & 16) != 0) rig.device().Reset();
      rig.device().WriteRegion(kConfigRegion, 4, 2, 6);
      *booted = rig.Boot();
      return;
    default:
      rig.device().PrepareToSleep();
      rig.device().Run(rig.context().Now());
  }
}

}  // namespace

std::vector<scsi::MemoryBackend::Record> DriveFromInput(const uint8_t* data,
                                                        size_t size) {
  Input input(data, size);
  const uint8_t kind = input.Byte();
  Rig rig(Rig::Setup{.packed = (kind & 1) != 0,
                     .indirect = (kind & 2) != 0,
                     .event_index = (kind & 4) != 0,
                     .msix = (kind & 8) != 0,
                     .device = {.in_order = (kind & 16) != 0}});
  bool booted = rig.Boot();
  while (!input.empty()) Step(rig, input, &booted);
  // Whatever was done, a driver that starts anew gets a device that works.
  rig.backend().ReleaseAll();
  rig.device().Reset();
  rig.device().WriteRegion(kConfigRegion, 4, 2, 6);
  if (!rig.Boot() || rig.Do(kTypeFlush, 0, {}) != kStatusOk) abort();
  return rig.backend().log();
}

}  // namespace bulkhead::virtio_blk
