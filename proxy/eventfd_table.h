// EventfdTable holds the eventfds by which QEMU hears of interrupts, one per
// vector of INTx, MSI and MSI-X. The service has duplicates and raises vectors
// by itself; the shim keeps them for a service that is restarted, and to raise
// INTx again.
//
// TRUST    The fds are QEMU's; what is no eventfd is refused by IsEventfd.
// ERRORS   None: a write that fails is one that QEMU no longer waits for.
// THREADS  One thread. Nothing is allocated.

#ifndef BULKHEAD_PROXY_EVENTFD_TABLE_H_
#define BULKHEAD_PROXY_EVENTFD_TABLE_H_

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "proto/frame.pb.h"
#include "proxy/device_shape.h"

namespace bulkhead::proxy {

class EventfdTable {
 public:
  EventfdTable();
  ~EventfdTable();
  EventfdTable(const EventfdTable&) = delete;
  EventfdTable& operator=(const EventfdTable&) = delete;

  // Vectors of a kind that can be held; -1 stands for none.
  absl::Span<const int> Vectors(InterruptKind kind) const;
  // Takes `fd` over, closing what was there.
  void Set(InterruptKind kind, uint32_t vector, int fd);
  // Writes the eventfd, if there is one.
  void Raise(InterruptKind kind, uint32_t vector) const;

 private:
  absl::Span<int> Mutable(InterruptKind kind);

  int intx_ = -1;
  std::array<int, kMaxMsiVectors> msi_;
  std::array<int, kMaxMsixVectors> msix_;
};

// An anonymous inode that does not block: no file, pipe, socket or memfd, and
// nothing that the shim or the service could be made to wait for.
bool IsEventfd(int fd);

void RaiseEventfd(int fd);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_EVENTFD_TABLE_H_
