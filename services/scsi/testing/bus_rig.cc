#include "services/scsi/testing/bus_rig.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "services/runtime/endian.h"

namespace bulkhead::scsi {
namespace {

constexpr int kIdlePolls = 4;  // of a held backend, before the rig gives up

}  // namespace

SenseKey Outcome::key() const {
  if (sense.empty()) return SenseKey::kNoSense;
  return static_cast<SenseKey>(sense[(sense[0] & 0x7f) >= 0x72 ? 1 : 2] & 0x0f);
}

SenseCode Outcome::code() const {
  if (sense.empty()) return SenseCode::kNoAdditionalSense;
  return static_cast<SenseCode>(
      LoadBe16(&sense[(sense[0] & 0x7f) >= 0x72 ? 2 : 12]));
}

BusRig::BusRig(uint64_t blocks, uint32_t block_size_bytes, uint64_t kept_bytes)
    : disk_(std::make_unique<MemoryBackend>(blocks * block_size_bytes,
                                            kept_bytes)) {
  units_ = {{.block_size_bytes = block_size_bytes,
             .serial = "0001",
             .backend = disk_.get()}};
  Rebuild();
  ClearAttention();
}

BusRig BusRig::Cdrom(uint64_t blocks) {
  BusRig rig(blocks * 4);
  rig.units_[0].kind = UnitKind::kCdrom;
  rig.units_[0].block_size_bytes = 2048;
  rig.Rebuild();
  rig.ClearAttention();
  return rig;
}

BusRig::BusRig(std::vector<UnitConfig> units, const BusOptions& options)
    : units_(std::move(units)), options_(options) {
  Rebuild();
}

void BusRig::Rebuild() {
  bus_.reset();
  auto bus = MakeBus(units_, options_);
  if (!bus.ok()) {
    std::fprintf(stderr, "%s\n", bus.status().ToString().c_str());
    std::abort();
  }
  bus_ = *std::move(bus);
}

Task* BusRig::Start(const Bytes& cdb, uint32_t tag, TaskAttribute attribute) {
  Command command = {.target = static_cast<uint8_t>(target_),
                     .lun = static_cast<uint8_t>(lun_),
                     .tag = tag,
                     .attribute = attribute,
                     .cdb_size = static_cast<uint8_t>(cdb.size())};
  std::copy(cdb.begin(), cdb.end(), command.cdb.begin());
  return bus_->Start(command);
}

Outcome BusRig::Finish(Task* task, const Bytes& data_out) {
  Outcome outcome;
  int idle_polls = 0;
  while (task->state() != Task::State::kStatus) {
    const auto buffer = task->buffer();
    switch (task->state()) {
      case Task::State::kDataIn:
        outcome.data_in.insert(outcome.data_in.end(), buffer.begin(),
                               buffer.end());
        task->Advance(buffer.size());
        break;
      case Task::State::kDataOut: {
        const size_t left = data_out.size() - outcome.data_out_bytes;
        if (left == 0) {
          task->EndData();
          break;
        }
        const size_t size = std::min(left, buffer.size());
        std::copy_n(
            data_out.begin() + static_cast<ptrdiff_t>(outcome.data_out_bytes),
            size, buffer.begin());
        outcome.data_out_bytes += size;
        task->Advance(size);
        break;
      }
      default:
        if (!bus_->Poll() && ++idle_polls == kIdlePolls) {
          outcome.busy = true;
          return outcome;
        }
    }
  }
  outcome.status = task->status();
  outcome.sense.assign(task->sense().begin(), task->sense().end());
  task->Release();
  return outcome;
}

Outcome BusRig::Run(const Bytes& cdb, const Bytes& data_out) {
  return Finish(Start(cdb), data_out);
}

void BusRig::ClearAttention() {
  while (Run(Bytes(6, 0)).status == Status::kCheckCondition) {
  }
}

Bytes Cdb10(Opcode opcode, uint32_t lba, uint16_t blocks, uint8_t flags) {
  Bytes cdb(10);
  cdb[0] = static_cast<uint8_t>(opcode);
  cdb[1] = flags;
  StoreBe32(&cdb[2], lba);
  StoreBe16(&cdb[7], blocks);
  return cdb;
}

Bytes Cdb12(Opcode opcode, uint32_t lba, uint32_t blocks, uint8_t flags) {
  Bytes cdb(12);
  cdb[0] = static_cast<uint8_t>(opcode);
  cdb[1] = flags;
  StoreBe32(&cdb[2], lba);
  StoreBe32(&cdb[6], blocks);
  return cdb;
}

Bytes Cdb16(Opcode opcode, uint64_t lba, uint32_t blocks, uint8_t flags) {
  Bytes cdb(16);
  cdb[0] = static_cast<uint8_t>(opcode);
  cdb[1] = flags;
  StoreBe64(&cdb[2], lba);
  StoreBe32(&cdb[10], blocks);
  return cdb;
}

Bytes Pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  uint32_t value = seed * 2654435761u + 1;
  for (uint8_t& byte : bytes) {
    value = value * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(value >> 24);
  }
  return bytes;
}

}  // namespace bulkhead::scsi
