// Engine is a disk kept in a chain of images: a qcow2 image, its backing file
// (qcow2 or raw), that one's, and so on. Only the first is ever written.
//
// How a request moves: Submit gives it an Op; the op's step runs until it has
// to wait (for a file, a cluster that another op is allocating, room), and is
// resumed where it stood. Nothing recurses and nothing blocks the loop.
//
// How a write reaches the disk (docs in README.md):
//   in place       the cluster is ours alone: the data is written there;
//   immediate      the cluster read as zeroes, and the new one is counted and
//                  zeroed on stable storage: data, then the L2 entry;
//   deferred       anything else: data now; the L2 entry in the cache now, in
//                  the file once the data is on stable storage (Bookkeeper).
//
// TRUST    Requests and images are hostile; each entry is checked when used.
// ERRORS   See Backend. kCorrupt: this part of the image makes no sense.
// THREADS  The loop; files, inflating and the bookkeeper on the pool.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_ENGINE_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_ENGINE_H_

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "services/block/backend.h"
#include "services/block/file_io.h"
#include "services/block/file_queue.h"
#include "services/block/qcow2/bookkeeper.h"
#include "services/block/qcow2/decoded_cache.h"
#include "services/block/qcow2/image.h"
#include "services/block/qcow2/refcounts.h"
#include "services/block/qcow2/reserve.h"
#include "services/block/worker_pool.h"

namespace bulkhead::block::qcow2 {

// One image of the chain: a qcow2 image or a raw file.
struct Layer {
  std::unique_ptr<Image> image;
  std::unique_ptr<FileIo> raw;

  FileIo& file() const { return image ? image->file() : *raw; }
  uint64_t size_bytes = 0;  // of the disk that it holds
  uint64_t file_bytes() const {
    return image ? image->file_bytes() : raw_file_bytes;
  }
  uint64_t raw_file_bytes = 0;
};

struct EngineOptions {
  bool read_only = false;
  bool ignore_flush = false;
  size_t decoded_cache_bytes = 16 << 20;
};

class Engine final : public Backend {
 public:
  // layers[0] is a qcow2 image, clean, and writable unless read_only.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::vector<Layer> layers, std::unique_ptr<WorkerPool> pool,
      const EngineOptions& options);
  // Puts everything on stable storage and gives back what was reserved.
  ~Engine() override;

  const Geometry& geometry() const override { return geometry_; }
  void Submit(Request* request) override;
  void BeginBatch() override { pool_->HoldRing(); }
  void EndBatch() override { pool_->ReleaseRing(); }
  size_t Poll() override;
  int event_fd() const override { return pool_->event_fd(); }
  void Wake() override { pool_->Wake(); }
  size_t in_flight() const override { return in_flight_; }
  void Grow(Growth* growth) override;
  void SetWriteCache(bool enabled) override { write_cache_ = enabled; }
  void ReportStatistics(Statistics* statistics) const override;

 private:
  struct Op;
  // What a step says: go on, or someone will resume the op.
  enum class Next : uint8_t { kGoOn, kWait };
  using Step = Next (Engine::*)(Op*);

  static constexpr size_t kZeroSegments = 32;

  // Ops in order of arrival, linked through Op::next.
  struct OpList {
    Op* first = nullptr;
    Op* last = nullptr;
    bool empty() const { return first == nullptr; }
    void Append(Op* op);
    void Append(OpList* list);
    Op* TakeFirst();
  };

  // Segments being filled or written, and how far that has come.
  struct Transfer {
    uint64_t offset = 0;  // on the disk, of what is to do
    uint64_t end = 0;
    SegmentCursor cursor{nullptr, 0};
  };

  struct Op {
    FileWork work;
    Engine* engine = nullptr;
    Request* request = nullptr;
    Step step = nullptr;
    Op* next = nullptr;
    // Among those in flight, by number.
    uint64_t number = 0;
    Op* older = nullptr;
    Op* newer = nullptr;

    IoStatus failed = IoStatus::kOk;  // set while it waited
    bool flush_at_end = false;
    Transfer data;               // the guest's
    Step after_write = nullptr;  // when `data` has been written
    Transfer copy;               // the old contents of a cluster
    Step after_read = nullptr;   // when `reading` is at its end
    Transfer* reading = nullptr;
    uint64_t moving_bytes = 0;  // by `work`, of a transfer
    L2Slice* loading = nullptr;
    size_t loading_layer = 0;
    iovec copy_segment = {};
    uint8_t* bounce = nullptr;  // one cluster
    iovec* segments = nullptr;  // kMaxSegments of them
    uint64_t zeroes_end = 0;    // of the request, while a part is written
    std::array<iovec, kZeroSegments> zero_segments = {};

