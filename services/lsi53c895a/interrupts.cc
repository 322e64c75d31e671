#include "services/lsi53c895a/interrupts.h"

namespace bulkhead::lsi53c895a {

uint16_t InterruptLogic::Enabled() const {
  return static_cast<uint16_t>(state_.Get8(SIEN0) | state_.Get8(SIEN1) << 8);
}

bool InterruptLogic::RaiseScsi(uint16_t causes) {
  const uint16_t raised = causes & (~kSistNonFatal | Enabled());
  InterruptState& s = state_.interrupts;
  if (Pending()) {
    s.sist_stacked |= causes;
    s.sist_stacked_raised |= raised;
  } else {
    s.sist |= causes;
    s.sist_raised |= raised;
    LatchPin();
  }
  return raised != 0;
}

void InterruptLogic::RaiseDma(uint8_t causes) {
  InterruptState& s = state_.interrupts;
  if (Pending()) {
    s.dstat_stacked |= causes;
  } else {
    s.dstat |= causes;
    LatchPin();
  }
}

uint8_t InterruptLogic::ReadDstat() {
  const uint8_t value = state_.interrupts.dstat | kDstatDfe;
  state_.interrupts.dstat = 0;
  Unstack();
  return value;
}

uint8_t InterruptLogic::ReadSist0() {
  InterruptState& s = state_.interrupts;
  const uint8_t value = static_cast<uint8_t>(s.sist);
  s.sist &= 0xff00;
  s.sist_raised &= 0xff00;
  Unstack();
  return value;
}

uint8_t InterruptLogic::ReadSist1() {
  InterruptState& s = state_.interrupts;
  const uint8_t value = static_cast<uint8_t>(s.sist >> 8);
  s.sist &= 0x00ff;
  s.sist_raised &= 0x00ff;
  Unstack();
  return value;
}

void InterruptLogic::Unstack() {
  if (Pending()) return;
  InterruptState& s = state_.interrupts;
  s.pin_latched = false;
  s.sist |= s.sist_stacked;
  s.sist_raised |= s.sist_stacked_raised;
  s.dstat |= s.dstat_stacked;
  s.sist_stacked = 0;
  s.sist_stacked_raised = 0;
  s.dstat_stacked = 0;
  LatchPin();
}

void InterruptLogic::LatchPin() {
  InterruptState& s = state_.interrupts;
  if ((s.sist_raised & Enabled()) != 0 || (s.dstat & state_.Get8(DIEN)) != 0) {
    s.pin_latched = true;
  }
}

bool InterruptLogic::OnlyOnTheFly() { return PinLevel() && !PinLevel(true); }

bool InterruptLogic::PinLevel(bool hold_on_the_fly) {
  LatchPin();
  const bool disabled = (state_.Get8(DCNTL) & kDcntlIrqd) != 0 ||
                        (state_.Get8(ISTAT1) & kIstat1Sirqd) != 0;
  const bool on_the_fly = state_.interrupts.intf && !hold_on_the_fly;
  return !disabled && (on_the_fly || state_.interrupts.pin_latched);
}

}  // namespace bulkhead::lsi53c895a
