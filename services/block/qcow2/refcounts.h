// Refcounts keeps the image's reference counts: the refcount table in memory,
// a few refcount blocks cached, every change written through to the file.
//
// It is the only code that decides which cluster is free. Its calls block, and
// run where that is allowed: at opening and closing, and in the bookkeeper's
// order on a worker.
//
// Crash safety: a new refcount block is on stable storage before the table
// names it, a new table before the header does. Counts themselves are written
// without waiting; the caller syncs before something refers to a cluster, and
// drops a count only when nothing on stable storage refers to it any more.
//
// TRUST    Tables and counts are hostile: a count is never believed to protect
//          memory, only clusters.
// ERRORS   0 or -errno; -EUCLEAN: the image's refcounts make no sense.
// THREADS  One at a time.
// SPEC     qcow2.txt "Host cluster management".

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_REFCOUNTS_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_REFCOUNTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/block/file_io.h"
#include "services/block/qcow2/header.h"

namespace bulkhead::block::qcow2 {

// Clusters that are allocated (count 1) and that nothing refers to yet.
struct FreeRun {
  uint64_t first = 0;
  uint64_t count = 0;
  bool reads_zero = false;  // on stable storage too
};

class Refcounts {
 public:
  static absl::StatusOr<std::unique_ptr<Refcounts>> Open(FileIo* file,
                                                         const Header& header);

  int Get(uint64_t cluster, uint64_t* count);
  // Adds or takes 1 for each cluster of the run.
  int Increase(uint64_t first, uint64_t count);
  int Decrease(uint64_t first, uint64_t count);
  // For repairs: `is_used` tells of clusters whose count may not say so yet.
  int Set(uint64_t cluster, uint64_t value,  // set-up only
          const std::function<bool(uint64_t)>& is_used);

  // Finds free clusters, up to `wanted` of them in up to `capacity` runs,
  // counts them, makes them read as zeroes where the file can do that, and
  // syncs. Fewer (at least one) when there are no more. -ENOSPC: none.
  int Reserve(uint64_t wanted, FreeRun* runs, size_t capacity, size_t* used);

  // Finds `count` free clusters in a row and counts them: what a table needs.
  // They read as anything. -ENOSPC: there are none.
  int AllocateRun(uint64_t count, uint64_t* first);

  // Where the next search starts: a cluster that has become free.
  void HintFree(uint64_t cluster) { hint_ = std::min(hint_, cluster); }

  // The clusters of a refcount table that has been replaced and are still
  // counted; the caller releases them. false: there are none.
  bool TakeRetired(uint64_t* first, uint64_t* count);

  // Cuts free clusters off the file's end, down to what it had when opened.
  int TrimEnd();

  uint64_t file_clusters() const { return file_clusters_; }
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Block {
    uint64_t table_index = kNone;
    uint64_t last_use = 0;
    uint8_t* bytes = nullptr;
  };
  static constexpr uint64_t kNone = ~uint64_t{0};

  Refcounts(FileIo* file, const Header& header);
  absl::Status ReadTable();

  uint64_t block_entries() const {
    return header_.cluster_bytes() * 8 >> header_.refcount_order;
  }
  uint64_t max_count() const;
  // The block that counts clusters [index * block_entries, ...); *block is
  // nullptr where the table has none.
  int Load(uint64_t table_index, Block** block);
  int LoadOrCreate(uint64_t table_index, Block** block);
  int CreateBlock(uint64_t table_index, uint64_t cluster, Block** block);
  int PlaceOfNewBlock(uint64_t table_index, uint64_t* cluster);
  int GrowTable(uint64_t table_index);
  int WriteGrownTable(uint64_t start, uint64_t blocks, uint64_t clusters);
  Block* Victim();
  uint64_t Read(const Block& block, uint64_t entry) const;
  void Write(Block* block, uint64_t entry, uint64_t value) const;
  // Writes the entries' bytes to the file.
  int Store(const Block& block, uint64_t first_entry, uint64_t count);
  int Change(uint64_t first, uint64_t count, bool increase);
  int FindRun(uint64_t from, uint64_t limit, uint64_t wanted, FreeRun* run);
  // Where a search for `wanted` clusters ends.
  uint64_t SearchLimit(uint64_t wanted) const;
  int MakeZero(FreeRun* run);
  int ExtendTo(uint64_t clusters);
  bool MayUse(uint64_t cluster) const {
    return !is_used_ || !is_used_(cluster);
  }

  FileIo* const file_;
  const Header header_;  // but for the table's place:
  uint64_t table_offset_;
  uint64_t table_clusters_;
  std::vector<uint64_t> table_;
  std::unique_ptr<uint8_t[]> block_memory_;  // of all of them
  std::vector<Block> blocks_;
  uint64_t use_ = 0;
  uint64_t hint_ = 1;
  uint64_t retired_first_ = 0;
  uint64_t retired_count_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t opened_clusters_ = 0;
  uint64_t file_clusters_ = 0;  // of the file, the last one perhaps in part
  // After a failure it is not known whether the table names a block (the file
  // must keep its end), or the header a table (no count may change).
  bool table_uncertain_ = false;
  bool header_uncertain_ = false;
  std::function<bool(uint64_t)> is_used_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_REFCOUNTS_H_
