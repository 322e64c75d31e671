// DecodedCache keeps compressed and encrypted clusters as they are once
// decoded, the most recently used ones, in memory taken once.
//
// TRUST    Which clusters are named comes from checked L2 entries.
// ERRORS   DecodedSlot::error after a fill: 0 or -errno, -EBADMSG for bytes
//          that are no such cluster. Take: nullptr while everything is being
//          filled.
// THREADS  The loop. Workers fill the bytes of slots that are being filled;
//          one that finds no Filler free waits for it.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_DECODED_CACHE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_DECODED_CACHE_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "services/block/file_io.h"
#include "services/block/qcow2/decoder.h"
#include "services/block/qcow2/inflate.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block::qcow2 {

enum class Code : uint8_t { kZlib, kZstd, kAes };

// One coded cluster of one image of the chain.
struct CodedCluster {
  const Coding* coding = nullptr;  // names the image
  Code code = Code::kZlib;
  FileIo* file = nullptr;
  uint64_t host_offset = 0;
  uint32_t coded_bytes = 0;
  uint64_t disk_offset = 0;  // kAes: decides how it is decrypted; else 0

  bool IsSameAs(const CodedCluster& other) const {
    return coding == other.coding && host_offset == other.host_offset &&
           disk_offset == other.disk_offset && code == other.code;
  }
};

// What one filling needs, besides the slot. There are few of them.
struct Filler {
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Inflater> zstd;
  std::unique_ptr<uint8_t[]> compressed;  // zstd only
  bool busy = false;
};

class DecodedCache;

struct DecodedSlot : Work {
  enum class State : uint8_t { kEmpty, kFilling, kReady };

  State state = State::kEmpty;
  CodedCluster cluster;
  uint64_t last_use = 0;
  uint8_t* bytes = nullptr;  // one decoded cluster
  void* waiters = nullptr;   // the engine's
  void* owner = nullptr;     // the engine
  DecodedCache* cache = nullptr;
  int error = 0;
};

class DecodedCache {
 public:
  // Slots of the largest cluster of `codings`, about `cache_bytes` in all, at
  // least two. The codings stay where they are.
  DecodedCache(const std::vector<const Coding*>& codings, size_t cache_bytes,
               bool with_zstd);

  // nullptr: not there.
  DecodedSlot* Find(const CodedCluster& cluster);
  // The least recently used slot, now kFilling and named.
  DecodedSlot* Take(const CodedCluster& cluster);
  // The filling has ended: kReady, or kEmpty after an error.
  void Filled(DecodedSlot* slot);
  // A coded cluster is no more: its place may get other contents.
  void Forget(const Coding* coding, uint64_t host_offset);

  // Reads and decodes what the slot names: a Work::run.
  static void Fill(Work* work);

  size_t slots() const { return slots_.size(); }

 private:
  Filler* AcquireFiller(const Coding* coding);
  void ReleaseFiller(Filler* filler);
  static int FillWith(Filler* filler, const DecodedSlot& slot);

  std::unique_ptr<uint8_t[]> memory_;
  std::vector<DecodedSlot> slots_;
  std::mutex mutex_;
  std::condition_variable filler_freed_;
  std::vector<Filler> fillers_;  // under the mutex: `busy`
  uint64_t use_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_DECODED_CACHE_H_
