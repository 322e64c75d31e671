// ClusterSet is a set of cluster numbers that grows only up to what it was
// made for: an open-addressed table, so that adding allocates nothing.
//
// TRUST    Numbers may come from an image; the capacity bounds the memory.
// ERRORS   Add answers false when the number is there already, or no room is.
// THREADS  One.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_CLUSTER_SET_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_CLUSTER_SET_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

namespace bulkhead::block::qcow2 {

class ClusterSet {
 public:
  ClusterSet() = default;
  // Takes memory as it fills: what was never written of a fresh block is not
  // there yet, and reads as free slots.
  explicit ClusterSet(size_t capacity)
      : slot_count_(std::bit_ceil(capacity * 2 + 16)),
        slots_(
            static_cast<uint64_t*>(std::calloc(slot_count_, sizeof(uint64_t)))),
        room_(slots_ != nullptr ? capacity : 0),
        capacity_(room_) {}
  ClusterSet(ClusterSet&& other) noexcept { *this = std::move(other); }
  ClusterSet& operator=(ClusterSet&& other) noexcept {
    slot_count_ = std::exchange(other.slot_count_, 0);
    slots_ = std::move(other.slots_);
    room_ = std::exchange(other.room_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  // How many numbers it can hold.
  size_t capacity() const { return capacity_; }

  bool Add(uint64_t cluster) {
    if (room_ == 0) return false;
    const size_t slot = Slot(cluster);
    if (slots_[slot] != kNone) return false;
    slots_[slot] = Stored(cluster);
    --room_;
    return true;
  }
  void Remove(uint64_t cluster) {
    if (!Contains(cluster)) return;
    size_t hole = Slot(cluster);
    slots_[hole] = kNone;
    ++room_;
    // Close the gap: whoever stands behind it and hashes before it moves up.
    for (size_t at = Next(hole); slots_[at] != kNone; at = Next(at)) {
      const size_t home = Home(slots_[at] - 1);
      const bool stays =
          hole <= at ? hole < home && home <= at : hole < home || home <= at;
      if (stays) continue;
      slots_[hole] = slots_[at];
      slots_[at] = kNone;
      hole = at;
    }
  }
  // Until `visit` answers false; whether it never did.
  template <typename Visit>
  bool ForEach(const Visit& visit) const {
    for (size_t i = 0; slots_ != nullptr && i < slot_count_; ++i) {
      if (slots_[i] != kNone && !visit(slots_[i] - 1)) return false;
    }
    return true;
  }
  bool Contains(uint64_t cluster) const {
    return slots_ != nullptr && slots_[Slot(cluster)] == Stored(cluster);
  }

 private:
  static constexpr uint64_t kNone = 0;
  static constexpr uint64_t Stored(uint64_t cluster) { return cluster + 1; }

  struct Free {
    void operator()(uint64_t* slots) const { std::free(slots); }
  };

  size_t Home(uint64_t cluster) const {
    return (cluster * uint64_t{0x9e3779b97f4a7c15} >> 20) & (slot_count_ - 1);
  }
  size_t Next(size_t slot) const { return (slot + 1) & (slot_count_ - 1); }
  // Where the number is, or would be put.
  size_t Slot(uint64_t cluster) const {
    size_t slot = Home(cluster);
    while (slots_[slot] != kNone && slots_[slot] != Stored(cluster)) {
      slot = Next(slot);
    }
    return slot;
  }

  size_t slot_count_ = 0;
  std::unique_ptr<uint64_t[], Free> slots_;
  size_t room_ = 0;
  size_t capacity_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_CLUSTER_SET_H_
