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
#include <vector>

namespace bulkhead::block::qcow2 {

class ClusterSet {
 public:
  ClusterSet() = default;
  explicit ClusterSet(size_t capacity)
      : slots_(std::bit_ceil(capacity * 2 + 16), kNone), room_(capacity) {}

  bool Add(uint64_t cluster) {
    if (room_ == 0) return false;
    size_t slot = Slot(cluster);
    if (slots_[slot] == cluster) return false;
    slots_[slot] = cluster;
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
      const size_t home = Home(slots_[at]);
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
    for (const uint64_t cluster : slots_) {
      if (cluster != kNone && !visit(cluster)) return false;
    }
    return true;
  }
  bool Contains(uint64_t cluster) const {
    return !slots_.empty() && slots_[Slot(cluster)] == cluster;
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};

  size_t Home(uint64_t cluster) const {
    return (cluster * uint64_t{0x9e3779b97f4a7c15} >> 20) & (slots_.size() - 1);
  }
  size_t Next(size_t slot) const { return (slot + 1) & (slots_.size() - 1); }
  // Where the number is, or would be put.
  size_t Slot(uint64_t cluster) const {
    size_t slot = Home(cluster);
    while (slots_[slot] != kNone && slots_[slot] != cluster) slot = Next(slot);
    return slot;
  }

  std::vector<uint64_t> slots_;
  size_t room_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_CLUSTER_SET_H_
