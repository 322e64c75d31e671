// Adapter is the loop of a process that shows a remote process's device (x-
// remote) to QEMU's vfio-user-pci, with the launcher beside them.
//
// TRUST    The launcher is trusted. QEMU and the remote process are not.
// ERRORS   Run returns when the launcher has closed the control channel.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_X_REMOTE_ADAPTER_H_
#define BULKHEAD_PROXY_X_REMOTE_ADAPTER_H_

#include "proto/channel.h"
#include "proxy/front_end.h"
#include "proxy/x_remote/x_remote_device.h"

namespace bulkhead::proxy {

class Adapter {
 public:
  // All outlive the adapter. The device is probed.
  Adapter(Channel& control, XRemoteDevice& device, FrontEnd& front_end)
      : control_(control), device_(device), front_end_(front_end) {}

  void Run();

 private:
  void Report();
  void HandleControl();
  void SendControl();

  Channel& control_;
  XRemoteDevice& device_;
  FrontEnd& front_end_;
  bool ended_ = false;
  bool reported_lost_ = false;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_X_REMOTE_ADAPTER_H_
