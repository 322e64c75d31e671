#include "services/lsi53c895a/testing/rig.h"

#include <cstring>
#include <utility>

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kCommandRegister = 0x04;
constexpr uint32_t kIoMemoryMaster = 0x7;

}  // namespace

Rig::Rig() : Rig(new FakeBus) {}

Rig::Rig(FakeBus* fake) : Rig(std::unique_ptr<scsi::Bus>(fake)) { bus = fake; }

Rig::Rig(std::unique_ptr<scsi::Bus> targets)
    : chip(std::make_unique<Controller>(context, std::move(targets))) {
  WriteConfig(0x10, 4, 0xc000);
  WriteConfig(0x14, 4, kMemoryBarAt);
  WriteConfig(0x18, 4, kRamAt);
  WriteConfig(kCommandRegister, 2, kIoMemoryMaster);
}

void Rig::WriteConfig(uint32_t offset, unsigned size_bytes, uint32_t value) {
  chip->WriteRegion(kConfigRegion, offset, size_bytes, value);
}

uint8_t Rig::Read8(uint8_t offset) {
  return static_cast<uint8_t>(chip->ReadRegion(kMemoryBar, offset, 1));
}
uint16_t Rig::Read16(uint8_t offset) {
  return static_cast<uint16_t>(chip->ReadRegion(kMemoryBar, offset, 2));
}
uint32_t Rig::Read32(uint8_t offset) {
  return static_cast<uint32_t>(chip->ReadRegion(kMemoryBar, offset, 4));
}
void Rig::Write8(uint8_t offset, uint8_t value) {
  chip->WriteRegion(kMemoryBar, offset, 1, value);
}
void Rig::Write32(uint8_t offset, uint32_t value) {
  chip->WriteRegion(kMemoryBar, offset, 4, value);
}

void Rig::Load(uint32_t address, const Assembler& program) {
  set_ram(address, program.bytes());
}

void Rig::Start(uint32_t address) {
  Write32(DSP, address);
  Turns();
}

void Rig::Run(const Assembler& program) {
  Load(kScriptAt, program);
  Start(kScriptAt);
}

void Rig::RunOnChip(const Assembler& program) {
  const std::string bytes = program.bytes();
  for (size_t i = 0; i < bytes.size(); i += 4) {
    uint32_t word;
    std::memcpy(&word, &bytes[i], sizeof(word));
    chip->WriteRegion(kScriptsRamBar, i, 4, word);
  }
  Start(kRamAt);
}

void Rig::Turns(int at_most) {
  for (int i = 0; i < at_most && OneTurn().busy; ++i) {
  }
}

uint32_t Rig::Interrupted() {
  return (Read8(DSTAT) & kDstatSir) != 0 ? Read32(DSPS) : ~uint32_t{0};
}

uint32_t Rig::ram32(uint64_t address) const {
  uint32_t value;
  std::memcpy(&value, context.ram(address, 4).data(), sizeof(value));
  return value;
}

void Rig::set_ram32(uint64_t address, uint32_t value) {
  context.set_ram(address,
                  std::string(reinterpret_cast<char*>(&value), sizeof(value)));
}

std::string Rig::Pattern(size_t bytes, size_t from) {
  std::string pattern(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) {
    pattern[i] = static_cast<char>(FakeBus::Pattern(from + i));
  }
  return pattern;
}

Assembler Rig::SendCommand(uint8_t code, uint8_t blocks,
                           const std::string& messages) {
  set_ram(kMessages, messages);
  const char cdb[] = {static_cast<char>(code),   0, 0, 0,
                      static_cast<char>(blocks), 0};
  set_ram(kCdb, std::string(cdb, sizeof(cdb)));
  Assembler program;
  program.SelectWithAtn(FakeBus::kTarget, 0)
      .Move(Phase::kMessageOut, static_cast<uint32_t>(messages.size()),
            kMessages)
      .Move(Phase::kCommand, sizeof(cdb), kCdb);
  return program;
}

void Rig::Finish(Assembler* program, uint32_t value) {
  program->Move(Phase::kStatus, 1, kStatusAt)
      .Move(Phase::kMessageIn, 1, kStatusAt + 1)
      .ReadModifyWrite(Operator::kAnd, SCNTL2, 0x7f)
      .Clear(kIoSetAck)
      .WaitDisconnect()
      .Int(value);
}

}  // namespace bulkhead::lsi53c895a
