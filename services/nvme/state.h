// What a controller remembers between two commands: registers, queues,
// features, logs. One trivially copyable structure, saved and restored whole;
// commands in flight are finished before it is taken, and completions that
// cannot be posted yet are part of it.
//
// TRUST    Values came from the guest, and from a saved image that may be
//          hostile: IsPlausible checks every one that code relies on.
// ERRORS   None.
// THREADS  The service's loop.

#ifndef BULKHEAD_SERVICES_NVME_STATE_H_
#define BULKHEAD_SERVICES_NVME_STATE_H_

#include <array>
#include <cstdint>
#include <type_traits>

#include "services/nvme/spec.h"

namespace bulkhead::nvme {

inline constexpr unsigned kMaxIoQueues = 64;           // pairs
inline constexpr unsigned kQueues = kMaxIoQueues + 1;  // with the admin pair
inline constexpr unsigned kVectors = 64;  // the last two I/O queues share
inline constexpr uint32_t kMaxQueueEntries = 1024;
inline constexpr uint32_t kMaxAdminEntries = 4096;  // AQA's 12 bits
inline constexpr unsigned kErrorLogEntries = 64;
inline constexpr uint32_t kMaxNamespaces = 16;
inline constexpr unsigned kMaxAsyncEvents = 4;  // outstanding requests
inline constexpr unsigned kEventTypes = 3;      // error, SMART, notice
inline constexpr unsigned kMaxUnposted = 1024;  // all commands of all groups
inline constexpr uint16_t kTemperatureKelvin = 308;

struct SubmissionQueue {
  uint64_t base = 0;
  uint32_t entries = 0;  // 0: there is none
  uint16_t head = 0;
  uint16_t tail = 0;
  uint16_t cq_id = 0;
  // A Delete command waits for what is in flight.
  uint16_t delete_cid = 0;
  uint8_t deleting = 0;
  std::array<uint8_t, 3> reserved = {};
};

struct CompletionQueue {
  uint64_t base = 0;
  uint32_t entries = 0;
  uint16_t head = 0;
  uint16_t tail = 0;
  uint16_t vector = 0;
  uint8_t phase = 1;
  uint8_t interrupts = 0;
  std::array<uint8_t, 4> reserved = {};
};

struct RegisterState {
  uint32_t cc = 0;
  uint32_t csts = 0;
  uint32_t aqa = 0;
  uint32_t interrupt_mask = 0;
  uint64_t asq = 0;
  uint64_t acq = 0;
};

// Of an I/O command that ended while the function was no bus master: to be
// posted when it is one again. (Those have no result.)
struct UnpostedCompletion {
  uint16_t sq_id = 0;
  uint16_t cid = 0;
  uint16_t sq_head = 0;
  uint16_t status = 0;
};

struct QueueState {
  std::array<SubmissionQueue, kQueues> submission;
  std::array<CompletionQueue, kQueues> completion;
  // §5.7, Doorbell Buffer Config; 0: none.
  uint64_t shadow_doorbells = 0;
  uint64_t event_indices = 0;
  uint32_t next_queue = 0;  // round robin goes on here
  uint32_t unposted_count = 0;
  std::array<UnpostedCompletion, kMaxUnposted> unposted = {};  // oldest first
};

struct FeatureState {
  uint32_t arbitration = 3;  // bursts of 8 commands
  uint32_t temperature_over = 0xffff;
  uint32_t temperature_under = 0;
  uint32_t error_recovery = 0;
  uint32_t write_cache = 1;
  uint32_t io_submission_queues = kMaxIoQueues;
  uint32_t io_completion_queues = kMaxIoQueues;
  uint32_t coalescing = 0;  // time << 8 | threshold
  uint32_t write_atomicity = 0;
  uint32_t async_events = 0;
  // Interrupt Vector Configuration: 1 where coalescing is off.
  std::array<uint8_t, kVectors> coalescing_disabled = {};
};

struct AsyncEvent {
  uint8_t pending = 0;  // to be reported
  uint8_t masked = 0;   // reported; the host has not read the log since
  uint8_t information = 0;
  uint8_t log_page = 0;
};

struct LogState {
  uint64_t error_count = 0;
  std::array<ErrorLogEntry, kErrorLogEntries> errors = {};  // by count
  uint64_t sectors_read = 0;                                // of 512 bytes
  uint64_t sectors_written = 0;
  uint64_t host_reads = 0;
  uint64_t host_writes = 0;
  uint64_t media_errors = 0;
  uint64_t unsafe_shutdowns = 0;
  uint64_t power_cycles = 1;
  std::array<AsyncEvent, kEventTypes> events = {};
  // Namespaces that have changed since the host has read the list (log 04h).
  std::array<uint8_t, kMaxNamespaces> changed = {};
  std::array<uint16_t, kMaxAsyncEvents> requests = {};  // their cids
  uint32_t request_count = 0;
  uint32_t reserved = 0;
};

struct ControllerState {
  RegisterState registers;
  QueueState queues;
  FeatureState features;
  LogState logs;
};
static_assert(std::is_trivially_copyable_v<ControllerState>);

inline uint32_t PageBits(uint32_t cc) {
  return kPageBits + ((cc & kCcPageMask) >> kCcPageShift);
}

// Whether every index and size lies where the code that uses it expects it.
bool IsPlausible(const ControllerState& state);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_STATE_H_
