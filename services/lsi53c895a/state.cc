#include "services/lsi53c895a/state.h"

namespace bulkhead::lsi53c895a {
namespace {

// A bool or an enum that holds another value is undefined to look at, so the
// raw byte is checked.
template <typename T>
bool AtMost(const T& field, uint8_t limit) {
  static_assert(sizeof(T) == 1);
  uint8_t raw;
  std::memcpy(&raw, &field, 1);
  return raw <= limit;
}

template <typename T>
constexpr uint8_t Value(T enumerator) {
  return static_cast<uint8_t>(enumerator);
}

bool IsPlausible(const InterruptState& s) {
  return (s.sist & ~kSistDefined) == 0 &&
         (s.sist_stacked & ~kSistDefined) == 0 &&
         (s.sist_raised & ~s.sist) == 0 &&
         (s.sist_stacked_raised & ~s.sist_stacked) == 0 && AtMost(s.intf, 1) &&
         AtMost(s.pin_latched, 1);
}

bool IsPlausible(const ScriptsState& s) {
  return AtMost(s.activity, Value(Activity::kMemoryMove)) &&
         AtMost(s.carry, 1) && AtMost(s.selection_timed_out, 1) &&
         AtMost(s.first_byte, 1) && s.remaining <= 0xffffff &&
         (s.activity != Activity::kBlockMove || s.remaining > 0);
}

bool IsPlausible(const ConnectionState& c) {
  return AtMost(c.step, Value(Step::kMessageIn)) &&
         AtMost(c.after_message_out, Value(Step::kMessageIn)) &&
         AtMost(c.after_message_in, Value(Step::kMessageIn)) &&
         AtMost(c.after, Value(AfterMessage::kComplete)) &&
         c.target < scsi::kMaxTargets && c.lun <= kIdentifyLunMask &&
         AtMost(c.connected, 1) && AtMost(c.identified, 1) &&
         AtMost(c.may_disconnect, 1) && AtMost(c.ack_held, 1) &&
         AtMost(c.atn, 1) && AtMost(c.unattended, 1) &&
         AtMost(c.data_moved, 1) &&
         AtMost(c.attribute, Value(scsi::TaskAttribute::kAca)) &&
         c.cdb_bytes <= scsi::kMaxCdbBytes && c.phase <= 7 &&
         (c.tag == scsi::kUntagged || c.tag <= 0xff) &&
         (c.slot == kNoSlot || c.slot < scsi::kMaxTasks) &&
         c.message_in_size <= c.message_in.size() &&
         c.message_in_next <= c.message_in_size &&
         c.message_out_size < c.message_out.size() &&  // room for a byte
         c.connected == (c.step != Step::kBusFree);
}

bool IsPlausible(const Slot& slot) {
  return AtMost(slot.in_use, 1) && AtMost(slot.disconnected, 1) &&
         AtMost(slot.may_disconnect, 1) && slot.target < scsi::kMaxTargets &&
         slot.lun <= kIdentifyLunMask &&
         (slot.tag == scsi::kUntagged || slot.tag <= 0xff);
}

}  // namespace

bool IsPlausible(const ChipState& state) {
  if (state.version != ChipState::kVersion || !IsPlausible(state.interrupts) ||
      !IsPlausible(state.scripts) || !IsPlausible(state.connection)) {
    return false;
  }
  for (const Slot& slot : state.slots) {
    if (!IsPlausible(slot)) return false;
  }
  const ConnectionState& c = state.connection;
  return c.slot == kNoSlot || (c.connected && state.slots[c.slot].in_use &&
                               !state.slots[c.slot].disconnected);
}

}  // namespace bulkhead::lsi53c895a
