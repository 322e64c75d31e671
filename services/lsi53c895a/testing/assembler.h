// Assembler writes SCRIPTS programs for tests, one call an instruction, in the
// vocabulary of §5.
//
//   Assembler a;
//   a.SelectWithAtn(3, kAlternate).Move(Phase::kMessageOut, 1, kIdentifyAt)
//    .Int(kDone);
//
// TRUST    For tests only.
// ERRORS   None. THREADS  One.

#ifndef BULKHEAD_SERVICES_LSI53C895A_TESTING_ASSEMBLER_H_
#define BULKHEAD_SERVICES_LSI53C895A_TESTING_ASSEMBLER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "services/lsi53c895a/spec.h"

namespace bulkhead::lsi53c895a {

// Conditions of transfer control; combined with |.
inline constexpr uint32_t kIfTrue = kTransferIfTrue;
inline constexpr uint32_t kIfFalse = 0;
inline uint32_t When(Phase phase) {
  return kTransferComparePhase | kTransferWaitPhase |
         static_cast<uint32_t>(phase) << 24;
}
inline uint32_t If(Phase phase) {
  return kTransferComparePhase | static_cast<uint32_t>(phase) << 24;
}
inline uint32_t Data(uint8_t value, uint8_t ignored = 0) {
  return kTransferCompareData | uint32_t{ignored} << 8 | value;
}

class Assembler {
 public:
  Assembler& Word(uint32_t word) {
    words_.push_back(word);
    return *this;
  }
  Assembler& Raw(uint32_t first, uint32_t second) {
    return Word(first).Word(second);
  }

  // ---- §5.3
  Assembler& Move(Phase phase, uint32_t count, uint32_t address) {
    return Raw(kMoveUnchained | Phased(phase) | count, address);
  }
  Assembler& ChainedMove(Phase phase, uint32_t count, uint32_t address) {
    return Raw(Phased(phase) | count, address);
  }
  Assembler& MoveIndirect(Phase phase, uint32_t count, uint32_t pointer) {
    return Raw(kMoveIndirect | kMoveUnchained | Phased(phase) | count, pointer);
  }
  Assembler& MoveTable(Phase phase, int32_t offset) {
    return Raw(kMoveTableIndirect | kMoveUnchained | Phased(phase),
               Offset(offset));
  }

  // ---- §5.4
  Assembler& Select(uint32_t id, uint32_t alternate) {
    return Raw(Io(IoOpcode::kSelect) | id << 16, alternate);
  }
  Assembler& SelectWithAtn(uint32_t id, uint32_t alternate) {
    return Raw(Io(IoOpcode::kSelect) | kIoAtn | id << 16, alternate);
  }
  Assembler& SelectTableWithAtn(int32_t offset, uint32_t alternate) {
    return Raw(
        Io(IoOpcode::kSelect) | kIoTableIndirect | kIoAtn | Offset(offset),
        alternate);
  }
  Assembler& WaitDisconnect() { return Raw(Io(IoOpcode::kWaitDisconnect), 0); }
  Assembler& WaitReselect(uint32_t alternate) {
    return Raw(Io(IoOpcode::kWaitReselect), alternate);
  }
  Assembler& Set(uint32_t bits) { return Raw(Io(IoOpcode::kSet) | bits, 0); }
  Assembler& Clear(uint32_t bits) {
    return Raw(Io(IoOpcode::kClear) | bits, 0);
  }

  // ---- §5.5
  Assembler& ReadModifyWrite(Operator op, uint8_t reg, uint8_t data) {
    return ReadWrite(IoOpcode::kReadModifyWrite, op, reg, data);
  }
  Assembler& ToSfbr(Operator op, uint8_t reg, uint8_t data) {
    return ReadWrite(IoOpcode::kMoveToSfbr, op, reg, data);
  }
  Assembler& FromSfbr(Operator op, uint8_t reg, uint8_t data) {
    return ReadWrite(IoOpcode::kMoveFromSfbr, op, reg, data);
  }

  // ---- §5.6
  Assembler& Jump(uint32_t address, uint32_t condition = kIfTrue) {
    return Transfer(TransferOpcode::kJump, condition, address);
  }
  Assembler& JumpRelative(int32_t distance, uint32_t condition = kIfTrue) {
    return Transfer(TransferOpcode::kJump, condition | kTransferRelative,
                    Offset(distance));
  }
  Assembler& Call(uint32_t address, uint32_t condition = kIfTrue) {
    return Transfer(TransferOpcode::kCall, condition, address);
  }
  Assembler& Return(uint32_t condition = kIfTrue) {
    return Transfer(TransferOpcode::kReturn, condition, 0);
  }
  Assembler& Int(uint32_t value, uint32_t condition = kIfTrue) {
    return Transfer(TransferOpcode::kInterrupt, condition, value);
  }
  Assembler& IntFly() {
    return Transfer(TransferOpcode::kInterrupt, kIfTrue | kTransferOnTheFly, 0);
  }

  // ---- §5.7, §5.8
  Assembler& MemoryMove(uint32_t count, uint32_t from, uint32_t to) {
    return Word(0xc0000000 | count).Word(from).Word(to);
  }
  Assembler& Load(uint8_t reg, uint32_t count, uint32_t address) {
    return Raw(0xe0000000 | kLoadStoreIsLoad | uint32_t{reg} << 16 | count,
               address);
  }
  Assembler& LoadRelative(uint8_t reg, uint32_t count, int32_t offset) {
    return Raw(0xe0000000 | kLoadStoreDsaRelative | kLoadStoreIsLoad |
                   uint32_t{reg} << 16 | count,
               Offset(offset));
  }
  Assembler& Store(uint8_t reg, uint32_t count, uint32_t address) {
    return Raw(0xe0000000 | uint32_t{reg} << 16 | count, address);
  }
  Assembler& StoreRelative(uint8_t reg, uint32_t count, int32_t offset) {
    return Raw(0xe0000000 | kLoadStoreDsaRelative | uint32_t{reg} << 16 | count,
               Offset(offset));
  }

  uint32_t size_bytes() const {
    return static_cast<uint32_t>(words_.size() * 4);
  }
  std::string bytes() const {
    return std::string(reinterpret_cast<const char*>(words_.data()),
                       words_.size() * 4);
  }

 private:
  static uint32_t Phased(Phase phase) {
    return static_cast<uint32_t>(phase) << 24;
  }
  static uint32_t Io(IoOpcode opcode) {
    return 1u << 30 | static_cast<uint32_t>(opcode) << 27;
  }
  static uint32_t Offset(int32_t offset) {
    return static_cast<uint32_t>(offset) & 0xffffff;
  }
  Assembler& ReadWrite(IoOpcode opcode, Operator op, uint8_t reg,
                       uint8_t data) {
    return Raw(Io(opcode) | static_cast<uint32_t>(op) << 24 |
                   (reg & 0x7fu) << 16 | uint32_t{data} << 8 | (reg & 0x80u),
               0);
  }
  Assembler& Transfer(TransferOpcode opcode, uint32_t condition,
                      uint32_t value) {
    return Raw(2u << 30 | static_cast<uint32_t>(opcode) << 27 | condition,
               value);
  }

  std::vector<uint32_t> words_;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_TESTING_ASSEMBLER_H_
