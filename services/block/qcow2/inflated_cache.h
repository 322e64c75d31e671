// InflatedCache keeps compressed clusters after inflating them: a guest reads a
// cluster in many small pieces, and inflating it for each is what makes
// compressed images slow.
//
//   slot = cache.Find(layer, host_offset)   or   cache.Take(...), and fill it
//
// TRUST    Contents are the guest's own data; a slot is shown only when it has
//          been filled whole.
// ERRORS   Take answers nullptr when too many slots are being filled.
// THREADS  The loop; a worker fills the bytes of a slot that is being filled.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATED_CACHE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATED_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "services/block/file_io.h"
#include "services/block/qcow2/inflate.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block::qcow2 {

// What one filling needs, besides the slot. There are few of them.
struct Filler {
  std::unique_ptr<uint8_t[]> compressed;
  std::unique_ptr<Inflater> inflaters[2];  // by compression type
  bool busy = false;
};

struct InflatedSlot : Work {
  enum class State : uint8_t { kEmpty, kFilling, kReady };

  State state = State::kEmpty;
  size_t layer = 0;
  uint64_t host_offset = 0;
  uint64_t last_use = 0;
  uint8_t* bytes = nullptr;  // one inflated cluster
  void* waiters = nullptr;   // the engine's
  void* owner = nullptr;     // the engine

  // For the worker.
  Filler* filler = nullptr;
  FileIo* file = nullptr;
  uint8_t type = 0;
  uint32_t compressed_bytes = 0;
  uint32_t cluster_bytes = 0;
  int error = 0;
};

class InflatedCache {
 public:
  // Slots of `cluster_bytes`, about `cache_bytes` in all, at least two.
  InflatedCache(size_t cluster_bytes, size_t cache_bytes, bool with_zstd);

  // nullptr: not there.
  InflatedSlot* Find(size_t layer, uint64_t host_offset);
  // The least recently used slot, now kFilling and named.
  InflatedSlot* Take(size_t layer, uint64_t host_offset);
  // The filling has ended: kReady, or kEmpty after an error.
  void Filled(InflatedSlot* slot);
  // A compressed cluster is no more: its place may get other contents.
  void Forget(size_t layer, uint64_t host_offset);

  // Reads and inflates what the slot names: a Work::run.
  static void Fill(Work* work);

 private:
  std::unique_ptr<uint8_t[]> memory_;
  std::vector<InflatedSlot> slots_;
  std::array<Filler, 4> fillers_;
  uint64_t use_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_INFLATED_CACHE_H_
