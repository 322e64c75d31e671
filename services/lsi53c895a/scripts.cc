// The processor's loop, transfer control (§5.6) and I/O instructions (§5.4).

#include "services/lsi53c895a/scripts.h"

namespace bulkhead::lsi53c895a {

Effects Scripts::Run(const Budget& budget) {
  budget_ = budget;
  effects_ = kNoEffect;
  // A selection that nobody answered and no instruction has asked about.
  if (scripts_.selection_timed_out) SelectionTimedOut();
  if (scripts_.activity != Activity::kHalted &&
      scripts_.activity != Activity::kRunning) {
    Resume();
    StopIfSingleStep();
  }
  while (scripts_.activity == Activity::kRunning && effects_ == kNoEffect &&
         budget_.instructions > 0) {
    --budget_.instructions;
    ++instructions_;
    if (!Fetch()) break;
    Execute();
    StopIfSingleStep();
  }
  if (scripts_.selection_timed_out && halted()) SelectionTimedOut();
  return effects_;
}

// §4.2, DCNTL.SSM: an interrupt after each instruction.
void Scripts::StopIfSingleStep() {
  if (scripts_.activity != Activity::kRunning ||
      (state_.Get8(DCNTL) & kDcntlSsm) == 0) {
    return;
  }
  interrupts_.RaiseDma(kDstatSsi);
  Halt();
}

bool Scripts::Fetch() {
  const uint32_t at = dsp();
  uint32_t words[2];
  if (!dma_.Read(Address(SFS, at), words, sizeof(words))) {
    BusFault();
    return false;
  }
  scripts_.instruction_address = at;
  scripts_.instruction = words[0];
  scripts_.operand = words[1];
  set_dsp(at + 8);
  state_.Set32(DBC, words[0]);  // and DCMD
  state_.Set32(DSPS, words[1]);
  return true;
}

bool Scripts::FetchThird(uint32_t* dword) {
  const uint32_t at = dsp();
  if (!dma_.Read(Address(SFS, at), dword, sizeof(*dword))) {
    BusFault();
    return false;
  }
  set_dsp(at + 4);
  return true;
}

void Scripts::Execute() {
  const uint32_t instruction = scripts_.instruction;
  switch (static_cast<InstructionType>(instruction >> 30)) {
    case InstructionType::kBlockMove:
      return BeginBlockMove();
    case InstructionType::kIoOrRegister:
      return ExecuteIo(static_cast<IoOpcode>((instruction >> 27) & 7));
    case InstructionType::kTransferControl:
      return ExecuteTransferControl();
    case InstructionType::kMemoryOrLoadStore:
      return (instruction & kLoadStore) != 0 ? ExecuteLoadStore()
                                             : BeginMemoryMove();
  }
}

// Takes up the instruction that waits.
void Scripts::Resume() {
  switch (scripts_.activity) {
    case Activity::kHalted:
    case Activity::kRunning:
      return;
    case Activity::kWaitPhase:
      return ExecuteTransferControl();
    case Activity::kBlockMove:
      return ContinueBlockMove();
    case Activity::kWaitDisconnect:
      return ExecuteWaitDisconnect();
    case Activity::kWaitReselect:
      return ExecuteWaitReselect();
    case Activity::kMemoryMove:
      return ContinueMemoryMove();
  }
}

uint64_t Scripts::Address(uint8_t selector, uint32_t low) const {
  if ((state_.Get8(CCNTL1) & kCcntl1Ddac) != 0) return low;
  return uint64_t{state_.Get32(selector)} << 32 | low;
}

uint64_t Scripts::TableAddress(uint32_t offset) const {
  return Address(DRS, state_.Get32(DSA) + SignExtend24(offset));
}

Scripts::Ready Scripts::AwaitRequest() {
  if (scripts_.selection_timed_out) {
    SelectionTimedOut();
    return Ready::kHalted;
  }
  return nexus_.Request() == Nexus::Wait::kRequest ? Ready::kYes : Ready::kWait;
}

void Scripts::SelectionTimedOut() {
  scripts_.selection_timed_out = false;
  interrupts_.RaiseScsi(kSistSto);
  Halt();
}

void Scripts::IllegalInstruction() {
  interrupts_.RaiseDma(kDstatIid);
  Halt();
}

void Scripts::BusFault() {
  interrupts_.RaiseDma(kDstatBf);
  Halt();
}

// §4.2, SCNTL2.SDU: a disconnect that the program did not announce.
void Scripts::BusFreed() {
  if ((state_.Get8(SCNTL2) & kScntl2Sdu) == 0) return;
  interrupts_.RaiseScsi(kSistUdc);
  Halt();
}

// ---- §5.6 Transfer control

// True when the transfer is to be taken.
bool Scripts::Compare(uint32_t instruction) const {
  bool any_true = false;
  bool any_false = false;
  const auto consider = [&](bool result) {
    (result ? any_true : any_false) = true;
  };
  if ((instruction & kTransferCarry) != 0) consider(scripts_.carry);
  if ((instruction & kTransferComparePhase) != 0) {
    consider(nexus_.phase() == static_cast<Phase>((instruction >> 24) & 7));
  }
  if ((instruction & kTransferCompareData) != 0) {
    const uint8_t ignored = static_cast<uint8_t>(instruction >> 8);
    const uint8_t expected = static_cast<uint8_t>(instruction);
    consider(((state_.Get8(SFBR) ^ expected) & ~ignored & 0xff) == 0);
  }
  // Of several comparisons, all must come out as asked for. None is true.
  return (instruction & kTransferIfTrue) != 0 ? !any_false
                                              : any_false && !any_true;
}

void Scripts::ExecuteTransferControl() {
  const uint32_t instruction = scripts_.instruction;
  const auto opcode = static_cast<TransferOpcode>((instruction >> 27) & 7);
  if (opcode > TransferOpcode::kInterrupt) return IllegalInstruction();

  if ((instruction & kTransferWaitPhase) != 0) {
    const Ready ready = AwaitRequest();
    if (ready == Ready::kHalted) return;
    if (ready == Ready::kWait) return WaitIn(Activity::kWaitPhase);
  } else if ((instruction & kTransferComparePhase) != 0 &&
             !state_.connection.ack_held) {
    nexus_.Request();  // latches the phase, should the target have asserted it
  }
  scripts_.activity = Activity::kRunning;

  const bool transfers =
      opcode == TransferOpcode::kJump || opcode == TransferOpcode::kCall;
  uint32_t upper = 0;
  const bool is_64bit = transfers && (instruction & kTransfer64) != 0;
  if (is_64bit && !FetchThird(&upper)) return;
  if (!Compare(instruction)) return;

  const uint32_t next = dsp();
  switch (opcode) {
    case TransferOpcode::kCall:
      state_.Set32(TEMP, next);
      [[fallthrough]];
    case TransferOpcode::kJump:
      set_dsp((instruction & kTransferRelative) != 0
                  ? next + SignExtend24(scripts_.operand)
                  : scripts_.operand);
      if (is_64bit) state_.Set32(SFS, upper);
      return;
    case TransferOpcode::kReturn:
      set_dsp(state_.Get32(TEMP));
      return;
    case TransferOpcode::kInterrupt:
      if ((instruction & kTransferOnTheFly) != 0) {
        interrupts_.RaiseOnTheFly();
        return;
      }
      interrupts_.RaiseDma(kDstatSir);
      Halt();
      return;
  }
}

// ---- §5.4 I/O

void Scripts::ExecuteIo(IoOpcode opcode) {
  switch (opcode) {
    case IoOpcode::kSelect:
      return ExecuteSelect();
    case IoOpcode::kWaitDisconnect:
      return ExecuteWaitDisconnect();
    case IoOpcode::kWaitReselect:
      return ExecuteWaitReselect();
    case IoOpcode::kSet:
      return ExecuteSetOrClear(true);
    case IoOpcode::kClear:
      return ExecuteSetOrClear(false);
    case IoOpcode::kMoveFromSfbr:
    case IoOpcode::kMoveToSfbr:
    case IoOpcode::kReadModifyWrite:
      return ExecuteReadWrite(opcode);
  }
}

void Scripts::JumpToAlternate() {
  set_dsp((scripts_.instruction & kIoRelative) != 0
              ? dsp() + SignExtend24(scripts_.operand)
              : scripts_.operand);
}

// The initiator has the highest priority, so that it always wins arbitration:
// SELECT never takes its alternate address.
void Scripts::ExecuteSelect() {
  if ((state_.Get8(SCNTL0) & kScntl0Trg) != 0) return IllegalInstruction();
  const uint32_t instruction = scripts_.instruction;
  uint8_t target = (instruction >> 16) & kScidIdMask;
  if ((instruction & kIoTableIndirect) != 0) {
    uint8_t entry[4];  // -, SXFER, ID, SCNTL3
    if (!dma_.Read(TableAddress(instruction), entry, sizeof(entry))) {
      return BusFault();
    }
    state_.Set8(SXFER, entry[1]);
    state_.Set8(SCNTL3, entry[3]);
    target = entry[2] & kScidIdMask;
  }
  state_.Set8(SDID, target);

  // A nexus left over (a program that gave up on a command) ends here; on the
  // real bus the chip would wait for it for ever.
  if (nexus_.connected()) nexus_.Request();
  if (nexus_.connected()) nexus_.DropConnection();

  if (!nexus_.Select(target, (instruction & kIoAtn) != 0)) {
    scripts_.selection_timed_out = true;
    return;
  }
  state_.Set8(SCNTL2, state_.Get8(SCNTL2) | kScntl2Sdu);
  if ((state_.Get8(SIEN0) & kSistCmp) != 0 && interrupts_.RaiseScsi(kSistCmp)) {
    Halt();
  }
}

void Scripts::ExecuteWaitDisconnect() {
  if (nexus_.connected()) nexus_.Request();
  if (nexus_.connected()) return WaitIn(Activity::kWaitDisconnect);
  scripts_.activity = Activity::kRunning;
}

void Scripts::ExecuteWaitReselect() {
  if (nexus_.connected()) nexus_.Request();
  scripts_.activity = Activity::kRunning;
  if ((state_.Get8(ISTAT0) & kIstat0Sigp) != 0) return JumpToAlternate();
  if (nexus_.connected()) return;
  if (!nexus_.Reselect()) return WaitIn(Activity::kWaitReselect);
  state_.Set8(SSID, kSsidValid | nexus_.target());
  state_.Set8(SCNTL2, state_.Get8(SCNTL2) | kScntl2Sdu);
  if ((state_.Get8(SIEN0) & kSistRsl) != 0 && interrupts_.RaiseScsi(kSistRsl)) {
    Halt();
  }
}

void Scripts::ExecuteSetOrClear(bool set) {
  const uint32_t instruction = scripts_.instruction;
  if ((instruction & kIoSetCarry) != 0) scripts_.carry = set;
  if ((instruction & kIoSetTarget) != 0) {
    const uint8_t scntl0 = state_.Get8(SCNTL0) & ~kScntl0Trg;
    state_.Set8(SCNTL0, scntl0 | (set ? kScntl0Trg : 0));
  }
  if (!nexus_.connected()) return;
  if ((instruction & kIoSetAtn) != 0) {
    set ? nexus_.SetAtn(true) : nexus_.EndMessageOut();
  }
  // Asserting ACK by hand is low level programming, which is not modelled.
  if ((instruction & kIoSetAck) != 0 && !set && nexus_.ReleaseAck()) {
    BusFreed();
  }
}

}  // namespace bulkhead::lsi53c895a
