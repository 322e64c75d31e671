// MpqemuFrontEnd serves QEMU's x-pci-proxy-dev (5.2 and later), as its remote
// process (-machine x-remote) does.
//
// SPEC     mpqemu.h. The device's BARs are 32-bit; interrupts are INTx only,
//          raised by one eventfd and asked for again by the other when the
//          guest has ended the interrupt (KVM).
// TRUST    As FrontEnd. A message whose command, size or number of descriptors
//          is not what the protocol says, descriptors that are no eventfds, and
//          memory whose ranges wrap or overlap end the connection. An access
//          that reaches no register is answered with ~0.
// ERRORS   None.
// THREADS  One thread.
//
// A store is answered when it has been posted: QEMU waits for each.

#ifndef BULKHEAD_PROXY_MPQEMU_FRONT_END_H_
#define BULKHEAD_PROXY_MPQEMU_FRONT_END_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "proxy/bar_map.h"
#include "proxy/device_port.h"
#include "proxy/mpqemu.h"
#include "proxy/stream_front_end.h"

namespace bulkhead::proxy {

class MpqemuFrontEnd : public StreamFrontEnd<mpqemu::Wire> {
 public:
  MpqemuFrontEnd(int socket, QemuSocket kind, DevicePort& device)
      : StreamFrontEnd(socket, kind, device) {}

 private:
  struct Range {
    uint64_t address;
    uint64_t size_bytes;
    friend bool operator==(const Range&, const Range&) = default;
  };

  bool Handle(Message& message) override;
  void OnConnected() override;
  // Each is false when the connection must end.
  bool HandleSyncSysmem(const Message& message);
  bool HandleSetIrqfd(Message& message);
  bool HandleConfig(const Message& message, bool is_write);
  bool HandleBar(const Message& message, bool is_write);

  void Return(uint64_t value);

  BarMap bars_;
  // What the last SYNC_SYSMEM has mapped.
  std::array<Range, mpqemu::kMaxRanges> ranges_ = {};
  size_t range_count_ = 0;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_MPQEMU_FRONT_END_H_
