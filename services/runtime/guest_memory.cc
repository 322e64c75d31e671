#include "services/runtime/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace bulkhead {
namespace {

#ifndef SYS_mseal
constexpr long SYS_mseal = 462;  // Linux 6.10
#endif

constexpr uint64_t kMaxRamBytes = uint64_t{1} << 46;

constexpr size_t kCacheLineBytes = 64;

// The end of [start, start + size), or false when it wraps or is empty. A range
// that ends exactly at 2^64 is not addressable by a PCI device and is refused.
bool EndOf(uint64_t start, uint64_t size_bytes, uint64_t* end) {
  return size_bytes != 0 && !__builtin_add_overflow(start, size_bytes, end);
}

// Sizes of registers and ring entries are copied by one load and one store, so
// that an aligned value is never seen half-written.
void CopyBytes(void* to, const void* from, size_t size_bytes) {
  switch (size_bytes) {
    case 1:
      memcpy(to, from, 1);
      break;
    case 2:
      memcpy(to, from, 2);
      break;
    case 4:
      memcpy(to, from, 4);
      break;
    case 8:
      memcpy(to, from, 8);
      break;
    default:
      memcpy(to, from, size_bytes);
  }
}

absl::Status CheckFile(int ram_fd, uint64_t ram_bytes,
                       GuestMemory::Source source) {
  struct stat info;
  if (fstat(ram_fd, &info) != 0) {
    return absl::InternalError(absl::StrCat("guest RAM: fstat: errno ", errno));
  }
  if (ram_bytes == 0 || ram_bytes > kMaxRamBytes || info.st_size < 0 ||
      static_cast<uint64_t>(info.st_size) != ram_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "guest RAM has ", info.st_size, " bytes instead of ", ram_bytes));
  }
  if (source == GuestMemory::Source::kSealedMemfd) {
    const int seals = fcntl(ram_fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
      return absl::FailedPreconditionError(
          "guest RAM is not a memfd sealed against shrinking");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GuestMemory> GuestMemory::Create(int ram_fd, uint64_t ram_bytes,
                                                Source source) {
  if (absl::Status status = CheckFile(ram_fd, ram_bytes, source);
      !status.ok()) {
    return status;
  }
  void* base = mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, ram_fd, 0);
  if (base == MAP_FAILED) {
    return absl::InternalError(absl::StrCat(
        "cannot map guest RAM of ", ram_bytes, " bytes: errno ", errno));
  }
  // Both are wishes. A core dump must not hold the guest's memory even where a
  // user has allowed core dumps, and large pages save TLB misses.
  madvise(base, ram_bytes, MADV_DONTDUMP);
  madvise(base, ram_bytes, MADV_HUGEPAGE);
  return GuestMemory(static_cast<std::byte*>(base), ram_bytes);
}

GuestMemory GuestMemory::CreateForTest(uint64_t ram_bytes) {
  void* base = mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) abort();
  GuestMemory memory(static_cast<std::byte*>(base), ram_bytes);
  if (!memory.Map({0}, ram_bytes, 0, true, true).ok()) abort();
  return memory;
}

GuestMemory::GuestMemory(std::byte* base, uint64_t ram_bytes)
    : base_(base), ram_bytes_(ram_bytes) {
  mappings_.reserve(kMaxMappings);  // the table never allocates again
}

