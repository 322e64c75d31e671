// CrashRig runs a workload on an image whose every write, punched hole and
// sync is recorded, and then asks: had the power failed here, what would be on
// the disk?
//
// A cut at position P of the record leaves
//   - everything written before the last sync that had ended by then,
//   - of what came after it: any part. A kernel writes back in any order, in
//     sectors of 512 bytes.
// The image must then be clean or leaking only, and each sector of the disk
// must hold what a completed flush promised, or something written later.
//
// THREADS  The test's; the engine has workers of its own.

#ifndef BULKHEAD_SERVICES_BLOCK_QCOW2_CRASH_RIG_H_
#define BULKHEAD_SERVICES_BLOCK_QCOW2_CRASH_RIG_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "services/block/memory_file.h"
#include "services/block/rig.h"

namespace bulkhead::block::qcow2 {

struct CrashScenario {
  const char* name;
  const char* create_options;
  bool overlay = false;   // on a parent with data
  bool snapshot = false;  // an internal snapshot is taken first
  bool compressed = false;
  unsigned workers = 2;  // 0: everything in order, on the loop
  bool growing = false;  // becomes longer twice, under load
};
extern const std::vector<CrashScenario> kCrashScenarios;

enum class CutMode {
  kPrefix,       // all that was recorded before the cut
  kDurable,      // only what was synced
  kSomeOps,      // a random half of the unsynced operations
  kSomeSectors,  // a random part of their sectors
};
inline constexpr int kCutModes = 4;

struct RecordedOp {
  enum class Kind { kWrite, kZero, kTruncate, kSyncBegins, kSyncEnds };
  Kind kind;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string data;
  size_t sync_began = 0;  // kSyncEnds: where in the record
};

class CrashRig {
 public:
  // Makes the image with qemu-img and runs `requests` of the workload.
  // `deaf`: syncs reach nothing, as on a disk that lies.
  CrashRig(const CrashScenario& scenario, uint64_t seed, int requests,
           bool deaf = false);

  size_t record_size() const { return record_.size(); }
  // "" or what is wrong with the disk after a cut there.
  std::string Judge(size_t position, CutMode mode, uint64_t seed);
  // The same image, for qemu-img check.
  std::string ImageAt(size_t position, CutMode mode, uint64_t seed);
  // What went wrong while the workload ran.
  const std::string& failure() const { return failure_; }

 private:
  class RecordingFile;
  // One change of one sector. `submitted` and `completed` are places in the
  // record. Whether a write had ended before a flush began is told by the
  // order of the rig's own steps: between two of them nothing may be recorded.
  struct Change {
    size_t submitted;
    size_t completed;
    uint64_t completed_step;
    uint64_t hash;
    bool durable_when_done;
    bool may_keep_old;  // a discard
  };
  struct Flush {
    uint64_t submitted_step;
    size_t completed;
  };
  // The disk became so long.
  struct Grown {
    size_t completed;
    uint64_t size_bytes;
  };
  struct Flying;

  void MakeImages(const CrashScenario& scenario);
  std::unique_ptr<Backend> OpenEngine(std::shared_ptr<MemoryDisk> disk,
                                      bool record, unsigned workers,
                                      std::string* error);
  void RunWorkload(const CrashScenario& scenario, int requests);
  void GrowDisk(Rig& rig, std::vector<std::unique_ptr<Flying>>* flying);
  void SubmitOne(Rig& rig, std::vector<std::unique_ptr<Flying>>* flying);
  void Collect(std::vector<std::unique_ptr<Flying>>* flying);
  size_t Now();
  std::string CheckContent(Rig& rig, size_t position) const;
  bool Allowed(size_t sector, uint64_t hash, size_t position,
               uint64_t flushed_step) const;

  const bool deaf_;
  std::mt19937_64 random_;
  uint64_t disk_bytes_ = 0;
  uint64_t step_ = 0;  // counts submissions and completions
  std::string first_image_;
  std::shared_ptr<MemoryDisk> disk_;
  std::shared_ptr<MemoryDisk> parent_;
  std::mutex mutex_;
  std::vector<RecordedOp> record_;
  std::vector<uint64_t> first_hashes_;        // per sector
  std::vector<std::vector<Change>> changes_;  // per sector, in order
  std::vector<Flush> flushes_;
  std::vector<Grown> grown_;
  std::string failure_;
};

}  // namespace bulkhead::block::qcow2

#endif  // BULKHEAD_SERVICES_BLOCK_QCOW2_CRASH_RIG_H_
