// Timers are the chip's general purpose and handshake-to-handshake timers. The
// selection timer has no use here: an ID that nobody has is known at once.
//
// TRUST    Periods are the guest's; each is one of sixteen.
// ERRORS   None.
// THREADS  The service's loop.
// SPEC     Registers 0x48 (STIME0) and 0x49 (STIME1).

#ifndef BULKHEAD_SERVICES_LSI53C895A_TIMERS_H_
#define BULKHEAD_SERVICES_LSI53C895A_TIMERS_H_

#include <algorithm>
#include <cstdint>

#include "services/lsi53c895a/state.h"
#include "services/runtime/device.h"

namespace bulkhead::lsi53c895a {

class Timers {
 public:
  explicit Timers(ChipState& state) : state_(state) {}
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  // STIME1 was written: a period of zero stops the timer, any other starts it.
  void RestartGeneral(Nanoseconds now);
  // The chip waits for a target's next request, or has stopped waiting.
  void WaitForHandshake(Nanoseconds now);
  void Handshake() { state_.handshake_deadline = kNoDeadline; }
  void Stop();

  // The SIST causes of the timers that have run out by `now`; each once.
  uint16_t Expire(Nanoseconds now);
  Nanoseconds deadline() const {
    return std::min(state_.general_deadline, state_.handshake_deadline);
  }

 private:
  ChipState& state_;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_TIMERS_H_
