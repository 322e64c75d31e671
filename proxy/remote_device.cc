#include "proxy/remote_device.h"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "proto/channel.h"

namespace bulkhead::proxy {
namespace {

constexpr InterruptKind kKinds[] = {INTX, MSI, MSIX};

// RecentEvents.
constexpr uint32_t kLoad = 1;
constexpr uint32_t kStore = 2;
constexpr uint32_t kUnmask = 3;

// From a store until a service has applied it.
constexpr Nanoseconds kApplyTime = 50'000;

}  // namespace

RemoteDevice::RemoteDevice(const Deadlines& deadlines, const RamIdentity& ram)
    : ram_(ram),
      acknowledge_(deadlines.acknowledge),
      link_(deadlines, [this](InterruptKind kind, uint32_t vector) {
        eventfds_.Raise(kind, vector);
      }) {}

void RemoteDevice::Settle() {
  if (link_.state() == ServiceLink::State::kDescribed) TellEverything();
  SettleIntx();
}

void RemoteDevice::SettleIntx() {
  if (!intx_pending_) return;
  if (link_.state() != ServiceLink::State::kLive ||
      link_.intx_raised() != intx_raised_before_) {
    intx_pending_ = false;  // nothing asserts it, or it has been raised since
    return;
  }
  const bool is_due = MonotonicNow() >= intx_due_;
  if (!link_.Applied(intx_pending_store_)) {
    // Each time: an older question may be under way, which asks for less.
    if (is_due) link_.AskApplied();
    intx_asked_ |= is_due;
    return;
  }
  const bool has_stored = link_.last_store() != intx_pending_store_ &&
                          link_.Applied(link_.last_store());
  const bool is_high = link_.intx_level();
  if (is_high && !is_due && !has_stored) return;  // it may be about to fall
  intx_pending_ = false;
  if (is_high) eventfds_.Raise(INTX, 0);
}

void RemoteDevice::TellEverything() {
  const ServiceLink::Operation operation(&link_, link_.deadlines().access);
  for (const MemoryRange& range : memory_.ranges()) {
    SendRange(range, /*mapped=*/true, ServiceLink::Answer::kLater);
  }
  for (InterruptKind kind : kKinds) SendVectors(kind, 0, VectorCount(kind));
  if (!link_.open()) return;
  link_.Request().mutable_reset();
  link_.SendRequest(ServiceLink::Answer::kLater);
  if (link_.open()) link_.Enliven();
}

bool RemoteDevice::Available() const {
  return link_.state() == ServiceLink::State::kLive;
}

const RegionShape& RemoteDevice::Region(uint32_t region) const {
  return link_.shape().regions.at(region);
}

uint32_t RemoteDevice::VectorCount(InterruptKind kind) const {
  switch (kind) {
    case INTX:
      return link_.shape().intx_vectors;
    case MSI:
      return link_.shape().msi_vectors;
    case MSIX:
      return link_.shape().msix_vectors;
    default:
      return 0;
  }
}

bool RemoteDevice::Contains(uint32_t region, uint64_t offset,
                            size_t size_bytes) const {
  if (region >= kRegionLimit) return false;
  const uint64_t whole = link_.shape().regions[region].size_bytes;
  return offset <= whole && size_bytes <= whole - offset;
}

bool RemoteDevice::Read(uint32_t region, uint64_t offset,
                        absl::Span<uint8_t> data) {
  if (!Contains(region, offset, data.size()) || !Region(region).readable) {
    return false;
  }
  recent_.Note(last_event_ = kLoad);
  link_.Load(region, offset, data);
  return true;
}

bool RemoteDevice::Write(uint32_t region, uint64_t offset,
                         absl::Span<const uint8_t> data) {
  if (!Contains(region, offset, data.size()) || !Region(region).writable) {
    return false;
  }
  recent_.Note(last_event_ = kStore);
  const bool narrow = Region(region).narrow;
  while (!data.empty()) {
    const uint32_t size_bytes = PieceBytes(offset, data.size(), narrow);
    uint64_t value = 0;
    memcpy(&value, data.data(), size_bytes);
    link_.Store(region, offset, size_bytes, value);
    offset += size_bytes;
    data.remove_prefix(size_bytes);
  }
  return true;
}

bool RemoteDevice::Map(uint64_t address, uint64_t size_bytes,
                       uint64_t file_offset, bool readable, bool writable,
                       int fd) {
  const ServiceLink::Operation operation(&link_, link_.deadlines().access);
  const MemoryRange range = {.address = address,
                             .size_bytes = size_bytes,
                             .ram_offset = file_offset,
                             .readable = readable,
                             .writable = writable,
                             .is_ram = ram_.Holds(fd, file_offset, size_bytes)};
  return memory_.Insert(range, [this](const MemoryRange& changed, bool mapped) {
    // Whoever uses the new range does so by a later frame, so the answer need
    // not be awaited; what the range replaces must be out of use first.
    SendRange(
        changed, mapped,
        mapped ? ServiceLink::Answer::kLater : ServiceLink::Answer::kWait);
  });
}

bool RemoteDevice::Unmap(uint64_t address, uint64_t size_bytes) {
  const ServiceLink::Operation operation(&link_, link_.deadlines().access);
  return memory_.Remove(
      address, size_bytes, [this](const MemoryRange& changed, bool mapped) {
        SendRange(
            changed, mapped,
            mapped ? ServiceLink::Answer::kLater : ServiceLink::Answer::kWait);
      });
}

void RemoteDevice::UnmapAll() {
  const ServiceLink::Operation operation(&link_, link_.deadlines().access);
  memory_.Clear([this](const MemoryRange& changed, bool mapped) {
    SendRange(changed, mapped, ServiceLink::Answer::kWait);
  });
}

void RemoteDevice::SendRange(const MemoryRange& range, bool mapped,
                             ServiceLink::Answer answer) {
  if (!range.is_ram || !link_.open()) return;
  if (mapped) {
    MemoryMap* map = link_.Request().mutable_memory_map();
    map->set_address(range.address);
    map->set_size_bytes(range.size_bytes);
    map->set_ram_offset(range.ram_offset);
    map->set_readable(range.readable);
    map->set_writable(range.writable);
  } else {
    MemoryUnmap* unmap = link_.Request().mutable_memory_unmap();
    unmap->set_address(range.address);
    unmap->set_size_bytes(range.size_bytes);
  }
  link_.SendRequest(answer);
}

bool RemoteDevice::SetVectors(InterruptKind kind, uint32_t first,
                              uint32_t count, absl::Span<const int> fds) {
  const uint32_t vectors = VectorCount(kind);
  const bool is_good = first <= vectors && count <= vectors - first &&
                       (fds.empty() || fds.size() == count) &&
                       std::all_of(fds.begin(), fds.end(), IsEventfd);
  if (!is_good) {
    for (int fd : fds) close(fd);
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    eventfds_.Set(kind, first + i, fds.empty() ? -1 : fds[i]);
  }
  SendVectors(kind, first, count);
  // A line that is already high has had its edge.
  if (kind == INTX && !fds.empty()) MaskIntx(false);
  return true;
}

// Slices of what one frame can carry.
void RemoteDevice::SendVectors(InterruptKind kind, uint32_t first,
                               uint32_t count) {
  const ServiceLink::Operation operation(&link_, link_.deadlines().access);
  const absl::Span<const int> vectors =
      eventfds_.Vectors(kind).subspan(first, count);
  for (size_t at = 0; at < vectors.size() && link_.open(); at += kMaxFrameFds) {
    const absl::Span<const int> slice = vectors.subspan(at, kMaxFrameFds);
    std::array<int, kMaxFrameFds> fds;
    size_t fd_count = 0;
    SetInterrupts* set = link_.Request().mutable_set_interrupts();
    set->set_kind(kind);
    set->set_first(first + static_cast<uint32_t>(at));
    set->set_count(static_cast<uint32_t>(slice.size()));
    for (int fd : slice) {
      set->add_present(fd >= 0);
      if (fd >= 0) fds[fd_count++] = fd;
    }
    link_.SendRequest(ServiceLink::Answer::kWait, {fds.data(), fd_count});
  }
}

void RemoteDevice::DisableVectors(InterruptKind kind) {
  for (uint32_t i = 0; i < eventfds_.Vectors(kind).size(); ++i) {
    eventfds_.Set(kind, i, -1);
  }
  if (kind == INTX) intx_pending_ = false;
  if (!link_.open()) return;
  link_.Request().mutable_set_interrupts()->set_kind(kind);
  link_.SendRequest(ServiceLink::Answer::kWait);
}

bool RemoteDevice::Trigger(InterruptKind kind, uint32_t vector) {
  if (vector >= VectorCount(kind)) return false;
  eventfds_.Raise(kind, vector);
  return true;
}

void RemoteDevice::MaskIntx(bool masked) {
  intx_pending_ = false;
  if (masked) return;
  UnmaskIntx(MonotonicNow() +
             (last_event_ == kLoad ? acknowledge_ : kApplyTime));
  recent_.Note(last_event_ = kUnmask);
}

void RemoteDevice::UnmaskIntx(Nanoseconds due) {
  intx_pending_ = true;
  intx_asked_ = false;
  intx_pending_store_ = link_.last_store();
  intx_raised_before_ = link_.intx_raised();
  intx_due_ = due;
  SettleIntx();
}

void RemoteDevice::SetIntxUnmaskFd(int fd) {
  if (intx_unmask_fd_ >= 0) close(intx_unmask_fd_);
  intx_unmask_fd_ = fd;
  if (fd >= 0 && !IsEventfd(fd)) {
    close(fd);
    intx_unmask_fd_ = -1;
  }
}

void RemoteDevice::OnIntxUnmaskFd() {
  uint64_t count;
  // The guest's handler is done: what is high now stays high.
  if (read(intx_unmask_fd_, &count, sizeof count) == sizeof count) {
    UnmaskIntx(MonotonicNow());
  }
}

void RemoteDevice::Reset() {
  if (!link_.open()) return;
  link_.Request().mutable_reset();
  link_.SendRequest(ServiceLink::Answer::kWaitForReset);
}

void RemoteDevice::Detach() {
  const ServiceLink::Operation operation(&link_, link_.deadlines().reset);
  for (InterruptKind kind : kKinds) DisableVectors(kind);
  SetIntxUnmaskFd(-1);
  Reset();
  UnmapAll();
}

}  // namespace bulkhead::proxy
