// DeviceShape is a service's DeviceDescription after it has been checked: what
// the shim then believes for as long as that service lives.
//
// TRUST    The description and its fds come from a service and are hostile. A
//          memfd is used only if it is sealed against shrinking and growing, so
//          that no access to it can fault.
// ERRORS   InvalidArgument: what is wrong, in words.
// THREADS  None.

#ifndef BULKHEAD_PROXY_DEVICE_SHAPE_H_
#define BULKHEAD_PROXY_DEVICE_SHAPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/frame.pb.h"
#include "proxy/device_port.h"

namespace bulkhead::proxy {

inline constexpr size_t kMaxShadowRanges = 64;
inline constexpr uint64_t kMaxShadowMemfdBytes = uint64_t{1} << 20;
inline constexpr uint32_t kMaxMsiVectors = 32;     // PCI 3.0 §6.8.1.3
inline constexpr uint32_t kMaxMsixVectors = 2048;  // PCI 3.0 §6.8.2.3

struct ShadowWindow {
  uint32_t region;
  uint64_t offset;
  uint64_t size_bytes;
  uint64_t memfd_offset;
};

struct DeviceShape {
  std::array<RegionShape, kRegionLimit> regions;
  std::vector<ShadowWindow> shadows;
  uint64_t shadow_memfd_bytes = 0;
  std::array<uint32_t, InterruptKind_ARRAYSIZE> vectors = {};

  // Would QEMU, attached to `other`, notice that this one took its place? The
  // doorbells must be the same files, as QEMU has them mapped.
  bool CanReplace(const DeviceShape& other) const;
};

// `fds` are the shadow memfd and those of the doorbells; the caller has checked
// their number. The doorbell fds in *shape are the same numbers, still the
// caller's.
absl::Status CheckDescription(const DeviceDescription& description,
                              absl::Span<const Fd> fds, DeviceShape* shape);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_DEVICE_SHAPE_H_
