// Block moves (§5.3): the data path, and phase mismatches (§2.2.5, CCNTL0).

#include <algorithm>

#include "services/lsi53c895a/scripts.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr uint32_t kCountMask = 0xffffff;

// Messages go through a small buffer: they are a few bytes as a rule.
constexpr size_t kMessagePiece = 64;

}  // namespace

void Scripts::BeginBlockMove() {
  if ((state_.Get8(SCNTL0) & kScntl0Trg) != 0) return IllegalInstruction();
  uint32_t count = 0;
  if (!LoadMoveOperands(&count)) return;
  const auto phase = static_cast<Phase>((scripts_.instruction >> 24) & 7);
  if (count == 0) {
    // §5.3 makes every count of zero illegal. Firmware in use moves nothing in
    // a data phase for commands that have no data.
    if (!IsData(phase)) IllegalInstruction();
    return;
  }
  scripts_.remaining = count;
  scripts_.first_byte = true;
  state_.Set32(SBC, 0);
  scripts_.activity = Activity::kBlockMove;
  ContinueBlockMove();
}

// Where the bytes lie and how many they are. False: stopped.
bool Scripts::LoadMoveOperands(uint32_t* count) {
  const uint32_t instruction = scripts_.instruction;
  const bool table = (instruction & kMoveTableIndirect) != 0;
  const bool indirect = (instruction & kMoveIndirect) != 0;
  if (table && indirect) {
    IllegalInstruction();
    return false;
  }
  if (table) return LoadTableEntry(count);

  *count = instruction & kCountMask;
  scripts_.count_upper = static_cast<uint8_t>(instruction >> 24);
  scripts_.entry_address = scripts_.instruction_address;
  uint32_t low = scripts_.operand;
  if (indirect) {
    if (!dma_.Read(Address(SBMS, low), &low, sizeof(low))) {
      BusFault();
      return false;
    }
  } else if ((state_.Get8(CCNTL1) & kCcntl1En64dbmv) != 0) {
    uint32_t upper;
    if (!FetchThird(&upper)) return false;
    state_.Set32(DBMS, upper);
    scripts_.address = Address(DBMS, low);
    return true;
  }
  scripts_.address = Address(SBMS, low);
  return true;
}

bool Scripts::LoadTableEntry(uint32_t* count) {
  const uint32_t offset = scripts_.operand;
  uint32_t entry[2];  // upper byte and count, address
  if (!dma_.Read(TableAddress(offset), entry, sizeof(entry))) {
    BusFault();
    return false;
  }
  *count = entry[0] & kCountMask;
  scripts_.count_upper = static_cast<uint8_t>(entry[0] >> 24);
  scripts_.entry_address = state_.Get32(DSA) + SignExtend24(offset);
  if ((state_.Get8(CCNTL1) & kCcntl1En64tibmv) == 0) {
    scripts_.address = Address(SBMS, entry[1]);
    return true;
  }
  bool legal = true;
  const uint64_t upper = UpperOfTableEntry(scripts_.count_upper, &legal);
  if (!legal) {
    IllegalInstruction();
    return false;
  }
  state_.Set32(DBMS, static_cast<uint32_t>(upper));
  scripts_.address = Address(DBMS, entry[1]);
  return true;
}

// CCNTL1.64TIMOD: the upper byte is bits [39:32] of the address, or else the
// index of a register that holds bits [63:32].
uint64_t Scripts::UpperOfTableEntry(uint8_t upper, bool* legal) const {
  if ((state_.Get8(CCNTL1) & kCcntl1Timod) != 0) return upper;
  const unsigned index = upper & 0x1f;
  if (index < 0x10) return state_.Get32(SCRATCHC + 4 * index);
  if (index <= 0x15) return state_.Get32(MMRS + 4 * (index - 0x10));
  *legal = false;
  return 0;
}

void Scripts::ContinueBlockMove() {
  const auto expected = static_cast<Phase>((scripts_.instruction >> 24) & 7);
  while (true) {
    const Ready ready = AwaitRequest();
    if (ready == Ready::kHalted) return;
    if (ready == Ready::kWait) return StoreMoveRegisters();
    if (nexus_.phase() != expected) {
      if (expected != Phase::kMessageOut ||
          !nexus_.AcceptsUnattendedMessage()) {
        return PhaseMismatch(expected);
      }
      nexus_.BeginUnattendedMessage();
    }
    // Also before the first byte: earlier moves may have used the slice up.
    if (budget_.bytes == 0) return StoreMoveRegisters();
    if (!MoveSome(expected)) return;
    if (scripts_.remaining == 0) return EndBlockMove(expected);
  }
}

