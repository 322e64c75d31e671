#include "services/runtime/eventfd_interrupts.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "services/runtime/fd_io.h"

namespace bulkhead {

EventfdInterrupts::~EventfdInterrupts() {
  for (Vectors* vectors : {&intx_, &msi_, &msix_}) {
    for (const int fd : vectors->fds) {
      if (fd >= 0) close(fd);
    }
  }
}

void EventfdInterrupts::Configure(const DeviceDescription& description) {
  intx_.fds.assign(description.intx_pin() != 0 ? 1 : 0, -1);
  msi_.fds.assign(std::min(description.msi_vectors(), uint32_t{32}), -1);
  msix_.fds.assign(std::min(description.msix_vectors(), kMaxVectors), -1);
}

EventfdInterrupts::Vectors* EventfdInterrupts::Find(InterruptKind kind) {
  switch (kind) {
    case INTX:
      return &intx_;
    case MSI:
      return &msi_;
    case MSIX:
      return &msix_;
    default:
      return nullptr;
  }
}

void EventfdInterrupts::SetIntxLevel(bool asserted) {
  if (asserted == level_) return;
  level_ = asserted;
  shadow_.intx_level.store(asserted ? 1 : 0, std::memory_order_release);
  if (asserted) {
    Trigger(intx_, 0);
  } else if (intx_.any_pending) {
    // The level fell before anybody was told of it.
    intx_.pending[0] = 0;
    intx_.any_pending = false;
  }
}

bool EventfdInterrupts::Assign(InterruptKind kind, uint32_t first,
                               uint32_t count, const int* fds) {
  Vectors* vectors = Find(kind);
  if (vectors == nullptr || first > vectors->fds.size() ||
      count > vectors->fds.size() - first) {
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    int& fd = vectors->fds[first + i];
    if (fd >= 0) {
      close(fd);
      --vectors->enabled;
    }
    fd = fds[i];
    if (fd >= 0) ++vectors->enabled;
    const uint32_t vector = first + i;
    vectors->reported[vector / 64] &= ~(uint64_t{1} << (vector % 64));
  }
  // A line that is high already must reach the eventfd that is new.
  if (kind == INTX && level_) Trigger(intx_, 0);
  return true;
}

bool EventfdInterrupts::DisableAll(InterruptKind kind) {
  Vectors* vectors = Find(kind);
  if (vectors == nullptr) return false;
  for (int& fd : vectors->fds) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
  vectors->enabled = 0;
  return true;
}

void EventfdInterrupts::Trigger(Vectors& vectors, uint32_t vector) {
  if (vector >= vectors.fds.size() || vectors.fds[vector] < 0) return;
  if (!held_back_) {
    Raise(vectors, vector);
    return;
  }
  vectors.pending[vector / 64] |= uint64_t{1} << (vector % 64);
  vectors.any_pending = true;
}

bool EventfdInterrupts::Signal(int fd) {
  const uint64_t one = 1;
  const ssize_t written = WriteFd(fd, &one, sizeof one);
  // A counter at its limit is raised already.
  const bool raised = written == sizeof one || (written < 0 && errno == EAGAIN);
  (raised ? raised_ : failed_).fetch_add(1, std::memory_order_relaxed);
  return raised;
}

bool EventfdInterrupts::TriggerMsixApart(uint32_t vector) {
  if (vector >= msix_.fds.size() || msix_.fds[vector] < 0) return true;
  return Signal(msix_.fds[vector]);
}

void EventfdInterrupts::Raise(Vectors& vectors, uint32_t vector) {
  const int fd = vectors.fds[vector];
  if (fd < 0) return;
  if (vectors.kind == INTX) {
    shadow_.intx_raised.fetch_add(1, std::memory_order_relaxed);
  }
  if (Signal(fd)) return;
  uint64_t& reported = vectors.reported[vector / 64];
  const uint64_t bit = uint64_t{1} << (vector % 64);
  if ((reported & bit) == 0 && !has_failure_) {
    reported |= bit;
    has_failure_ = true;
    failure_ = {vectors.kind, vector};
  }
}

void EventfdInterrupts::FlushKind(Vectors& vectors) {
  if (!vectors.any_pending) return;
  vectors.any_pending = false;
  for (uint32_t word = 0; word * 64 < vectors.fds.size(); ++word) {
    uint64_t bits = vectors.pending[word];
    vectors.pending[word] = 0;
    for (; bits != 0; bits &= bits - 1) {
      Raise(vectors, word * 64 + static_cast<uint32_t>(std::countr_zero(bits)));
    }
  }
}

void EventfdInterrupts::Flush() {
  held_back_ = false;
  FlushKind(intx_);
  FlushKind(msi_);
  FlushKind(msix_);
}

void EventfdInterrupts::DropPending() {
  for (Vectors* vectors : {&intx_, &msi_, &msix_}) {
    vectors->pending = {};
    vectors->any_pending = false;
  }
}

bool EventfdInterrupts::TakeFailure(Failure* failure) {
  if (!has_failure_) return false;
  *failure = failure_;
  has_failure_ = false;
  return true;
}

}  // namespace bulkhead
