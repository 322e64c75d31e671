// L2Cache keeps the parts of L2 tables that are in use: slices of a few KiB,
// byte for byte as they are in the file, in memory taken once.
//
// It is write-through: an entry is changed here and in the file together, or
// (a deferred change, see Engine) here first, with the slice pinned until the
// file has it.
//
// TRUST    Entries are hostile; whoever reads one checks it.
// ERRORS   Find answers nullptr when a slice is not there and none can make
//          room (all are pinned or being read).
// THREADS  The loop. A worker may fill a slice that is kLoading.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_L2_CACHE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_L2_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace bulkhead::block::qcow2 {

struct L2Slice {
  enum class State : uint8_t { kEmpty, kLoading, kReady };

  uint64_t file_offset = 0;  // of its first entry
  uint8_t* bytes = nullptr;
  State state = State::kEmpty;
  uint32_t pins = 0;        // evicted only at 0
  uint32_t deferred = 0;    // changes that the file does not have yet
  void* waiters = nullptr;  // who waits for kReady; the engine's list

  // The cache's: the hash chain, and the order in which slices may be evicted.
  // One that was used since it came up is passed over once: noting that is all
  // that a hit costs.
  bool used = false;
  L2Slice* chain = nullptr;
  L2Slice* older = nullptr;
  L2Slice* newer = nullptr;
};

class L2Cache {
 public:
  // `slice_bytes` is a power of two that divides a cluster.
  L2Cache(size_t slice_bytes, size_t slice_count);

  L2Cache(const L2Cache&) = delete;
  L2Cache& operator=(const L2Cache&) = delete;

  // The slice, whatever its state, noted as used; or nullptr.
  L2Slice* Find(uint64_t file_offset);
  // A slice for `file_offset`, which is not cached: kLoading, to be filled.
  // nullptr: no room.
  L2Slice* Insert(uint64_t file_offset);
  // Forgets the slice's contents (a failed read).
  void Remove(L2Slice* slice);
  // Forgets every slice in the range: the cluster has another use now. None
  // of them may be pinned or loading.
  void Forget(uint64_t file_offset, uint64_t bytes);

  size_t slice_bytes() const { return slice_bytes_; }
  size_t slice_count() const { return slice_count_; }

 private:
  L2Slice** Bucket(uint64_t file_offset);
  void Unchain(L2Slice* slice);
  void Unlink(L2Slice* slice);
  void LinkNewest(L2Slice* slice);
  void LinkOldest(L2Slice* slice);

  // One that was never used, while there are any.
  L2Slice* TakeNew();

  const size_t slice_bytes_;
  const size_t slice_count_;
  unsigned slice_shift_ = 0;
  std::unique_ptr<uint8_t[]> memory_;
  std::vector<L2Slice> slices_;    // those that were ever used
  std::vector<L2Slice*> buckets_;  // a power of two
  L2Slice* oldest_ = nullptr;
  L2Slice* newest_ = nullptr;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_L2_CACHE_H_