    // Clusters of the disk that no other op may change now.
    uint64_t lock_first = 0;
    uint64_t lock_count = 0;
    // An allocation under way.
    L2Slice* slice = nullptr;  // pinned
    uint64_t host_offset = 0;  // of the first cluster
    uint64_t new_clusters = 0;
    bool fresh = false;  // they are the reserve's, not the disk's
    // Extended entries: which subclusters of the one cluster become allocated;
    // 0: all of it.
    uint32_t subclusters = 0;
    uint64_t copy_from = 0;  // the part of the cluster in `bounce`
    uint64_t copy_bytes = 0;
    bool deferred = false;
    size_t entry_index = 0;  // being written
    size_t entry_count = 0;
    Step after_entries = nullptr;
    uint64_t old_table = 0;  // being copied
    Step after_table = nullptr;
    Be64 l1_entry;
  };

  struct Found {
    size_t layer = 0;
    Extent extent;
  };

  Engine(std::vector<Layer> layers, std::unique_ptr<WorkerPool> pool,
         const EngineOptions& options);
  absl::Status PrepareWriting();

  Image& active() { return *layers_[0].image; }
  uint64_t cluster_bytes() const { return cluster_bytes_; }

  // ---- engine.cc: the life of an op
  void Begin(Request* request);
  Op* TakeOp();
  void Drain();
  void Advance(Op* op);
  Next Complete(Op* op, IoStatus status);
  Next CompleteOk(Op* op) { return Complete(op, IoStatus::kOk); }
  // Gives back what the op holds, and completes it.
  Next Fail(Op* op, IoStatus status);
  Next CompleteData(Op* op);
  Next FlushStep(Op* op);
  void LinkNewest(Op* op);
  void Unlink(Op* op);
  // The op holds no cluster's place from before: releases need not wait for
  // it.
  void Renumber(Op* op);
  Next WaitIn(OpList* list, Op* op);
  Next Yield(Op* op) { return WaitIn(&ready_, op); }
  void Resume(OpList* list);
  void Resume(void** waiters, IoStatus failed);
  void FailAll(OpList* list, IoStatus status);  // kOk: resumes them
  static void AppendWaiter(void** waiters, Op* op);
  Next StartFile(Op* op, Step then);
  static void OnFileFinished(FileWork* work);
  void PrepareWork(Op* op, FileOperation operation, size_t layer,
                   uint64_t host_offset, Transfer* transfer, uint64_t bytes);
  void PrepareBuffer(Op* op, FileOperation operation, uint64_t host_offset,
                     void* buffer, uint64_t bytes);

  // ---- engine_read.cc
  Next ReadStep(Op* op);
  Next AfterRead(Op* op);
  Next ReadCoded(Op* op, const Found& found);
  static void OnFilled(Work* work);
  void FinishFilling(DecodedSlot* slot);
  // Where small reads of parents were found before.
  bool FindBelow(uint64_t offset, uint64_t bytes, Found* found) const;
  void NoteBelow(uint64_t offset, const Found& found);
  // kGoOn: *found is filled in. kWait: the op waits, or has ended.
  Next Find(Op* op, uint64_t offset, uint64_t max_bytes, Found* found);
  Next GetSlice(Op* op, size_t layer, uint64_t offset, L2Slice** slice);
  static void OnSliceLoaded(FileWork* work);
  void FinishLoading(Op* op);

  // ---- engine_write.cc
  Next WriteStep(Op* op);
  Next AfterWriteInPlace(Op* op);
  Next Allocate(Op* op, L2Slice* slice, const Extent& extent);
  Next AllocatePlain(Op* op, L2Slice* slice, uint64_t clusters, bool deferred);
  Next AllocateCopying(Op* op, L2Slice* slice, const Extent& extent);
  // Reads what [from, from + bytes) of the op's cluster had into a bounce
  // buffer, of which there is one.
  Next StartCopy(Op* op, uint64_t from, uint64_t bytes);
  Next CopyRead(Op* op);
  Next AllocatedWritten(Op* op);
  Next PublishStep(Op* op);
  Next FinishAllocation(Op* op);
  bool ReadsZero(const Extent& extent, uint64_t offset) const;
  void HoldClusters(Op* op, L2Slice* slice, uint64_t first, uint64_t count);
  void LetGo(Op* op);

  // ---- engine_extended.cc
  uint64_t ReplaceableClusters(const L2Slice& slice, uint64_t offset,
                               uint64_t wanted, bool any) const;
  Next AllocateExtended(Op* op, L2Slice* slice);
  void HoldNewCluster(Op* op, L2Slice* slice);
  Next AllocateInCluster(Op* op, L2Slice* slice, const Extent& cluster);
  Next WriteSubclusters(Op* op, uint64_t from, uint64_t to);
  Next CopySubclusters(Op* op, uint64_t from, uint64_t to);
  Next ZeroSubclusters(Op* op, uint64_t bytes);

