// LogicalUnit is one disk or CD-ROM (or the absence of one) behind a target:
// who it is, its medium, and what it remembers between commands.
//
// TRUST    UnitConfig is the launcher's and has been checked by MakeBus.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     SAM-5 §4.6.19; unit attention SAM-5 §5.14; sense data SPC-4 §4.5.

#ifndef BULKHEAD_SERVICES_SCSI_LOGICAL_UNIT_H_
#define BULKHEAD_SERVICES_SCSI_LOGICAL_UNIT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "services/block/backend.h"
#include "services/scsi/state.h"

namespace bulkhead::scsi {

struct UnitConfig {
  unsigned target = 0;  // below kMaxTargets
  unsigned lun = 0;     // below kMaxLuns
  UnitKind kind = UnitKind::kDisk;
  uint32_t block_size_bytes = 0;  // 0: 512, of a CD-ROM 2048
  std::string serial;             // at most 20 printable ASCII characters
  std::string vendor;             // at most 8; empty: "BULKHEAD"
  std::string product;            // at most 16; empty: "DISK" or "CD-ROM"
  uint64_t wwn = 0;               // NAA identifier; 0: derived from the serial
  // Outlives the bus. nullptr: a CD-ROM drive with nothing in it.
  block::Backend* backend = nullptr;
};

// Checks a configuration and puts defaults in the place of what is empty.
absl::Status CheckUnit(UnitConfig* unit);

// What all units of a bus have in common.
struct BusOptions {
  // The adapter sends sense data with the status. Otherwise (parallel SCSI) a
  // unit keeps it until REQUEST SENSE asks.
  bool autosense = false;
  // INQUIRY says that synchronous transfers can be negotiated. Wide ones
  // cannot: the bus is narrow.
  bool parallel_scsi = true;
  // Data passes through `piece_count` buffers of `piece_bytes` (a multiple of
  // 32 KiB) each.
  size_t piece_bytes = 128 * 1024;
  size_t piece_count = 32;
};

struct UnitStatistics {
  uint64_t commands = 0;
  uint64_t reads = 0;
  uint64_t read_bytes = 0;
  uint64_t writes = 0;
  uint64_t written_bytes = 0;
  uint64_t verified_bytes = 0;
  uint64_t unmapped_bytes = 0;
  uint64_t flushes = 0;
  uint64_t check_conditions = 0;
  uint64_t read_errors = 0;
  uint64_t write_errors = 0;
  uint64_t verify_errors = 0;
  uint64_t aborted_tasks = 0;
};

class LogicalUnit {
 public:
  // `state` and `options` outlive the unit. Starts as after power on.
  LogicalUnit(const UnitConfig& config, const BusOptions& options,
              UnitState* state);

  const UnitConfig& config() const { return config_; }
  const BusOptions& options() const { return options_; }
  UnitKind kind() const { return config_.kind; }
  block::Backend* backend() const { return config_.backend; }
  UnitState& state() { return *state_; }
  const UnitState& state() const { return *state_; }
  UnitStatistics& statistics() { return statistics_; }
  const UnitStatistics& statistics() const { return statistics_; }

  uint32_t block_size_bytes() const { return config_.block_size_bytes; }
  uint64_t block_count() const { return block_count_; }
  // A bit for each LUN that exists behind this unit's target.
  uint8_t present_luns() const { return present_luns_; }
  void set_present_luns(uint8_t luns) { present_luns_ = luns; }

  // The medium cannot be written, whatever the initiator says.
  bool read_only() const;
  // SBC-3 §4.7: UNMAP works; and reads of what it unmapped give zeroes.
  bool can_unmap() const;
  bool unmapped_reads_zero() const;
  bool has_medium() const;
  // Reading a piece ahead of the initiator takes load off the next wait.
  bool reads_ahead() const { return reads_ahead_; }

  // Before each command: its backend may have grown.
  void FollowBackend();

  // SAM-5 §5.14.
  void RaiseUnitAttention(UnitAttention attention);
  std::optional<Sense> TakeUnitAttention();

  // Sense data kept for REQUEST SENSE, oldest first. Several tasks of a queue
  // may end with errors before the first is asked about.
  void KeepSense(const Sense& sense);
  std::optional<Sense> TakeKeptSense();
  // Any other command ends what is kept, as in SCSI-2 §7.6: an initiator that
  // goes on without asking will never ask.
  void ForgetSense() { state_->pending_sense_count = 0; }

  // SAM-5 §6.3: conditions return to their defaults.
  void Reset(UnitAttention why);
  // To what the state says: after mode parameters changed, or a load.
  void ApplyMode();

 private:
  UnitConfig config_;
  const BusOptions& options_;
  UnitState* state_;
  UnitStatistics statistics_;
  uint64_t block_count_ = 0;
  uint8_t present_luns_ = 0;
  bool reads_ahead_ = false;
};

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_LOGICAL_UNIT_H_
