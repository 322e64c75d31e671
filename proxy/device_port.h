// DevicePort is the device as a front end sees it: what QEMU may ask, in words
// that belong to no protocol. RemoteDevice answers by asking the service.
//
// TRUST    A front end checks its peer's messages for form; the port checks
//          numbers against the device's description. Nothing that comes from
//          the service reaches the front end unchecked.
// ERRORS   None that the service can cause: a device that is lost reads as ~0
//          and takes stores, maps and resets as if they had been done. Invalid
//          arguments of QEMU are false.
// THREADS  One thread. No call takes longer than the access deadline, except
//          one of many pieces: then the deadline holds for all of it.

#ifndef BULKHEAD_PROXY_DEVICE_PORT_H_
#define BULKHEAD_PROXY_DEVICE_PORT_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/frame.pb.h"

namespace bulkhead::proxy {

inline constexpr uint32_t kRegionLimit = 9;
inline constexpr uint32_t kConfigRegion = 7;

// One region as QEMU may see it; size 0: the device has none of that number.
struct RegionShape {
  uint64_t size_bytes = 0;
  bool readable = false;
  bool writable = false;
  // At most 4 bytes in one access: configuration space and I/O BARs.
  bool narrow = false;
  // The doorbell pages, mappable through `doorbell_fd` at their offset.
  int doorbell_fd = -1;
  uint64_t doorbell_offset = 0;
  uint64_t doorbell_bytes = 0;

  friend bool operator==(const RegionShape&, const RegionShape&) = default;
};

// Does [offset, offset + size_bytes) lie within `whole` bytes?
constexpr bool IsInside(uint64_t offset, uint64_t size_bytes, uint64_t whole) {
  return offset <= whole && size_bytes <= whole - offset;
}

// The largest naturally aligned access at `offset` of at most `rest` bytes: how
// a longer one is cut. `rest` is not 0.
constexpr uint32_t PieceBytes(uint64_t offset, size_t rest, bool narrow) {
  uint32_t size_bytes = narrow ? 4 : 8;
  while (size_bytes > 1 && (size_bytes > rest || offset % size_bytes != 0)) {
    size_bytes /= 2;
  }
  return size_bytes;
}

class DevicePort {
 public:
  virtual ~DevicePort() = default;

  // False: no service answers at present; QEMU should not attach now.
  virtual bool Available() const = 0;
  virtual const RegionShape& Region(uint32_t region) const = 0;
  virtual uint32_t VectorCount(InterruptKind kind) const = 0;

  // False: not inside a readable (writable) region.
  virtual bool Read(uint32_t region, uint64_t offset,
                    absl::Span<uint8_t> data) = 0;
  virtual bool Write(uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> data) = 0;

  // Guest memory at [address, address + size_bytes). Without an fd, or with one
  // that is not the RAM memfd, the range is remembered as a hole. What is
  // mapped there already is replaced. The fd stays the caller's.
  virtual bool Map(uint64_t address, uint64_t size_bytes, uint64_t file_offset,
                   bool readable, bool writable, int fd) = 0;
  // On return the service no longer touches the range. False: nothing there.
  virtual bool Unmap(uint64_t address, uint64_t size_bytes) = 0;
  virtual void UnmapAll() = 0;

  // The eventfds of vectors [first, first + count): `fds` has `count` of them,
  // which are taken unless it is false, or none, which disables the vectors.
  virtual bool SetVectors(InterruptKind kind, uint32_t first, uint32_t count,
                          absl::Span<Fd> fds) = 0;
  virtual void DisableVectors(InterruptKind kind) = 0;
  // Raises a vector as the device would.
  virtual bool Trigger(InterruptKind kind, uint32_t vector) = 0;
  virtual void MaskIntx(bool masked) = 0;
  // An eventfd that unmasks INTx when it is written (KVM); invalid: none.
  virtual void SetIntxUnmaskFd(Fd fd) = 0;

  virtual void Reset() = 0;

  // QEMU has gone: forget its memory and interrupts, reset the device.
  virtual void Detach() = 0;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_DEVICE_PORT_H_
