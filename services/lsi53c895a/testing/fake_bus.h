// FakeBus is a scsi::Bus of one target whose commands do what a test says: a
// read answers with a pattern, a write is kept, and either may stay busy until
// it is told to go on.
//
// TRUST    For tests only, fuzzing included: any CDB is answered.
// ERRORS   None. THREADS  One.

#ifndef BULKHEAD_SERVICES_LSI53C895A_TESTING_FAKE_BUS_H_
#define BULKHEAD_SERVICES_LSI53C895A_TESTING_FAKE_BUS_H_

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "services/scsi/state.h"
#include "services/scsi/target.h"

namespace bulkhead::lsi53c895a {

class FakeBus : public scsi::Bus {
 public:
  static constexpr unsigned kTarget = 3;

  // READ(6) and WRITE(6) move cdb[4] blocks of this many bytes; any other
  // command has no data. Operation code 0xff ends with CHECK CONDITION.
  size_t block_bytes = 16;
  size_t piece_bytes = 1 << 20;
  // New commands stay kBusy until Complete.
  bool busy = false;
  bool busy_between_pieces = false;
  bool full = false;  // Start answers nullptr

  // Everything busy goes on at the next Poll.
  void Complete() { complete_ = true; }

  std::vector<std::string> log;  // Start and task management
  std::string written;           // data-out of the command finished last
  size_t tasks() const { return tasks_.size(); }

  static uint8_t Pattern(size_t index) {
    return static_cast<uint8_t>(index * 7 + 1);
  }

  bool HasTarget(unsigned target) const override { return target == kTarget; }
  scsi::Task* Start(const scsi::Command& command) override;
  bool Poll() override;
  void AbortTask(unsigned target, unsigned lun, uint32_t tag) override;
  void AbortTaskSet(unsigned target, unsigned lun) override;
  void ClearTaskSet(unsigned target, unsigned lun) override;
  void LogicalUnitReset(unsigned target, unsigned lun) override;
  void TargetReset(unsigned target) override;
  void BusReset() override;
  bool HasWork() const override { return false; }
  scsi::Task* Find(unsigned target, unsigned lun, uint32_t tag) override;
  bool idle() const override { return true; }
  std::string Outstanding() const override { return ""; }
  void SetPaused(bool) override {}
  // Commands are kept, not data: a task of a loaded state starts afresh.
  const scsi::BusState& state() const override;
  bool LoadState(const scsi::BusState& state) override;
  void ReportStatistics(Statistics*) const override {}

 private:
  class FakeTask;

  template <typename Matches>
  void Remove(Matches matches);

  std::list<FakeTask> tasks_;
  mutable scsi::BusState state_ = {};
  bool complete_ = false;
};

class FakeBus::FakeTask : public scsi::Task {
 public:
  FakeTask(FakeBus* bus, const scsi::Command& command);

  State state() const override { return state_; }
  const scsi::Command& command() const override { return command_; }
  absl::Span<uint8_t> buffer() override;
  void Advance(size_t bytes) override;
  void EndData() override { state_ = State::kStatus; }
  uint64_t remaining_bytes() const override { return data_.size() - at_; }
  scsi::Status status() const override { return status_; }
  absl::Span<const uint8_t> sense() const override { return {}; }
  void Release() override;

  // Out of kBusy; true if it was in it.
  bool GoOn();

 private:
  State Working() const;

  FakeBus* bus_;
  scsi::Command command_;
  State state_ = State::kBusy;
  bool out_ = false;
  std::string data_;
  size_t at_ = 0;
  scsi::Status status_ = scsi::Status::kGood;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_TESTING_FAKE_BUS_H_
