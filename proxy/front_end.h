// FrontEnd speaks one of QEMU's out-of-process device protocols and turns what
// QEMU asks into calls of a DevicePort. It is all that knows the protocol.
//
// TRUST    QEMU may be taken over by its guest: every message is checked, and
//          one that breaks the stream costs QEMU its connection.
// ERRORS   None. A connection that ends is the device's Detach.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_FRONT_END_H_
#define BULKHEAD_PROXY_FRONT_END_H_

namespace bulkhead::proxy {

class FrontEnd {
 public:
  virtual ~FrontEnd() = default;

  // What to wait for until Serve has something to do: the connection, or the
  // listening socket while there is none.
  virtual int fd() const = 0;
  virtual bool connected() const = 0;

  // Does what QEMU has asked so far, without waiting for more; false if there
  // was nothing.
  virtual bool Serve() = 0;
  // Serve stopped before the end, to let others in; fd() need not tell.
  virtual bool HasMore() const = 0;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_FRONT_END_H_
