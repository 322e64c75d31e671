// ServiceContext is all that a device is given: RAM, interrupts, the shadow
// page, the clock, a log. There is nothing else in a service's world.
//
// TRUST    What lies in memory() and doorbell() is the guest's, and changes at
//          any moment. What a device writes to shadow_image() the shim may show
//          the guest.
// ERRORS   None; a device that cannot go on calls Fail.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_RUNTIME_SERVICE_CONTEXT_H_
#define BULKHEAD_SERVICES_RUNTIME_SERVICE_CONTEXT_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "services/runtime/device.h"
#include "services/runtime/growth.h"
#include "services/runtime/guest_memory.h"
#include "services/runtime/interrupts.h"

namespace bulkhead {

class ServiceContext {
 public:
  virtual ~ServiceContext() = default;

  virtual GuestMemory& memory() = 0;
  virtual Interrupts& interrupts() = 0;

  // The image part of the shadow page (ShadowRange.shadow_offset counts from
  // its start). The device stores registers there as they change, with
  // StoreShadow or by atomic stores of its own.
  virtual absl::Span<uint8_t> shadow_image() = 0;

  // The host's view of DeviceDescription.doorbells[index], which the guest may
  // write at any moment without a message. Empty before the first Run. While a
  // doorbell may ring, the device asks for a deadline: nothing else wakes it.
  virtual absl::Span<uint8_t> doorbell(size_t index) = 0;

  // CLOCK_MONOTONIC. No system call (vDSO).
  virtual Nanoseconds Now() = 0;

  // Before the first Run only: wake the loop, or the thread of a queue group
  // (queue_groups.h), when `fd` is readable.
  virtual void Watch(int fd, unsigned group) = 0;

  // Before the first Run only: the next disk of ServiceConfig.backends, for the
  // launcher to make longer. It lives as long as the device.
  virtual void AddDisk(Growable* disk) = 0;

  // One line for the log, at a limited rate; control bytes are escaped.
  virtual void Log(absl::string_view line) = 0;
  // Ends the service: its state is beyond repair. Never for a guest's fault.
  [[noreturn]] virtual void Fail(absl::string_view why) = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_SERVICE_CONTEXT_H_
