// VfioUserFrontEnd is the server side of vfio-user, as QEMU's vfio-user-pci
// (10.1 and later) speaks it.
//
// SPEC     vfio-user 0.0 (vfio_user.h). Served: VERSION, DMA_MAP, DMA_UNMAP,
//          DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO,
//          DEVICE_SET_IRQS, REGION_READ, REGION_WRITE, REGION_WRITE_MULTI,
//          DEVICE_RESET. Everything else is answered ENOTSUP.
// TRUST    As FrontEnd. What breaks the stream (a size out of bounds, a reply
//          that nobody asked for, a first message that is not VERSION, a peer
//          that does not take its replies) ends the connection; what is merely
//          wrong is answered EINVAL.
// ERRORS   None.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_VFIO_USER_FRONT_END_H_
#define BULKHEAD_PROXY_VFIO_USER_FRONT_END_H_

#include <cstddef>
#include <cstdint>

#include "proxy/device_port.h"
#include "proxy/stream_front_end.h"
#include "proxy/vfio_user.h"

namespace bulkhead::proxy {

// The most data that one region access may carry (max_data_xfer_size).
inline constexpr uint32_t kMaxTransferBytes = 64 * 1024;

struct VfioUserWire {
  using Header = vfio_user::Header;
  static constexpr size_t kMaxMessageBytes =
      sizeof(Header) + sizeof(vfio_user::RegionAccess) + kMaxTransferBytes;
  static uint64_t PayloadBytes(const Header& header) {
    return uint64_t{header.size_bytes} - sizeof(Header);
  }
};

class VfioUserFrontEnd : public StreamFrontEnd<VfioUserWire> {
 public:
  // `listener` is a listening unix stream socket; both outlive this object.
  VfioUserFrontEnd(int listener, DevicePort& device)
      : StreamFrontEnd(listener, QemuSocket::kListening, device) {}

 private:
  bool Handle(Message& message) override;
  void OnConnected() override { version_agreed_ = false; }
  // Each handler checks the payload, acts, appends the reply's payload and
  // returns 0 or an errno.
  int Dispatch(Message& message);
  int HandleVersion(const Message& message);
  int HandleDmaMap(const Message& message);
  int HandleDmaUnmap(const Message& message);
  int HandleGetInfo(const Message& message);
  int HandleGetRegionInfo(const Message& message);
  int HandleGetIrqInfo(const Message& message);
  int HandleSetIrqs(Message& message);
  int HandleRegionRead(const Message& message);
  int HandleRegionWrite(const Message& message);
  int HandleWriteMulti(const Message& message);

  bool version_agreed_ = false;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_VFIO_USER_FRONT_END_H_
