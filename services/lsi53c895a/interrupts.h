// InterruptLogic is the chip's interrupt status: DSTAT, SIST0, SIST1 with the
// second level behind them, their masks, and the level of the INTA/ pin.
//
// TRUST    Masks are the guest's; any value is meaningful.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     §2.2.16 (interrupt handling), registers 0x0c, 0x14, 0x39-0x43.

#ifndef BULKHEAD_SERVICES_LSI53C895A_INTERRUPTS_H_
#define BULKHEAD_SERVICES_LSI53C895A_INTERRUPTS_H_

#include <cstdint>

#include "services/lsi53c895a/state.h"

namespace bulkhead::lsi53c895a {

class InterruptLogic {
 public:
  explicit InterruptLogic(ChipState& state) : state_(state) {}
  InterruptLogic(const InterruptLogic&) = delete;
  InterruptLogic& operator=(const InterruptLogic&) = delete;

  // Records causes of SIST1:SIST0. True: SCRIPTS stop (a fatal interrupt, or
  // a nonfatal one that is enabled).
  bool RaiseScsi(uint16_t causes);
  // Records causes of DSTAT. They always stop SCRIPTS.
  void RaiseDma(uint8_t causes);
  // INTFLY: SCRIPTS run on.
  void RaiseOnTheFly() {
    state_.interrupts.intf = true;
    ++on_the_fly_;
  }
  void ClearOnTheFly() { state_.interrupts.intf = false; }

  // Reading clears, and moves up what is stacked behind.
  uint8_t ReadDstat();
  uint8_t ReadSist0();
  uint8_t ReadSist1();

  bool sip() const { return state_.interrupts.sist_raised != 0; }
  bool dip() const { return state_.interrupts.dstat != 0; }
  // Whether INTFLY alone would assert the pin.
  bool OnlyOnTheFly();
  // `hold_on_the_fly`: as if INTFLY were yet to come.
  bool PinLevel(bool hold_on_the_fly = false);
  // How often INTFLY was executed.
  uint64_t on_the_fly() const { return on_the_fly_; }

  void Reset() { state_.interrupts = InterruptState(); }

 private:
  bool Pending() const { return sip() || dip(); }
  uint16_t Enabled() const;
  void Unstack();
  void LatchPin();

  ChipState& state_;
  uint64_t on_the_fly_ = 0;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_INTERRUPTS_H_
