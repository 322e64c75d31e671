// Read/write (§5.5), memory move (§5.7), load and store (§5.8).

#include <algorithm>

#include "services/lsi53c895a/scripts.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kMemoryMovePiece = 4096;

}  // namespace

// ---- §5.5 Read/write

// Table 5.3. Shifts go through the carry bit; logic leaves it alone.
uint8_t Scripts::Compute(Operator op, uint8_t value, uint8_t data) {
  unsigned result = 0;
  switch (op) {
    case Operator::kLoad:
      return data;
    case Operator::kShiftLeft:
      result = value << 1 | (scripts_.carry ? 1 : 0);
      scripts_.carry = (value & 0x80) != 0;
      return static_cast<uint8_t>(result);
    case Operator::kOr:
      return value | data;
    case Operator::kXor:
      return value ^ data;
    case Operator::kAnd:
      return value & data;
    case Operator::kShiftRight:
      result = value >> 1 | (scripts_.carry ? 0x80 : 0);
      scripts_.carry = (value & 0x01) != 0;
      return static_cast<uint8_t>(result);
    case Operator::kAdd:
      result = value + data;
      break;
    case Operator::kAddWithCarry:
      result = value + data + (scripts_.carry ? 1 : 0);
      break;
  }
  scripts_.carry = result > 0xff;
  return static_cast<uint8_t>(result);
}

void Scripts::ExecuteReadWrite(IoOpcode opcode) {
  const uint32_t instruction = scripts_.instruction;
  const auto reg = static_cast<uint8_t>(((instruction >> 16) & 0x7f) |
                                        (instruction & kRegisterAddress7));
  const auto op = static_cast<Operator>((instruction >> 24) & 7);
  const uint8_t sfbr = state_.Get8(SFBR);
  const uint8_t data = (instruction & kOperandIsSfbr) != 0
                           ? sfbr
                           : static_cast<uint8_t>(instruction >> 8);
  uint8_t value = 0;
  if (opcode == IoOpcode::kMoveFromSfbr) {
    value = sfbr;
  } else if (op != Operator::kLoad) {
    value = registers_.Read(reg);  // reading may have an effect
  }
  const uint8_t result = Compute(op, value, data);
  effects_ |= registers_.WriteFromScripts(
      opcode == IoOpcode::kMoveToSfbr ? uint8_t{SFBR} : reg, result);
}

// ---- §5.8 Load and store

void Scripts::ExecuteLoadStore() {
  const uint32_t instruction = scripts_.instruction;
  const uint32_t count = instruction & 7;
  const auto reg = static_cast<uint8_t>(instruction >> 16);
  const bool load = (instruction & kLoadStoreIsLoad) != 0;
  const uint32_t low = scripts_.operand;
  const bool relative = (instruction & kLoadStoreDsaRelative) != 0;
  const uint64_t address =
      relative ? TableAddress(low) : Address(load ? MMRS : MMWS, low);
  // Both sides have the same place in a dword, and do not cross one.
  if (count == 0 || count > 4 || (reg & 3) + count > 4 ||
      (reg & 3) != (address & 3)) {
    return IllegalInstruction();
  }
  uint8_t bytes[4];
  if (load) {
    if (!dma_.Read(address, bytes, count)) return BusFault();
    for (uint32_t i = 0; i < count; ++i) {
      const auto offset = static_cast<uint8_t>(reg + i);
      if (offset == SFBR) continue;  // §4.2: a load cannot write it
      effects_ |= registers_.WriteFromScripts(offset, bytes[i]);
    }
    return;
  }
  for (uint32_t i = 0; i < count; ++i) {
    bytes[i] = registers_.Read(static_cast<uint8_t>(reg + i));
  }
  if (!dma_.Write(address, bytes, count)) BusFault();
}

// ---- §5.7 Memory move

void Scripts::BeginMemoryMove() {
  const uint32_t count = scripts_.instruction & 0xffffff;
  uint32_t destination;
  if (!FetchThird(&destination)) return;
  if (count == 0 || ((destination ^ scripts_.operand) & 3) != 0) {
    return IllegalInstruction();
  }
  scripts_.address = Address(MMRS, scripts_.operand);
  scripts_.destination = Address(MMWS, destination);
  scripts_.remaining = count;
  scripts_.activity = Activity::kMemoryMove;
  ContinueMemoryMove();
}

void Scripts::ContinueMemoryMove() {
  uint8_t piece[kMemoryMovePiece];
  while (scripts_.remaining > 0) {
    if (budget_.bytes == 0) return;
    const uint32_t bytes =
        std::min(kMemoryMovePiece, std::min(scripts_.remaining, budget_.bytes));
    if (!dma_.Read(scripts_.address, piece, bytes) ||
        !dma_.Write(scripts_.destination, piece, bytes)) {
      return BusFault();
    }
    scripts_.address += bytes;
    scripts_.destination += bytes;
    scripts_.remaining -= bytes;
    budget_.bytes -= bytes;
  }
  scripts_.activity = Activity::kRunning;
}

}  // namespace bulkhead::lsi53c895a