bool Scripts::MoveSome(Phase phase) {
  switch (phase) {
    case Phase::kDataOut:
    case Phase::kDataIn:
      return MoveData(phase);
    case Phase::kCommand:
    case Phase::kMessageOut:
      return MoveOut(phase);
    case Phase::kStatus:
    case Phase::kMessageIn:
      return MoveIn(phase);
    case Phase::kReservedOut:
    case Phase::kReservedIn:
      break;  // no target asserts them
  }
  IllegalInstruction();
  return false;
}

// Between the task's buffer and memory, without a stop between.
bool Scripts::MoveData(Phase phase) {
  const absl::Span<uint8_t> buffer = nexus_.DataBuffer();
  const auto bytes = static_cast<uint32_t>(std::min<size_t>(
      buffer.size(), std::min(scripts_.remaining, budget_.bytes)));
  const uint64_t address = scripts_.address;
  if (phase == Phase::kDataIn) {
    if (!dma_.Write(address, buffer.data(), bytes)) {
      BusFault();
      return false;
    }
    if (scripts_.first_byte && bytes > 0) state_.Set8(SFBR, buffer[0]);
    scripts_.first_byte = false;
  } else if (!dma_.Read(address, buffer.data(), bytes)) {
    BusFault();
    return false;
  }
  nexus_.AdvanceData(bytes);
  AccountFor(bytes);
  state_.Set32(CSBC, state_.Get32(CSBC) + bytes);
  bytes_moved_ += bytes;
  return true;
}

bool Scripts::MoveOut(Phase phase) {
  uint8_t piece[kMessagePiece];
  const size_t bytes = std::min<size_t>(
      sizeof(piece), std::min(scripts_.remaining, budget_.bytes));
  if (!dma_.Read(scripts_.address, piece, bytes)) {
    BusFault();
    return false;
  }
  const auto sent = absl::MakeConstSpan(piece, bytes);
  AccountFor(static_cast<uint32_t>(phase == Phase::kCommand
                                       ? nexus_.SendCommand(sent)
                                       : nexus_.SendMessage(sent)));
  if (nexus_.connected() || scripts_.remaining == 0) return true;
  StoreMoveRegisters();
  BusFreed();
  return false;
}

bool Scripts::MoveIn(Phase phase) {
  const uint8_t byte = nexus_.ReceiveByte();
  if (!dma_.Write(scripts_.address, &byte, 1)) {
    BusFault();
    return false;
  }
  state_.Set8(SIDL, byte);
  if (scripts_.first_byte) state_.Set8(SFBR, byte);
  scripts_.first_byte = false;
  AccountFor(1);
  // §5.3: ACK for the last byte of a message in is left asserted.
  if (phase == Phase::kMessageIn && scripts_.remaining == 0) nexus_.HoldAck();
  return true;
}

void Scripts::AccountFor(uint32_t bytes) {
  scripts_.address += bytes;
  scripts_.remaining -= bytes;
  budget_.bytes -= bytes;
  state_.Set32(SBC, (state_.Get32(SBC) + bytes) & kCountMask);
}

void Scripts::EndBlockMove(Phase phase) {
  // §5.3: the chip drops ATN with the last byte of a message out.
  if (phase == Phase::kMessageOut && nexus_.connected()) {
    nexus_.EndMessageOut();
  }
  StoreMoveRegisters();
  scripts_.activity = Activity::kRunning;
}

// DBC and DNAD follow a move when it stops.
void Scripts::StoreMoveRegisters() {
  state_.Set32(DBC, (scripts_.instruction & ~kCountMask) | scripts_.remaining);
  state_.Set32(DNAD, static_cast<uint32_t>(scripts_.address));
  state_.Set32(DNAD64, static_cast<uint32_t>(scripts_.address >> 32));
}

// The target has gone on to another phase before the count ran out.
void Scripts::PhaseMismatch(Phase expected) {
  ++phase_mismatches_;
  StoreMoveRegisters();
  const uint8_t ccntl0 = state_.Get8(CCNTL0);
  if ((ccntl0 & kCcntl0Enpmj) == 0 ||
      (!IsData(expected) && (ccntl0 & kCcntl0Enndj) == 0)) {
    interrupts_.RaiseScsi(kSistMa);
    Halt();
    return;
  }
  state_.Set32(RBC, uint32_t{scripts_.count_upper} << 24 | scripts_.remaining);
  state_.Set32(UA, static_cast<uint32_t>(scripts_.address));
  state_.Set32(ESA, scripts_.entry_address);
  state_.Set32(IA, scripts_.instruction_address);
  const bool second = (ccntl0 & kCcntl0Pmjctl) != 0
                          ? IsInbound(expected)
                          : (state_.Get8(SCNTL2) & kScntl2Wsr) != 0;
  set_dsp(state_.Get32(second ? PMJAD2 : PMJAD1));
  scripts_.activity = Activity::kRunning;
}

}  // namespace bulkhead::lsi53c895a
