#include "proxy/device_shape.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/shadow.h"

namespace bulkhead::proxy {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kMaxBarBytes = uint64_t{1} << 40;
constexpr uint32_t kLastBar = 5;

absl::Status Wrong(absl::string_view what, uint64_t which) {
  return absl::InvalidArgumentError(
      absl::StrCat("the device's description: ", what, " ", which));
}

// The size of a memfd that can neither shrink nor grow; 0 for anything else.
uint64_t SealedBytes(int fd) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const int seals = fcntl(fd, F_GET_SEALS);
  struct stat status;
  if (seals < 0 || (seals & kSeals) != kSeals ||
      fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) {
    return 0;
  }
  return static_cast<uint64_t>(status.st_size);
}

bool IsSameFile(int a, int b) {
  struct stat left;
  struct stat right;
  return a == b || (fstatat(a, "", &left, AT_EMPTY_PATH) == 0 &&
                    fstatat(b, "", &right, AT_EMPTY_PATH) == 0 &&
                    left.st_dev == right.st_dev && left.st_ino == right.st_ino);
}

absl::Status CheckRegions(const DeviceDescription& description,
                          DeviceShape* shape) {
  for (const Region& region : description.regions()) {
    const uint32_t index = region.index();
    if (index > kConfigRegion) return Wrong("there is no region", index);
    RegionShape& checked = shape->regions[index];
    const uint64_t size_bytes = region.size_bytes();
    const bool is_config = index == kConfigRegion;
    if (checked.size_bytes != 0 || size_bytes == 0 ||
        size_bytes > kMaxBarBytes || (size_bytes & (size_bytes - 1)) != 0 ||
        (is_config && size_bytes != 256 && size_bytes != 4096)) {
      return Wrong("bad size of region", index);
    }
    checked.size_bytes = size_bytes;
    checked.readable = region.readable();
    checked.writable = region.writable();
    checked.narrow = is_config || region.io_space();
  }
  const RegionShape& config = shape->regions[kConfigRegion];
  if (!config.readable || !config.writable) {
    return Wrong("no use of region", kConfigRegion);
  }
  return absl::OkStatus();
}

absl::Status CheckShadows(const DeviceDescription& description, int memfd,
                          DeviceShape* shape) {
  const uint64_t memfd_bytes = SealedBytes(memfd);
  if (memfd_bytes < sizeof(ShadowHeader) ||
      memfd_bytes > kMaxShadowMemfdBytes) {
    return Wrong("bad shadow memfd of size", memfd_bytes);
  }
  shape->shadow_memfd_bytes = memfd_bytes;
  for (const ShadowRange& range : description.shadows()) {
    const bool is_aligned =
        range.offset() % 8 == 0 && range.shadow_offset() % 8 == 0;
    if (shape->shadows.size() == kMaxShadowRanges || !is_aligned ||
        range.region() >= kRegionLimit || range.size_bytes() == 0 ||
        !IsInside(range.offset(), range.size_bytes(),
                  shape->regions[range.region()].size_bytes) ||
        !IsInside(range.shadow_offset(), range.size_bytes(),
                  memfd_bytes - sizeof(ShadowHeader))) {
      return Wrong("bad shadow", shape->shadows.size());
    }
    shape->shadows.push_back(
        {.region = range.region(),
         .offset = range.offset(),
         .size_bytes = range.size_bytes(),
         .memfd_offset = sizeof(ShadowHeader) + range.shadow_offset()});
  }
  return absl::OkStatus();
}

absl::Status CheckDoorbells(const DeviceDescription& description,
                            absl::Span<const Fd> memfds, DeviceShape* shape) {
  for (int i = 0; i < description.doorbells_size(); ++i) {
    const Doorbell& doorbell = description.doorbells(i);
    RegionShape& region =
        shape->regions[std::min(doorbell.region(), kConfigRegion)];
    const int memfd = memfds[static_cast<size_t>(i)].get();
    if (doorbell.region() > kLastBar || region.narrow ||
        region.doorbell_bytes != 0 || doorbell.size_bytes() == 0 ||
        doorbell.offset() % kPageBytes != 0 ||
        doorbell.size_bytes() % kPageBytes != 0 ||
        !IsInside(doorbell.offset(), doorbell.size_bytes(),
                  region.size_bytes) ||
        SealedBytes(memfd) < doorbell.offset() + doorbell.size_bytes()) {
      return Wrong("bad doorbell", static_cast<uint64_t>(i));
    }
    region.doorbell_fd = memfd;
    region.doorbell_offset = doorbell.offset();
    region.doorbell_bytes = doorbell.size_bytes();
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckDescription(const DeviceDescription& description,
                              absl::Span<const Fd> fds, DeviceShape* shape) {
  *shape = DeviceShape();
  if (fds.empty()) return Wrong("fds:", 0);
  if (absl::Status status = CheckRegions(description, shape); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckShadows(description, fds[0].get(), shape);
      !status.ok()) {
    return status;
  }
  if (description.intx_pin() > 4 ||
      description.msi_vectors() > kMaxMsiVectors ||
      description.msix_vectors() > kMaxMsixVectors) {
    return Wrong("bad interrupts; pin", description.intx_pin());
  }
  shape->vectors[INTX] = description.intx_pin() != 0 ? 1 : 0;
  shape->vectors[MSI] = description.msi_vectors();
  shape->vectors[MSIX] = description.msix_vectors();
  return CheckDoorbells(description, fds.subspan(1), shape);
}

bool DeviceShape::CanReplace(const DeviceShape& other) const {
  for (size_t i = 0; i < regions.size(); ++i) {
    RegionShape mine = regions[i];
    const int theirs = other.regions[i].doorbell_fd;
    if (!IsSameFile(std::exchange(mine.doorbell_fd, theirs), theirs) ||
        mine != other.regions[i]) {
      return false;
    }
  }
  return vectors == other.vectors;
}

}  // namespace bulkhead::proxy
