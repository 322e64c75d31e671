// EventfdTable holds the eventfds by which QEMU hears of interrupts, one per
// vector of INTx, MSI and MSI-X. The service has duplicates and raises vectors
// by itself; the shim keeps them for a service that is restarted, and to raise
// INTx again.
//
// TRUST    The fds are QEMU's; what is no eventfd is refused by IsEventfd.
// ERRORS   None: a write that fails is one that QEMU no longer waits for.
// THREADS  One thread. Nothing is allocated after construction.

#ifndef BULKHEAD_PROXY_EVENTFD_TABLE_H_
#define BULKHEAD_PROXY_EVENTFD_TABLE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/fd.h"
#include "proto/frame.pb.h"
#include "proxy/device_shape.h"

namespace bulkhead::proxy {

class EventfdTable {
 public:
  EventfdTable();

  // Vectors of a kind that can be held; invalid ones stand for none.
  absl::Span<const Fd> Vectors(InterruptKind kind) const;
  // Closes what was there.
  void Set(InterruptKind kind, uint32_t vector, Fd fd);
  // Writes the eventfd, if there is one.
  void Raise(InterruptKind kind, uint32_t vector) const;

 private:
  // By InterruptKind.
  std::array<std::vector<Fd>, InterruptKind_ARRAYSIZE> vectors_;
};

// An anonymous inode that does not block: no file, pipe, socket or memfd, and
// nothing that the shim or the service could be made to wait for.
bool IsEventfd(const Fd& fd);

void RaiseEventfd(int fd);

}  // namespace bulkhead::proxy

#endif  // BULKHEAD_PROXY_EVENTFD_TABLE_H_
