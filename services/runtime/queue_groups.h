// QueueGroups is what a device with many queues gives the runtime, so that
// groups of its queues are served by threads of their own (queue_threads.h).
//
// Group 0 is the loop's: Device::Run serves it. The others are served by their
// threads while they run apart. Everything that is not the way of a request
// (registers, resets, mappings, saved state, statistics) happens on the loop
// with all groups at rest; then the device is as a device of one thread, and
// the loop serves all groups by itself.
//
// TRUST    As Device. A doorbell's value is the guest's.
// ERRORS   None.
// THREADS  Each method says.

#ifndef BULKHEAD_SERVICES_RUNTIME_QUEUE_GROUPS_H_
#define BULKHEAD_SERVICES_RUNTIME_QUEUE_GROUPS_H_

#include <cstdint>

#include "services/runtime/device.h"

namespace bulkhead {

// More would only wait for each other's memory.
inline constexpr unsigned kMaxQueueGroups = 4;

class QueueGroups {
 public:
  virtual ~QueueGroups() = default;

  // 1 to kMaxQueueGroups; the same always.
  virtual unsigned groups() const = 0;

  // The loop, at rest: whether the groups may run apart now, for they need
  // nothing but their own queues, guest memory, their part of the storage, and
  // interrupts by MSI-X. What makes it false happens at rest only.
  virtual bool MayRunApart() const = 0;

  // As Device::Run, for one group's queues. The group's thread; at rest, the
  // loop. With Turn::attention the thread comes to rest.
  virtual Turn RunGroup(unsigned group, Nanoseconds now) = 0;
  // As Device::PrepareToSleep. The same threads.
  virtual bool PrepareGroupToSleep(unsigned group) = 0;

  // The loop, at rest, after some turn had Turn::attention.
  virtual void Attend() = 0;

  // The loop, while the groups run apart: the group that a store to a region is
  // for, when all it asks for is that somebody looks at a queue; -1 when it is
  // more than that. Where the value matters, the device has kept it for the
  // group.
  virtual int TakeDoorbell(uint32_t region, uint64_t offset,
                           unsigned size_bytes, uint64_t value) = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_QUEUE_GROUPS_H_
