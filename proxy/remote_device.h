// RemoteDevice is the device that QEMU sees, made of a service that may die and
// be replaced: it remembers the memory and the interrupts that QEMU has set up,
// tells them to each service anew, and answers for a service that is not there.
//
// TRUST    As DevicePort and ServiceLink.
// ERRORS   None: the loss of a service shows in link().
// THREADS  One thread.
//
// INTx. The service raises the eventfd on a rising edge; QEMU then holds the
// line until the driver has touched the device and unmasks it. If the level is
// still high then, nobody would raise it again, so the shim does. But the level
// means something only
//   - when the stores before the unmask have been applied: the very store that
//     acknowledges the interrupt is usually still under way;
//   - when the driver has had time to store: without KVM its first access,
//     which reads what has happened, is the end of interrupt to QEMU already.
//     To raise the line before it acknowledges would cost QEMU two round trips
//     for each interrupt.
// So what is still high is raised again after the driver's next store, or when
// that has not come for a while.

#ifndef BULKHEAD_PROXY_REMOTE_DEVICE_H_
#define BULKHEAD_PROXY_REMOTE_DEVICE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "proto/adaptive_spin.h"
#include "proxy/device_port.h"
#include "proxy/device_shape.h"
#include "proxy/memory_table.h"
#include "proxy/ram_identity.h"
#include "proxy/service_link.h"

namespace bulkhead::proxy {

class RemoteDevice : public DevicePort {
 public:
  RemoteDevice(const Deadlines& deadlines, const RamIdentity& ram);

  // Does what has become possible: tells a new service everything, raises INTx
  // again. After each Poll of the link and each Serve, and at deadline().
  void Settle();
  Nanoseconds deadline() const {
    return intx_pending_ && !intx_asked_ ? intx_due_ : kNoDeadline;
  }
  // What QEMU has done: 1 a load, 2 a store, 3 an unmask of INTx.
  const RecentEvents& recent() const { return recent_; }
  // What to wait on for the guest's unmasking (KVM); -1: nothing.
  int intx_unmask_fd() const { return intx_unmask_fd_.get(); }
  void OnIntxUnmaskFd();

  // For whoever brings services to it and waits for them.
  ServiceLink& link() { return link_; }

  bool Available() const override;
  const RegionShape& Region(uint32_t region) const override;
  uint32_t VectorCount(InterruptKind kind) const override;
  bool Read(uint32_t region, uint64_t offset,
            absl::Span<uint8_t> data) override;
  bool Write(uint32_t region, uint64_t offset,
             absl::Span<const uint8_t> data) override;
  bool Map(uint64_t address, uint64_t size_bytes, uint64_t file_offset,
           bool readable, bool writable, int fd) override;
  bool Unmap(uint64_t address, uint64_t size_bytes) override;
  void UnmapAll() override;
  bool SetVectors(InterruptKind kind, uint32_t first, uint32_t count,
                  absl::Span<Fd> fds) override;
  void DisableVectors(InterruptKind kind) override;
  bool Trigger(InterruptKind kind, uint32_t vector) override;
  void MaskIntx(bool masked) override;
  void SetIntxUnmaskFd(Fd fd) override;
  void Reset() override;
  void Detach() override;

 private:
  void SendRange(const MemoryRange& range, bool mapped);
  void SendVectors(InterruptKind kind, uint32_t first, uint32_t count);
  void Raise(InterruptKind kind, uint32_t vector) const;
  void TellEverything();
  // At `due` the driver has had its time to acknowledge.
  void UnmaskIntx(Nanoseconds due);
  void SettleIntx();

  const RamIdentity ram_;
  // The eventfd of each vector, by InterruptKind; as many as one can have. The
  // service has duplicates and raises vectors by itself; these are for a
  // service that is restarted, and to raise INTx again.
  std::array<std::vector<Fd>, InterruptKind_ARRAYSIZE> vectors_;
  MemoryTable memory_;
  ServiceLink link_;

  Fd intx_unmask_fd_;
  // INTx has been unmasked; its level counts once this store is applied.
  bool intx_pending_ = false;
  uint64_t intx_pending_store_ = 0;
  uint32_t intx_raised_before_ = 0;  // by the service, as of the unmask
  Nanoseconds intx_due_ = 0;
  bool intx_asked_ = false;  // for the store
  RecentEvents recent_;
};

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_REMOTE_DEVICE_H_
