// Shim is the loop of a shim process: QEMU on one side, one service on the
// other, the launcher beside them.
//
// TRUST    The launcher is trusted; what its channel says is checked for form
//          only. QEMU and the service are not.
// ERRORS   Configure: what is wrong with the launcher's first frames. Run
//          returns when the launcher has closed the control channel.
// THREADS  One thread.

#ifndef BULKHEAD_PROXY_SHIM_H_
#define BULKHEAD_PROXY_SHIM_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/channel.h"
#include "proxy/front_end.h"
#include "proxy/remote_device.h"

namespace bulkhead::proxy {

struct ShimSettings {
  RamIdentity ram;
  Deadlines deadlines;
};

// Waits for the launcher's Hello and Configure, and answers with Hello.
absl::StatusOr<ShimSettings> ReceiveSettings(Channel& control);

class Shim {
 public:
  // All outlive the shim.
  Shim(Channel& control, RemoteDevice& device, FrontEnd& front_end)
      : control_(control),
        device_(device),
        front_end_(front_end),
        spin_(device.link().deadlines().spin) {}

  void Run();

 private:
  // One turn: spins or sleeps until there is something to do, and does it.
  void Turn();
  bool Spin();
  void ServeFrontEnd();
  void Report();
  void HandleControl();
  // Sends what is in control_.outgoing(); a launcher that is gone ends Run.
  void SendControl();

  Channel& control_;
  RemoteDevice& device_;
  FrontEnd& front_end_;
  AdaptiveSpin spin_;
  // Since when, and after what, QEMU's next message is waited for; 0: it has
  // just been served.
  Nanoseconds idle_since_ = 0;
  uint32_t situation_ = 0;
  int turns_without_wait_ = 0;
  bool ended_ = false;
  bool reported_lost_ = false;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_SHIM_H_
