#include "services/lsi53c895a/timers.h"

namespace bulkhead::lsi53c895a {
namespace {

// Code 1 is 125 us, each next one twice as long; the scale factor is 16.
Nanoseconds Period(unsigned code, bool scaled) {
  return Nanoseconds{125'000} << (code - 1 + (scaled ? 4 : 0));
}

}  // namespace

void Timers::RestartGeneral(Nanoseconds now) {
  const uint8_t stime1 = state_.Get8(STIME1);
  const unsigned code = stime1 & 0x0f;
  state_.general_deadline =
      code == 0 ? kNoDeadline
                : now + Period(code, (stime1 & kStime1Gensf) != 0);
}

void Timers::WaitForHandshake(Nanoseconds now) {
  const unsigned code = state_.Get8(STIME0) >> 4;
  if (code == 0 || state_.handshake_deadline != kNoDeadline) return;
  const bool scaled = (state_.Get8(STIME1) & kStime1Hthsf) != 0;
  state_.handshake_deadline = now + Period(code, scaled);
}

void Timers::Stop() {
  state_.general_deadline = kNoDeadline;
  state_.handshake_deadline = kNoDeadline;
}

uint16_t Timers::Expire(Nanoseconds now) {
  uint16_t causes = 0;
  if (now >= state_.general_deadline) {
    state_.general_deadline = kNoDeadline;
    causes |= kSistGen;
  }
  if (now >= state_.handshake_deadline) {
    state_.handshake_deadline = kNoDeadline;
    causes |= kSistHth;
  }
  return causes;
}

}  // namespace bulkhead::lsi53c895a
