// Bookkeeper does what must happen in a certain order on stable storage, away
// from the loop: one order at a time, its steps always in this sequence.
//
//   1. sync       all data, and all L2 entries that refer to clusters counted
//                 and zeroed on stable storage before, are there
//   2. publish    the deferred L2 entries, whose data step 1 has made durable
//   3. sync       if anything was published that must now be durable
//   4. release    counts of clusters that no durable entry refers to any more
//   5. grow       a longer disk, while no request is under way (grow.h)
//   6. reserve    clusters for the writes to come: counted, zeroed, synced
//                 before the loop may refer to them
//
// So whenever the power fails, every entry on stable storage refers to a
// counted cluster with the right contents; at worst a cluster is counted that
// nothing refers to (a leak, which qemu-img check repairs).
//
// TRUST    Orders come from the engine, numbers in them from hostile tables:
//          Refcounts checks them.
// ERRORS   Each step's own: 0 or -errno. A failed step ends the order, except
//          that reserving is tried whatever came before it.
// THREADS  Run: wherever the engine runs it, one at a time.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_BOOKKEEPER_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_BOOKKEEPER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "services/block/file_io.h"
#include "services/block/qcow2/grow.h"
#include "services/block/qcow2/image.h"
#include "services/block/qcow2/refcounts.h"
#include "services/runtime/endian.h"

namespace bulkhead::block::qcow2 {

struct L2Slice;

// A deferred change of one L2 entry.
struct Publication {
  uint64_t file_offset = 0;
  Be64 entry;
  Be64 bitmap;  // extended entries: in the file it follows `entry`
  uint32_t entry_bytes = sizeof(entry);
  L2Slice* slice = nullptr;  // pinned until published
};
static_assert(offsetof(Publication, bitmap) ==
              offsetof(Publication, entry) + sizeof(Be64));

// Clusters of which one reference is gone.
struct Release {
  // Without initialisers, so that a table of them takes memory as it fills.
  uint64_t first;
  uint64_t count;
  bool may_punch;          // no other reference can exist
  uint64_t after_request;  // requests up to this number may still use it
};

inline constexpr size_t kMaxPublications = 2048;
inline constexpr size_t kMaxReleases = 4096;
inline constexpr size_t kMaxRuns = 64;

struct BookkeeperOrder {
  // All the memory that it will ever have, untouched until it is filled.
  BookkeeperOrder() { publish.reserve(kMaxPublications); }

  bool must_sync = false;  // a flush waits for steps 1 to 3
  size_t publications = 0;
  size_t releases = 0;
  uint64_t reserve_clusters = 0;
  bool grow = false;
  GrownDisk grown;
  std::vector<Publication> publish;
  std::array<Release, kMaxReleases> release;

  // Results.
  int sync_error = 0;     // for good: the kernel tells of lost data once
  int publish_error = 0;  // of a write, which may be tried again
  int release_error = 0;
  int grow_error = 0;
  int reserve_error = 0;
  size_t runs = 0;
  std::array<FreeRun, kMaxRuns> run;
};

class Bookkeeper {
 public:
  Bookkeeper(Image* image, Refcounts* refcounts)
      : image_(image),
        file_(&image->file()),
        refcounts_(refcounts),
        cluster_bits_(image->header().cluster_bits) {}

  void Run(BookkeeperOrder* order);

 private:
  void SyncAndPublish(BookkeeperOrder* order);
  int ReleaseAll(const BookkeeperOrder& order);

  Image* const image_;
  FileIo* const file_;
  Refcounts* const refcounts_;
  const unsigned cluster_bits_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_BOOKKEEPER_H_
