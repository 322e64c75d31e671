#include "services/nvme/state.h"

namespace bulkhead::nvme {
namespace {

bool IsPlausibleQueues(const QueueState& queues) {
  for (unsigned i = 0; i < kQueues; ++i) {
    const uint32_t most = i == 0 ? kMaxAdminEntries : kMaxQueueEntries;
    const SubmissionQueue& sq = queues.submission[i];
    const CompletionQueue& cq = queues.completion[i];
    if (sq.entries == 1 || sq.entries > most || cq.entries == 1 ||
        cq.entries > most) {
      return false;
    }
    if (sq.entries != 0 &&
        (sq.head >= sq.entries || sq.tail >= sq.entries ||
         sq.cq_id >= kQueues || queues.completion[sq.cq_id].entries == 0)) {
      return false;
    }
    if (cq.entries != 0 && (cq.head >= cq.entries || cq.tail >= cq.entries ||
                            cq.vector >= kVectors)) {
      return false;
    }
    if (sq.deleting > 1 || cq.phase > 1 || cq.interrupts > 1) return false;
  }
  if (queues.unposted_count > kMaxUnposted) return false;
  for (unsigned i = 0; i < queues.unposted_count; ++i) {
    const uint16_t sq_id = queues.unposted[i].sq_id;
    if (sq_id >= kQueues || queues.submission[sq_id].entries == 0) return false;
  }
  const uint64_t page_offset = (uint64_t{1} << kPageBits) - 1;
  return ((queues.shadow_doorbells | queues.event_indices) & page_offset) ==
             0 &&
         queues.next_queue < kQueues;
}

}  // namespace

bool IsPlausible(const ControllerState& state) {
  if (PageBits(state.registers.cc) > kMaxPageBits ||
      (state.registers.cc & ~kCcWritable) != 0 ||
      (state.registers.csts & ~(kCstsReady | kCstsFatal | kCstsShutdownMask)) !=
          0) {
    return false;
  }
  if (!IsPlausibleQueues(state.queues)) return false;
  const FeatureState& features = state.features;
  if (features.io_submission_queues < 1 ||
      features.io_submission_queues > kMaxIoQueues ||
      features.io_completion_queues < 1 ||
      features.io_completion_queues > kMaxIoQueues) {
    return false;
  }
  return state.logs.request_count <= kMaxAsyncEvents;
}

}  // namespace bulkhead::nvme
