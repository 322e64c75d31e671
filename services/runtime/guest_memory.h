// GuestMemory is the guest's RAM as one service sees it: the memfd passed by
// the launcher, mapped once, seen through the table of what QEMU has mapped.
// The guest may rewrite any byte at any moment.
//
// TRUST    Addresses, lengths and bytes are hostile. A value is copied out
//          once, then checked and used; nothing is read twice. Map is given
//          numbers by the shim, and checks them against the memfd's size.
// ERRORS   false: the range is not wholly inside mapped RAM (or not mapped for
//          that access); nothing was copied. That is a guest fault: answer it
//          with the device's own error status.
// THREADS  Translation and copies are safe while no Map or Unmap runs; those
//          belong to the loop. Workers are given host segments, never
//          addresses. Ring indices go through LoadAcquire and StoreRelease;
//          plain Read and Write promise no ordering.

#ifndef BULKHEAD_SERVICES_RUNTIME_GUEST_MEMORY_H_
#define BULKHEAD_SERVICES_RUNTIME_GUEST_MEMORY_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace bulkhead {

// A guest-physical (bus) address. A type of its own, so that it is never
// mistaken for an offset or a host pointer.
struct GuestAddress {
  uint64_t value = 0;
  friend bool operator==(GuestAddress, GuestAddress) = default;
  friend GuestAddress operator+(GuestAddress a, uint64_t bytes) {
    return {a.value + bytes};  // may wrap; every use is checked
  }
};

enum class DmaDirection { kFromGuest, kToGuest };

class GuestMemory {
 public:
  // Regions of RAM that QEMU may have mapped at one time.
  static constexpr size_t kMaxMappings = 4096;

  enum class Source {
    // The launcher's memfd. It must carry F_SEAL_SHRINK, so that no page of it
    // can go away under the service (SIGBUS).
    kSealedMemfd,
    // A file whose size somebody else can change, for a QEMU that the user
    // runs. Whoever shrinks it ends this service, and nothing else.
    kPlainFile,
  };

  // Maps `ram_fd` (stays the caller's) once. `ram_bytes` must be its size.
  static absl::StatusOr<GuestMemory> Create(
      int ram_fd, uint64_t ram_bytes, Source source = Source::kSealedMemfd);
  // No mapping of a file: RAM of the given size for unit tests, identity
  // mapped from address 0.
  static GuestMemory CreateForTest(uint64_t ram_bytes);

  GuestMemory(GuestMemory&&) noexcept;
  GuestMemory& operator=(GuestMemory&&) noexcept;
  ~GuestMemory();

  // The translation table. Overlap with an existing mapping, a range beyond
  // RAM, or one that wraps is InvalidArgument and changes nothing.
  absl::Status Map(GuestAddress address, uint64_t size_bytes,
                   uint64_t ram_offset, bool readable, bool writable);
  // Removes whatever lies in the range, splitting mappings at its edges. When
  // the table is full, the part above a hole goes with it: less is mapped then,
  // never more.
  void Unmap(GuestAddress address, uint64_t size_bytes);
  void UnmapAll();
  // Whether any byte of the range is mapped.
  bool IsMapped(GuestAddress address, uint64_t size_bytes) const;

  // Seals the host's mapping itself (mseal) where the kernel can: no later
  // munmap, mremap or mprotect of it, not even by this process. It then lasts
  // until the process ends.
  void Seal();

  bool Read(GuestAddress address, void* to, size_t size_bytes) const;
  bool Write(GuestAddress address, const void* from, size_t size_bytes);

  // A hint that the range will be read soon. Nothing is learned from it, and a
  // range that is not wholly in one mapping is left alone.
  void Prefetch(GuestAddress address, size_t size_bytes) const;

  // Copies out one trivially copyable value.
  template <typename T>
  bool ReadValue(GuestAddress address, T* value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return Read(address, value, sizeof(T));
  }

  // The host segments of a guest range, for I/O straight to or from RAM;
  // neighbours are joined.
  // Appends to `segments` at *count; false when it does not translate or needs
  // more than `capacity` segments in all (nothing is then appended).
  bool Translate(GuestAddress address, uint64_t size_bytes,
                 DmaDirection direction, iovec* segments, size_t capacity,
                 size_t* count) const;

  // The host's bytes of a range that lies in one mapping, as nearly all do; or
  // nullptr: it straddles several, or does not translate.
  std::byte* InOneMapping(GuestAddress address, uint64_t size_bytes,
                          DmaDirection direction) const;

  // Naturally aligned atomics for rings; false as above, or when misaligned.
  bool LoadAcquire16(GuestAddress address, uint16_t* value) const;
  bool LoadAcquire32(GuestAddress address, uint32_t* value) const;
  bool StoreRelease16(GuestAddress address, uint16_t value);
  bool StoreRelease32(GuestAddress address, uint32_t value);

  uint64_t ram_bytes() const { return ram_bytes_; }
  // Whole RAM on the host; for registering buffers and for tests.
  std::byte* host_base() const { return base_; }

 private:
  struct Mapping {
    uint64_t address;
    uint64_t size_bytes;
    uint64_t ram_offset;
    bool readable;
    bool writable;

    bool Allows(DmaDirection direction) const {
      return direction == DmaDirection::kFromGuest ? readable : writable;
    }
  };

  GuestMemory(std::byte* base, uint64_t ram_bytes);
  // The mapping that holds `address`, or nullptr.
  const Mapping* Find(uint64_t address) const;
  // Index of the first mapping that ends above `address`.
  size_t LowerBound(uint64_t address) const;
  std::byte* Aligned(GuestAddress address, size_t size_bytes,
                     DmaDirection direction) const;
  // Calls step(host, bytes) for each piece of a range that has been checked.
  template <typename Step>
  bool Walk(GuestAddress address, uint64_t size_bytes, DmaDirection direction,
            Step step) const;

  std::byte* base_ = nullptr;
  uint64_t ram_bytes_ = 0;
  bool sealed_ = false;
  std::vector<Mapping> mappings_;  // sorted by address, disjoint
  // Whose lookups it is, nobody minds: any value is a guess that is checked.
  mutable std::atomic<size_t> last_hit_ = 0;
};

}  // namespace bulkhead

#endif  // BULKHEAD_SERVICES_RUNTIME_GUEST_MEMORY_H_
