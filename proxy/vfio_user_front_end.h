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

#include <array>
#include <cstddef>
#include <cstdint>

#include "proxy/device_port.h"
#include "proxy/front_end.h"
#include "proxy/message_stream.h"
#include "proxy/vfio_user.h"

namespace bulkhead::proxy {

class VfioUserFrontEnd : public FrontEnd {
 public:
  // `listener` is a listening unix stream socket; both outlive this object.
  VfioUserFrontEnd(int listener, DevicePort& device)
      : listener_(listener), device_(device) {}
  ~VfioUserFrontEnd() override { Disconnect(); }

  int fd() const override { return connected() ? connection_ : listener_; }
  bool connected() const override { return connection_ >= 0; }
  bool Serve() override;
  bool HasMore() const override { return has_more_; }

  // Handles one message: what Serve does with each. Leaves the reply, if one is
  // due, in reply(); false when the connection must end. Public for tests.
  bool Handle(Message& message);
  absl::Span<const uint8_t> reply() const {
    return {reply_.data(), reply_bytes_};
  }

 private:
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
  int SetIntx(const vfio_user::SetIrqs& set, bool act, Message& message);
  int HandleRegionRead(const Message& message);
  int HandleRegionWrite(const Message& message);
  int HandleWriteMulti(const Message& message);

  template <typename T>
  void AppendReply(const T& part);
  bool SendReply();
  void Accept();
  void Disconnect();

  const int listener_;
  DevicePort& device_;
  int connection_ = -1;
  bool version_agreed_ = false;
  bool has_more_ = false;
  MessageStream stream_;
  std::array<uint8_t, kMaxMessageBytes> reply_;
  size_t reply_bytes_ = 0;
  int reply_fd_ = -1;  // rides on the reply; the device's
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_VFIO_USER_FRONT_END_H_
