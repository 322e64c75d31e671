// Scripts is the SCRIPTS processor: it fetches at DSP and executes until it
// halts, has to wait for a target, or has used up its slice. An instruction
// that waits is taken up again where it stopped; nothing recurses.
//
// TRUST    The program is the guest's and may change under the processor. An
//          instruction is copied once and decoded from the copy. Every loop,
//          inside an instruction as well, is bounded by the slice's budget.
// ERRORS   What the program does wrong becomes DSTAT.IID or DSTAT.BF, what the
//          bus does unexpectedly SIST0.MA, SIST0.UDC or SIST1.STO.
// THREADS  The service's loop.
// SPEC     §5 (instruction set), §2.2 (phase mismatch, addressing).

#ifndef BULKHEAD_SERVICES_LSI53C895A_SCRIPTS_H_
#define BULKHEAD_SERVICES_LSI53C895A_SCRIPTS_H_

#include <cstdint>

#include "services/lsi53c895a/dma.h"
#include "services/lsi53c895a/interrupts.h"
#include "services/lsi53c895a/nexus.h"
#include "services/lsi53c895a/registers.h"
#include "services/lsi53c895a/state.h"

namespace bulkhead::lsi53c895a {

class Scripts {
 public:
  // What one slice may use up.
  struct Budget {
    uint32_t instructions = 4096;
    uint32_t bytes = 1 << 20;
  };

  Scripts(ChipState& state, InterruptLogic& interrupts, Dma& dma, Nexus& nexus,
          Registers& registers)
      : state_(state),
        scripts_(state.scripts),
        interrupts_(interrupts),
        dma_(dma),
        nexus_(nexus),
        registers_(registers) {}
  Scripts(const Scripts&) = delete;
  Scripts& operator=(const Scripts&) = delete;

  bool halted() const { return scripts_.activity == Activity::kHalted; }
  // The slice ended with its budget, not with a wait.
  bool has_work() const {
    return scripts_.activity == Activity::kRunning ||
           (budget_.bytes == 0 && (scripts_.activity == Activity::kBlockMove ||
                                   scripts_.activity == Activity::kMemoryMove));
  }

  // Fetches at DSP from the next slice on.
  void Start() { scripts_.activity = Activity::kRunning; }
  void Halt() { scripts_.activity = Activity::kHalted; }

  // One slice. Returns what register writes of the program ask of the chip.
  Effects Run(const Budget& budget);

  uint64_t instructions() const { return instructions_; }
  uint64_t bytes_moved() const { return bytes_moved_; }
  uint64_t phase_mismatches() const { return phase_mismatches_; }

 private:
  // Whether the target has a request for an instruction that needs one.
  enum class Ready : uint8_t { kYes, kWait, kHalted };
  Ready AwaitRequest();
  void WaitIn(Activity activity) { scripts_.activity = activity; }

  bool Fetch();
  // The dword after the two of the instruction; DSP moves behind it.
  bool FetchThird(uint32_t* dword);
  void Execute();
  void Resume();
  void StopIfSingleStep();
  void SelectionTimedOut();
  void IllegalInstruction();
  void BusFault();
  // The target has left the bus.
  void BusFreed();

  // scripts.cc
  void ExecuteTransferControl();
  bool Compare(uint32_t instruction) const;
  void ExecuteIo(IoOpcode opcode);
  void ExecuteSelect();
  void ExecuteWaitDisconnect();
  void ExecuteWaitReselect();
  void ExecuteSetOrClear(bool set);
  void JumpToAlternate();

  // block_move.cc
  void BeginBlockMove();
  bool LoadMoveOperands(uint32_t* count);
  bool LoadTableEntry(uint32_t* count);
  uint64_t UpperOfTableEntry(uint8_t upper, bool* legal) const;
  void ContinueBlockMove();
  // Moves some bytes of the phase; false: the instruction has stopped.
  bool MoveSome(Phase phase);
  bool MoveData(Phase phase);
  bool MoveOut(Phase phase);
  bool MoveIn(Phase phase);
  void AccountFor(uint32_t bytes);
  void EndBlockMove(Phase phase);
  void PhaseMismatch(Phase expected);
  void StoreMoveRegisters();

  // memory_instructions.cc
  void ExecuteReadWrite(IoOpcode opcode);
  uint8_t Compute(Operator op, uint8_t value, uint8_t data);
  void ExecuteLoadStore();
  void BeginMemoryMove();
  void ContinueMemoryMove();

  uint32_t dsp() const { return state_.Get32(DSP); }
  void set_dsp(uint32_t value) { state_.Set32(DSP, value); }
  // A 32-bit address with the selector that goes with its use.
  uint64_t Address(uint8_t selector, uint32_t low) const;
  uint64_t TableAddress(uint32_t offset) const;

  ChipState& state_;
  ScriptsState& scripts_;
  InterruptLogic& interrupts_;
  Dma& dma_;
  Nexus& nexus_;
  Registers& registers_;

  Budget budget_;  // what is left of the present slice
  Effects effects_ = kNoEffect;
  uint64_t instructions_ = 0;
  uint64_t bytes_moved_ = 0;
  uint64_t phase_mismatches_ = 0;
};

// Sign-extends the low 24 bits.
constexpr uint32_t SignExtend24(uint32_t value) {
  return static_cast<uint32_t>(static_cast<int32_t>(value << 8) >> 8);
}

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_SCRIPTS_H_
