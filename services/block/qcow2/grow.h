// GrowDisk makes an image's header tell a longer disk, with an L1 table that is
// long enough for it.
//
// Order, so that at any instant the file is a sound image of the old size or of
// the new one: clusters are counted, the new table is written, sync; size and
// place of the table, which lie in one sector, sync. The old table's clusters
// are the caller's to release.
//
// TRUST    The tables have been checked when the image was opened; counts are
//          hostile (Refcounts).
// ERRORS   0 or -errno. `uncertain`: the file may say the old or the new.
// THREADS  While no request is under way.
// SPEC     qcow2.txt "Header"; "Cluster mapping".

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_GROW_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_GROW_H_

#include <cstdint>

#include "services/block/qcow2/image.h"
#include "services/block/qcow2/refcounts.h"

namespace bulkhead::block::qcow2 {

struct GrownDisk {
  uint64_t size_bytes = 0;  // asked for
  // Results.
  uint64_t l1_offset = 0;
  uint32_t l1_entries = 0;
  bool uncertain = false;
};

int GrowDisk(Image* image, Refcounts* refcounts, GrownDisk* grown);

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_GROW_H_
