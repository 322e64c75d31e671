// BusRig is an adapter for tests: it starts a command, moves its data, polls
// as long as the command is busy, and tells how it ended.
//
// TRUST    Test code only.

#ifndef BULKHEAD_SERVICES_SCSI_TESTING_BUS_RIG_H_
#define BULKHEAD_SERVICES_SCSI_TESTING_BUS_RIG_H_

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "services/scsi/bus.h"
#include "services/scsi/spec.h"
#include "services/scsi/state.h"
#include "services/scsi/testing/memory_backend.h"

namespace bulkhead::scsi {

using Bytes = std::vector<uint8_t>;

// How a command ended.
struct Outcome {
  Status status = Status::kBusy;
  Bytes data_in;
  size_t data_out_bytes = 0;  // taken by the target
  Bytes sense;
  bool busy = false;  // it never ended: the backend holds it

  bool good() const { return !busy && status == Status::kGood; }
  // Of sense data in either form.
  SenseKey key() const;
  SenseCode code() const;
};

class BusRig {
 public:
  // One disk at target 0 LUN 0, without the unit attention of power on.
  explicit BusRig(uint64_t blocks = 2048, uint32_t block_size_bytes = 512,
                  uint64_t kept_bytes = 0);
  // The same with a CD-ROM drive.
  static BusRig Cdrom(uint64_t blocks = 1024);
  BusRig(std::vector<UnitConfig> units, const BusOptions& options);

  Bus& bus() { return *bus_; }
  MemoryBackend& disk() { return *disk_; }
  UnitConfig& unit() { return units_[0]; }
  // A new bus over the same disks, as after the service has died.
  void Rebuild();

  // Sends commands to here.
  void Address(unsigned target, unsigned lun) {
    target_ = target;
    lun_ = lun;
  }

  Task* Start(const Bytes& cdb, uint32_t tag = kUntagged,
              TaskAttribute attribute = TaskAttribute::kSimple);
  // Moves the task's data and polls until it has its status (then it is
  // released), or until nothing moves any more.
  Outcome Finish(Task* task, const Bytes& data_out = {});
  Outcome Run(const Bytes& cdb, const Bytes& data_out = {});
  // Reads the unit attention conditions away.
  void ClearAttention();

 private:
  std::unique_ptr<MemoryBackend> disk_;
  std::vector<UnitConfig> units_;
  BusOptions options_;
  std::unique_ptr<Bus> bus_;
  unsigned target_ = 0;
  unsigned lun_ = 0;
};

// CDBs.
Bytes Cdb10(Opcode opcode, uint32_t lba, uint16_t blocks, uint8_t flags = 0);
Bytes Cdb12(Opcode opcode, uint32_t lba, uint32_t blocks, uint8_t flags = 0);
Bytes Cdb16(Opcode opcode, uint64_t lba, uint32_t blocks, uint8_t flags = 0);
Bytes Pattern(size_t size, uint32_t seed = 1);

}  // namespace bulkhead::scsi

#endif  // BULKHEAD_SERVICES_SCSI_TESTING_BUS_RIG_H_
