#include "proxy/remote_device.h"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "proto/channel.h"
#include "proxy/eventfd.h"

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
      memory_([this](const MemoryRange& range, bool mapped) {
        SendRange(range, mapped);
      }),
      link_(deadlines, [this](InterruptKind kind, uint32_t vector) {
        Raise(kind, vector);
      }) {
  vectors_[INTX].resize(1);
  vectors_[MSI].resize(kMaxMsiVectors);
  vectors_[MSIX].resize(kMaxMsixVectors);
}

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
  if (is_high) Raise(INTX, 0);
}

void RemoteDevice::TellEverything() {
  const auto operation = link_.Operation(link_.deadlines().access);
  for (const MemoryRange& range : memory_.ranges()) {
    SendRange(range, /*mapped=*/true);
  }
  for (InterruptKind kind : kKinds) SendVectors(kind, 0, VectorCount(kind));
  if (!link_.open()) return;
  link_.Request().mutable_reset();
  link_.SendRequest(/*patience=*/0);
  if (link_.open()) link_.Enliven();
}

bool RemoteDevice::Available() const {
  return link_.state() == ServiceLink::State::kLive;
}

const RegionShape& RemoteDevice::Region(uint32_t region) const {
  return link_.shape().regions.at(region);
}

uint32_t RemoteDevice::VectorCount(InterruptKind kind) const {
  return link_.shape().vectors.at(kind);
}

bool RemoteDevice::Read(uint32_t region, uint64_t offset,
                        absl::Span<uint8_t> data) {
  if (region >= kRegionLimit || !Region(region).readable ||
      !IsInside(offset, data.size(), Region(region).size_bytes)) {
    return false;
  }
  recent_.Note(kLoad);
  link_.Load(region, offset, data);
  return true;
}

bool RemoteDevice::Write(uint32_t region, uint64_t offset,
                         absl::Span<const uint8_t> data) {
  if (region >= kRegionLimit || !Region(region).writable ||
      !IsInside(offset, data.size(), Region(region).size_bytes)) {
    return false;
  }
  recent_.Note(kStore);
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
  const auto operation = link_.Operation(link_.deadlines().access);
  const MemoryRange range = {.address = address,
                             .size_bytes = size_bytes,
                             .ram_offset = file_offset,
                             .readable = readable,
                             .writable = writable,
                             .is_ram = ram_.Holds(fd, file_offset, size_bytes)};
  return memory_.Insert(range);
}

bool RemoteDevice::Unmap(uint64_t address, uint64_t size_bytes) {
  const auto operation = link_.Operation(link_.deadlines().access);
  return memory_.Remove(address, size_bytes);
}

void RemoteDevice::UnmapAll() {
  const auto operation = link_.Operation(link_.deadlines().access);
  memory_.Clear();
}

// Whoever uses a new range does so by a later frame, so the answer need not be
// awaited; what has gone must be out of use first.
void RemoteDevice::SendRange(const MemoryRange& range, bool mapped) {
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
  link_.SendRequest(mapped ? 0 : link_.deadlines().access);
}

bool RemoteDevice::SetVectors(InterruptKind kind, uint32_t first,
                              uint32_t count, absl::Span<Fd> fds) {
  const uint32_t vectors = VectorCount(kind);
  const bool is_good = first <= vectors && count <= vectors - first &&
                       (fds.empty() || fds.size() == count) &&
                       std::all_of(fds.begin(), fds.end(), IsEventfd);
  if (!is_good) return false;
  for (uint32_t i = 0; i < count; ++i) {
    vectors_[kind][first + i] = fds.empty() ? Fd() : std::move(fds[i]);
  }
  SendVectors(kind, first, count);
  // A line that is already high has had its edge.
  if (kind == INTX && !fds.empty()) MaskIntx(false);
  return true;
}

// Slices of what one frame can carry.
void RemoteDevice::SendVectors(InterruptKind kind, uint32_t first,
                               uint32_t count) {
  const auto operation = link_.Operation(link_.deadlines().access);
  const absl::Span<const Fd> vectors =
      absl::MakeSpan(vectors_[kind]).subspan(first, count);
  for (size_t at = 0; at < vectors.size() && link_.open(); at += kMaxFrameFds) {
    const absl::Span<const Fd> slice = vectors.subspan(at, kMaxFrameFds);
    std::array<int, kMaxFrameFds> fds;
    size_t fd_count = 0;
    SetInterrupts* set = link_.Request().mutable_set_interrupts();
    set->set_kind(kind);
    set->set_first(first + static_cast<uint32_t>(at));
    set->set_count(static_cast<uint32_t>(slice.size()));
    for (const Fd& fd : slice) {
      set->add_present(fd.valid());
      if (fd.valid()) fds[fd_count++] = fd.get();
    }
    link_.SendRequest(link_.deadlines().access, {fds.data(), fd_count});
  }
}

void RemoteDevice::DisableVectors(InterruptKind kind) {
  for (Fd& fd : vectors_[kind]) fd.Close();
  if (kind == INTX) intx_pending_ = false;
  if (!link_.open()) return;
  link_.Request().mutable_set_interrupts()->set_kind(kind);
  link_.SendRequest(link_.deadlines().access);
}

bool RemoteDevice::Trigger(InterruptKind kind, uint32_t vector) {
  if (vector >= VectorCount(kind)) return false;
  Raise(kind, vector);
  return true;
}

// The numbers may be a service's.
void RemoteDevice::Raise(InterruptKind kind, uint32_t vector) const {
  if (InterruptKind_IsValid(kind) && vector < vectors_[kind].size()) {
    RaiseEventfd(vectors_[kind][vector]);
  }
}

void RemoteDevice::MaskIntx(bool masked) {
  intx_pending_ = false;
  if (masked) return;
  UnmaskIntx(MonotonicNow() + (recent_.last() == kLoad
                                   ? link_.deadlines().acknowledge
                                   : kApplyTime));
  recent_.Note(kUnmask);
}

void RemoteDevice::UnmaskIntx(Nanoseconds due) {
  intx_pending_ = true;
  intx_asked_ = false;
  intx_pending_store_ = link_.last_store();
  intx_raised_before_ = link_.intx_raised();
  intx_due_ = due;
  SettleIntx();
}

void RemoteDevice::SetIntxUnmaskFd(Fd fd) {
  intx_unmask_fd_ = IsEventfd(fd) ? std::move(fd) : Fd();
}

void RemoteDevice::OnIntxUnmaskFd() {
  uint64_t count;
  // The guest's handler is done: what is high now stays high.
  if (read(intx_unmask_fd_.get(), &count, sizeof count) == sizeof count) {
    UnmaskIntx(MonotonicNow());
  }
}

void RemoteDevice::Reset() {
  if (!link_.open()) return;
  link_.Request().mutable_reset();
  link_.SendRequest(link_.deadlines().reset);
}

void RemoteDevice::Detach() {
  const auto operation = link_.Operation(link_.deadlines().reset);
  for (InterruptKind kind : kKinds) DisableVectors(kind);
  SetIntxUnmaskFd(Fd());
  Reset();
  UnmapAll();
}

}  // namespace bulkhead::proxy
