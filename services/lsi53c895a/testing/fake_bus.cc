#include "services/lsi53c895a/testing/fake_bus.h"

#include <algorithm>
#include <cstdio>

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint8_t kRead6 = 0x08;
constexpr uint8_t kWrite6 = 0x0a;
constexpr uint8_t kFails = 0xff;

std::string Nexus3(const char* what, unsigned target, unsigned lun,
                   uint32_t tag) {
  char line[80];
  std::snprintf(line, sizeof(line), "%s %u/%u/%d", what, target, lun,
                static_cast<int>(tag));
  return line;
}

}  // namespace

FakeBus::FakeTask::FakeTask(FakeBus* bus, const scsi::Command& command)
    : bus_(bus), command_(command) {
  const uint8_t code = command.cdb[0];
  if (code == kRead6 || code == kWrite6) {
    data_.resize(command.cdb[4] * bus->block_bytes);
    out_ = code == kWrite6;
    for (size_t i = 0; i < data_.size() && !out_; ++i) {
      data_[i] = static_cast<char>(Pattern(i));
    }
  }
  if (code == kFails) status_ = scsi::Status::kCheckCondition;
  state_ = bus->busy ? State::kBusy : Working();
}

scsi::Task::State FakeBus::FakeTask::Working() const {
  if (at_ == data_.size()) return State::kStatus;
  return out_ ? State::kDataOut : State::kDataIn;
}

absl::Span<uint8_t> FakeBus::FakeTask::buffer() {
  const size_t in_piece = bus_->piece_bytes - at_ % bus_->piece_bytes;
  return absl::MakeSpan(reinterpret_cast<uint8_t*>(data_.data()) + at_,
                        std::min(in_piece, data_.size() - at_));
}

void FakeBus::FakeTask::Advance(size_t bytes) {
  at_ += bytes;
  state_ = Working();
  if (out_ && state_ == State::kStatus) bus_->written = data_;
  if (bus_->busy_between_pieces && state_ != State::kStatus &&
      at_ % bus_->piece_bytes == 0) {
    state_ = State::kBusy;
  }
}

bool FakeBus::FakeTask::GoOn() {
  if (state_ != State::kBusy) return false;
  state_ = Working();
  return true;
}

void FakeBus::FakeTask::Release() {
  bus_->tasks_.remove_if(
      [this](const FakeTask& task) { return &task == this; });
}

scsi::Task* FakeBus::Start(const scsi::Command& command) {
  log.push_back(Nexus3("Start", command.target, command.lun, command.tag));
  if (full || tasks_.size() == scsi::kMaxTasks) return nullptr;
  return &tasks_.emplace_back(this, command);
}

bool FakeBus::Poll() {
  if (!complete_) return false;
  complete_ = false;
  bool changed = false;
  for (FakeTask& task : tasks_) changed |= task.GoOn();
  return changed;
}

scsi::Task* FakeBus::Find(unsigned target, unsigned lun, uint32_t tag) {
  for (FakeTask& task : tasks_) {
    const scsi::Command& c = task.command();
    if (c.target == target && c.lun == lun && c.tag == tag) return &task;
  }
  return nullptr;
}

const scsi::BusState& FakeBus::state() const {
  size_t i = 0;
  for (scsi::TaskState& task : state_.tasks) task = scsi::TaskState();
  for (const FakeTask& task : tasks_) {
    state_.tasks[i].phase = scsi::TaskPhase::kRunning;
    state_.tasks[i++].command = task.command();
  }
  return state_;
}

bool FakeBus::LoadState(const scsi::BusState& state) {
  if (!scsi::ValidState(state)) return false;
  tasks_.clear();
  for (const scsi::TaskState& task : state.tasks) {
    if (task.phase != scsi::TaskPhase::kFree) {
      tasks_.emplace_back(this, task.command);
    }
  }
  return true;
}

template <typename Matches>
void FakeBus::Remove(Matches matches) {
  tasks_.remove_if(
      [&](const FakeTask& task) { return matches(task.command()); });
}

void FakeBus::AbortTask(unsigned target, unsigned lun, uint32_t tag) {
  log.push_back(Nexus3("AbortTask", target, lun, tag));
  Remove([=](const scsi::Command& c) {
    return c.target == target && c.lun == lun && c.tag == tag;
  });
}

void FakeBus::AbortTaskSet(unsigned target, unsigned lun) {
  log.push_back(Nexus3("AbortTaskSet", target, lun, 0));
  Remove([=](const scsi::Command& c) {
    return c.target == target && c.lun == lun;
  });
}

void FakeBus::ClearTaskSet(unsigned target, unsigned lun) {
  log.push_back(Nexus3("ClearTaskSet", target, lun, 0));
  Remove([=](const scsi::Command& c) {
    return c.target == target && c.lun == lun;
  });
}

void FakeBus::LogicalUnitReset(unsigned target, unsigned lun) {
  log.push_back(Nexus3("LogicalUnitReset", target, lun, 0));
  Remove([=](const scsi::Command& c) {
    return c.target == target && c.lun == lun;
  });
}

void FakeBus::TargetReset(unsigned target) {
  log.push_back(Nexus3("TargetReset", target, 0, 0));
  Remove([=](const scsi::Command& c) { return c.target == target; });
}

void FakeBus::BusReset() {
  log.push_back("BusReset");
  tasks_.clear();
}

}  // namespace bulkhead::lsi53c895a