  // ---- engine_table.cc
  Next EnsureTable(Op* op, Step then);
  Next TableRead(Op* op);
  Next TableWritten(Op* op);
  Next L1Written(Op* op);

  // ---- engine_zero.cc
  enum class ZeroChange : uint8_t { kNone, kEntry, kWrite, kInvalid };
  Next ZeroStep(Op* op);
  Next ZeroPart(Op* op);
  Next ZeroWithoutTable(Op* op);
  Next ZeroClusters(Op* op, L2Slice* slice, uint64_t clusters);
  Next ZeroesPublished(Op* op);
  Next ZeroByWriting(Op* op, uint64_t bytes);
  Next ZeroPartWritten(Op* op);
  ZeroChange ChangeForZero(const Request& request, const Extent& extent,
                           uint64_t offset, uint64_t* entry) const;

  // ---- engine_grow.cc
  absl::Status CanGrow(uint64_t size_bytes) const;
  bool IsTimeToGrow() const;
  void FinishGrowth(int error, const GrownDisk& grown);

  // ---- engine_order.cc: locks, releases, publications, the bookkeeper
  // How many of the clusters from `first` on are nobody's.
  uint64_t UnlockedPrefix(uint64_t first, uint64_t count) const;
  void Lock(Op* op, uint64_t first, uint64_t count);
  void Unlock(Op* op);
  // Writes entries of the op's slice as the cache has them, now or, where
  // that is not allowed, by publication.
  Next WriteEntries(Op* op, size_t index, size_t count, Step then);
  Next EntriesWritten(Op* op);
  void DeferEntries(L2Slice* slice, size_t index, size_t count);
  bool HasRoom(size_t publications, size_t releases) const;
  void AddRelease(uint64_t first, uint64_t count, bool may_punch);
  void ReleaseOld(const Extent& old);
  Next WaitForClusters(Op* op);
  void KickBookkeeper();
  bool FillOrder();
  size_t ReleasableCount() const;
  static void RunOrder(Work* work);
  static void OnOrderDone(Work* work);
  void FinishOrder();
  void TakePublished(const BookkeeperOrder& order);
  void Close();

  std::vector<Layer> layers_;
  std::unique_ptr<WorkerPool> pool_;
  FileQueue queue_;
  const EngineOptions options_;
  Geometry geometry_;
  uint64_t cluster_bytes_ = 0;
  bool write_cache_ = true;
  bool closing_ = false;
  bool draining_ = false;
  bool dirty_ = true;         // something was written since the last sync began
  bool sync_failed_ = false;  // once lost, the kernel tells only once

  size_t in_flight_ = 0;
  uint64_t last_number_ = 0;
  Op* oldest_ = nullptr;
  Op* newest_ = nullptr;
  std::vector<Op> ops_;  // those made so far
  std::unique_ptr<iovec[]> segment_memory_;
  Op* free_ops_ = nullptr;
  OpList ready_;
  OpList lock_waiters_;
  OpList cluster_waiters_;  // for the reserve
  OpList space_waiters_;    // for publications or releases
  OpList room_waiters_;     // for slices, slots or bounce buffers
  OpList flush_waiters_;
  OpList flushing_;        // those that the running order covers
  OpList held_by_growth_;  // those that came after it
  Growth* growth_ = nullptr;

  // Parents never change: which of them has the data of a cluster is looked
  // for once. Takes memory as it fills.
  struct Below {
    uint64_t cluster_plus_1;
    uint64_t place;  // in its file; the layer in its low bits
  };
  static constexpr uint64_t kBelowEntries = 16384;
  static constexpr uint64_t kLayerMask = 511;
  std::unique_ptr<Below[], void (*)(void*)> below_{nullptr, std::free};

  std::unique_ptr<DecodedCache> decoded_;

  // Writing only.
  std::unique_ptr<Refcounts> refcounts_;
  std::unique_ptr<Bookkeeper> bookkeeper_;
  Reserve reserve_;
  uint64_t reserve_batch_ = 0;
  std::unique_ptr<uint8_t[]> bounce_memory_;
  std::vector<uint8_t*> free_bounces_;
  std::array<Op*, kMaxInFlight> locked_ = {};
  size_t locked_count_ = 0;
  std::vector<Publication> publications_;  // in order, at most the maximum
  std::vector<Release> releases_;
  struct OrderWork : Work {
    Engine* engine = nullptr;
    BookkeeperOrder order;
  };
  std::unique_ptr<OrderWork> order_;
  bool order_running_ = false;
  bool reserve_failing_ = false;
  size_t unpublishable_ = 0;  // publications that the file did not take

  // Statistics.
  uint64_t leaked_clusters_ = 0;
  uint64_t corrupt_requests_ = 0;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_ENGINE_H_
