// Device is what the runtime asks of an emulated PCI device. It is the one
// interface that every device folder implements; services/pci implements most
// of it for them.
//
// TRUST    Every argument of ReadRegion and WriteRegion is the guest's, except
//          that the server has checked: the region is one that Describe named,
//          size_bytes is 1, 2, 4 or 8, and [offset, offset + size_bytes) lies
//          inside the region.
// ERRORS   Only Quiesce returns one: a guest's fault becomes the device's own
//          status. A device that cannot go on calls ServiceContext::Fail.
// THREADS  All calls come from the service's loop, never nested. A device with
//          queue_groups() is called with all of them at rest, except for Run
//          and PrepareToSleep, which then concern the first group alone.

#ifndef BULKHEAD_SERVICES_RUNTIME_DEVICE_H_
#define BULKHEAD_SERVICES_RUNTIME_DEVICE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/clock.h"

namespace bulkhead {

class DeviceDescription;
class QueueGroups;
class Statistics;

// VFIO's numbers of a PCI device's regions.
inline constexpr uint32_t kBar0Region = 0;
inline constexpr uint32_t kRomRegion = 6;
inline constexpr uint32_t kConfigRegion = 7;

// What a device wants after one slice of work.
struct Turn {
  // There is more to do at once: do not sleep, but look at the channel first.
  bool busy = false;
  // A driver may bring work through guest memory, without a frame: while the
  // loop spins, it calls Run again and again. The loop then looks at its
  // descriptors only every now and then.
  bool poll = false;
  // With `poll`: this slice has found work.
  bool worked = false;
  // Something has come up that needs all queue groups at rest: the loop calls
  // QueueGroups::Attend.
  bool attention = false;
  // Call Run no later than this.
  Nanoseconds deadline = kNoDeadline;
};

class Device {
 public:
  virtual ~Device() = default;

  // Fills in regions, shadows, doorbells and interrupts; the same each time.
  virtual void Describe(DeviceDescription* description) const = 0;

  virtual uint64_t ReadRegion(uint32_t region, uint64_t offset,
                              unsigned size_bytes) = 0;
  virtual void WriteRegion(uint32_t region, uint64_t offset,
                           unsigned size_bytes, uint64_t value) = 0;

  // Conventional PCI reset. On return no request of before touches guest RAM.
  virtual void Reset() = 0;

  // One bounded slice (some hundred microseconds at most) of pending work:
  // SCRIPTS, queues, completions, timers. Called after each batch of frames,
  // when a watched fd is ready, and at the deadline.
  virtual Turn Run(Nanoseconds now) = 0;

  // The loop is about to sleep: from now on, until the next Run, whoever gives
  // the device work has to send a frame. True: there is work already (it came
  // while the driver still thought that nobody needs to be told), so the loop
  // does not sleep.
  virtual bool PrepareToSleep() { return false; }

  // A device with several groups of queues (queue_groups.h): the threads of all
  // but the first run between calls of the loop. nullptr: it has one.
  virtual QueueGroups* queue_groups() { return nullptr; }

  // Freezes: when it is OK, nothing is in flight and State() is complete; Run
  // and region accesses go on being possible after Resume only. An error, which
  // the device has logged as well, names what did not end in time: the device
  // is not frozen then, and goes on.
  virtual absl::Status Quiesce() = 0;
  virtual void Resume() = 0;

  // The server quiesces and resumes around every unmap of guest memory, so both
  // cost little when nothing is in flight; before the destructor it quiesces
  // once more, or ends the service. The destructor runs under the steady
  // filter.

  // Everything the device needs to resume, as one trivially copyable
  // structure. LoadState checks a hostile image of it and answers false (the
  // device unchanged) when it is not one.
  virtual absl::Span<const std::byte> State() const = 0;
  virtual bool LoadState(absl::Span<const std::byte> state) = 0;

  virtual void ReportStatistics(Statistics* statistics) const = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_DEVICE_H_