GuestMemory::GuestMemory(GuestMemory&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      ram_bytes_(std::exchange(other.ram_bytes_, 0)),
      sealed_(other.sealed_),
      mappings_(std::move(other.mappings_)),
      last_hit_(other.last_hit_.load(std::memory_order_relaxed)) {}

GuestMemory& GuestMemory::operator=(GuestMemory&& other) noexcept {
  if (this != &other) {
    std::swap(base_, other.base_);
    std::swap(ram_bytes_, other.ram_bytes_);
    std::swap(sealed_, other.sealed_);
    std::swap(mappings_, other.mappings_);
    last_hit_ = 0;
    other.last_hit_ = 0;
  }
  return *this;
}

GuestMemory::~GuestMemory() {
  if (base_ != nullptr && !sealed_) munmap(base_, ram_bytes_);
}

void GuestMemory::Seal() {
  sealed_ = syscall(SYS_mseal, base_, ram_bytes_, 0UL) == 0;
}

size_t GuestMemory::LowerBound(uint64_t address) const {
  const auto it = std::lower_bound(
      mappings_.begin(), mappings_.end(), address,
      [](const Mapping& mapping, uint64_t value) {
        return mapping.address + (mapping.size_bytes - 1) < value;
      });
  return static_cast<size_t>(it - mappings_.begin());
}

const GuestMemory::Mapping* GuestMemory::Find(uint64_t address) const {
  const size_t last = last_hit_.load(std::memory_order_relaxed);
  if (last < mappings_.size()) {
    const Mapping& hit = mappings_[last];
    if (address - hit.address < hit.size_bytes) return &hit;
  }
  const size_t index = LowerBound(address);
  if (index == mappings_.size() || mappings_[index].address > address) {
    return nullptr;
  }
  last_hit_.store(index, std::memory_order_relaxed);
  return &mappings_[index];
}

std::byte* GuestMemory::InOneMapping(GuestAddress address, uint64_t size_bytes,
                                     DmaDirection direction) const {
  const Mapping* mapping = Find(address.value);
  if (mapping == nullptr || !mapping->Allows(direction)) return nullptr;
  const uint64_t offset = address.value - mapping->address;
  if (size_bytes > mapping->size_bytes - offset) return nullptr;
  return base_ + mapping->ram_offset + offset;
}

absl::Status GuestMemory::Map(GuestAddress address, uint64_t size_bytes,
                              uint64_t ram_offset, bool readable,
                              bool writable) {
  uint64_t end;
  uint64_t ram_end;
  if (!EndOf(address.value, size_bytes, &end) ||
      !EndOf(ram_offset, size_bytes, &ram_end) || ram_end > ram_bytes_) {
    return absl::InvalidArgumentError("a mapping outside RAM");
  }
  if (mappings_.size() >= kMaxMappings) {
    return absl::ResourceExhaustedError("too many mappings");
  }
  const size_t index = LowerBound(address.value);
  if (index < mappings_.size() && mappings_[index].address < end) {
    return absl::InvalidArgumentError("a mapping that overlaps another");
  }
  mappings_.insert(
      mappings_.begin() + static_cast<ptrdiff_t>(index),
      Mapping{address.value, size_bytes, ram_offset, readable, writable});
  last_hit_ = index;
  return absl::OkStatus();
}

void GuestMemory::Unmap(GuestAddress address, uint64_t size_bytes) {
  if (size_bytes == 0) return;
  const uint64_t start = address.value;
  uint64_t end;
  if (!EndOf(start, size_bytes, &end)) {
    end = std::numeric_limits<uint64_t>::max();
  }
  last_hit_ = 0;
  size_t index = LowerBound(start);
  if (index < mappings_.size() && mappings_[index].address < start) {
    // The part below the hole stays where it is.
    Mapping& below = mappings_[index];
    const Mapping whole = below;
    below.size_bytes = start - whole.address;
    ++index;
    const uint64_t whole_end = whole.address + whole.size_bytes;
    if (whole_end > end && mappings_.size() < kMaxMappings) {
      mappings_.insert(mappings_.begin() + static_cast<ptrdiff_t>(index),
                       Mapping{end, whole_end - end,
                               whole.ram_offset + (end - whole.address),
                               whole.readable, whole.writable});
    }
    if (whole_end >= end) return;
  }
  size_t last = index;
  while (last < mappings_.size() &&
         mappings_[last].address + mappings_[last].size_bytes <= end) {
    ++last;
  }
  if (last < mappings_.size() && mappings_[last].address < end) {
    Mapping& above = mappings_[last];
    const uint64_t cut = end - above.address;
    above.address += cut;
    above.ram_offset += cut;
    above.size_bytes -= cut;
  }
  mappings_.erase(mappings_.begin() + static_cast<ptrdiff_t>(index),
                  mappings_.begin() + static_cast<ptrdiff_t>(last));
}

void GuestMemory::UnmapAll() {
  mappings_.clear();
  last_hit_ = 0;
}

bool GuestMemory::IsMapped(GuestAddress address, uint64_t size_bytes) const {
  if (size_bytes == 0) return false;
  const size_t index = LowerBound(address.value);
  return index < mappings_.size() &&
         (mappings_[index].address <= address.value ||
          mappings_[index].address - address.value < size_bytes);
}

template <typename Step>
bool GuestMemory::Walk(GuestAddress address, uint64_t size_bytes,
                       DmaDirection direction, Step step) const {
  uint64_t at = address.value;
  uint64_t end;
  if (__builtin_add_overflow(at, size_bytes, &end)) return false;
  while (at < end) {
    const Mapping* mapping = Find(at);
    if (mapping == nullptr || !mapping->Allows(direction)) return false;
    const uint64_t offset = at - mapping->address;
    const uint64_t bytes = std::min(end - at, mapping->size_bytes - offset);
    if (!step(base_ + mapping->ram_offset + offset, bytes)) return false;
    at += bytes;
  }
  return true;
}

bool GuestMemory::Read(GuestAddress address, void* to,
                       size_t size_bytes) const {
  if (const std::byte* host =
          InOneMapping(address, size_bytes, DmaDirection::kFromGuest)) {
    CopyBytes(to, host, size_bytes);
    return true;
  }
  // Checked as a whole first: an error copies nothing.
  const auto any = [](std::byte*, uint64_t) { return true; };
  if (!Walk(address, size_bytes, DmaDirection::kFromGuest, any)) return false;
  auto* next = static_cast<std::byte*>(to);
  return Walk(address, size_bytes, DmaDirection::kFromGuest,
              [&next](std::byte* host, uint64_t bytes) {
                memcpy(next, host, bytes);
                next += bytes;
                return true;
              });
}

bool GuestMemory::Write(GuestAddress address, const void* from,
                        size_t size_bytes) {
  if (std::byte* host =
          InOneMapping(address, size_bytes, DmaDirection::kToGuest)) {
    CopyBytes(host, from, size_bytes);
    return true;
  }
  const auto any = [](std::byte*, uint64_t) { return true; };
  if (!Walk(address, size_bytes, DmaDirection::kToGuest, any)) return false;
  const auto* next = static_cast<const std::byte*>(from);
  return Walk(address, size_bytes, DmaDirection::kToGuest,
              [&next](std::byte* host, uint64_t bytes) {
                memcpy(host, next, bytes);
                next += bytes;
                return true;
              });
}

void GuestMemory::Prefetch(GuestAddress address, size_t size_bytes) const {
  const std::byte* host =
      InOneMapping(address, size_bytes, DmaDirection::kFromGuest);
  if (host == nullptr) return;
  for (size_t at = 0; at < size_bytes; at += kCacheLineBytes) {
    __builtin_prefetch(host + at);
  }
}

bool GuestMemory::Translate(GuestAddress address, uint64_t size_bytes,
                            DmaDirection direction, iovec* segments,
                            size_t capacity, size_t* count) const {
  const size_t before = *count;
  size_t used = before;
  const bool whole = Walk(
      address, size_bytes, direction, [&](std::byte* host, uint64_t bytes) {
        if (used > before) {
          iovec& last = segments[used - 1];
          if (static_cast<std::byte*>(last.iov_base) + last.iov_len == host) {
            last.iov_len += bytes;
            return true;
          }
        }
        if (used >= capacity) return false;
        segments[used++] = {host, bytes};
        return true;
      });
  if (whole) *count = used;
  return whole;
}

std::byte* GuestMemory::Aligned(GuestAddress address, size_t size_bytes,
                                DmaDirection direction) const {
  if (address.value % size_bytes != 0) return nullptr;
  std::byte* host = InOneMapping(address, size_bytes, direction);
  // A mapping may shift the alignment.
  return reinterpret_cast<uintptr_t>(host) % size_bytes == 0 ? host : nullptr;
}

bool GuestMemory::LoadAcquire16(GuestAddress address, uint16_t* value) const {
  const std::byte* host =
      Aligned(address, sizeof *value, DmaDirection::kFromGuest);
  if (host == nullptr) return false;
  *value = __atomic_load_n(reinterpret_cast<const uint16_t*>(host),
                           __ATOMIC_ACQUIRE);
  return true;
}

bool GuestMemory::LoadAcquire32(GuestAddress address, uint32_t* value) const {
  const std::byte* host =
      Aligned(address, sizeof *value, DmaDirection::kFromGuest);
  if (host == nullptr) return false;
  *value = __atomic_load_n(reinterpret_cast<const uint32_t*>(host),
                           __ATOMIC_ACQUIRE);
  return true;
}

bool GuestMemory::StoreRelease16(GuestAddress address, uint16_t value) {
  std::byte* host = Aligned(address, sizeof value, DmaDirection::kToGuest);
  if (host == nullptr) return false;
  __atomic_store_n(reinterpret_cast<uint16_t*>(host), value, __ATOMIC_RELEASE);
  return true;
}

bool GuestMemory::StoreRelease32(GuestAddress address, uint32_t value) {
  std::byte* host = Aligned(address, sizeof value, DmaDirection::kToGuest);
  if (host == nullptr) return false;
  __atomic_store_n(reinterpret_cast<uint32_t*>(host), value, __ATOMIC_RELEASE);
  return true;
}

}  // namespace bulkhead
