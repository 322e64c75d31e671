// Registers is the operating register file, as the CPU and as SCRIPTS see it:
// reset values, access rules, and what reading or writing a byte brings about.
// A wider access is its bytes in ascending order.
//
// TRUST    Offsets are below 256 by type; values are the guest's.
// ERRORS   None: a write to what cannot be written is dropped.
// THREADS  The service's loop.
// SPEC     §4.2.

#ifndef BULKHEAD_SERVICES_LSI53C895A_REGISTERS_H_
#define BULKHEAD_SERVICES_LSI53C895A_REGISTERS_H_

#include <cstdint>

#include "services/lsi53c895a/interrupts.h"
#include "services/lsi53c895a/nexus.h"
#include "services/lsi53c895a/state.h"

namespace bulkhead::lsi53c895a {

// What a write asks of the rest of the chip, as a bit set.
using Effects = uint32_t;
inline constexpr Effects kNoEffect = 0;
inline constexpr Effects kStartScripts = 1 << 0;  // DSP written, or STD
inline constexpr Effects kAbortScripts = 1 << 1;
inline constexpr Effects kSoftwareReset = 1 << 2;
inline constexpr Effects kScsiReset = 1 << 3;
inline constexpr Effects kGeneralTimer = 1 << 4;

class Registers {
 public:
  Registers(ChipState& state, InterruptLogic& interrupts, Nexus& nexus)
      : state_(state), interrupts_(interrupts), nexus_(nexus) {}
  Registers(const Registers&) = delete;
  Registers& operator=(const Registers&) = delete;

  void Reset();

  uint8_t Read(uint8_t offset);
  Effects WriteFromCpu(uint8_t offset, uint8_t value);
  // SCRIPTS may write SFBR, and start nothing by writing DSP.
  Effects WriteFromScripts(uint8_t offset, uint8_t value);

  // ISTAT0, ISTAT1, MBOX0 and MBOX1 as a little-endian word. No side effect.
  uint32_t StatusWord() const;

  // What SCRATCHA and SCRATCHB show while CTEST2.PCICIE is set.
  void SetBarAddresses(uint32_t memory_bar, uint32_t scripts_ram_bar) {
    memory_bar_ = memory_bar;
    scripts_ram_bar_ = scripts_ram_bar;
  }

 private:
  uint8_t ReadIstat0() const;
  uint8_t ReadIstat1() const;
  uint8_t ReadBusControlLines() const;
  Effects Write(uint8_t offset, uint8_t value);
  Effects WriteIstat0(uint8_t value);
  void WriteOutputControlLatch(uint8_t value);

  ChipState& state_;
  InterruptLogic& interrupts_;
  Nexus& nexus_;
  uint32_t memory_bar_ = 0;
  uint32_t scripts_ram_bar_ = 0;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_REGISTERS_H_
