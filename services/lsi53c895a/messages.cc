// The target's half of message out and message in (SPI-3 §16).

#include <algorithm>

#include "services/lsi53c895a/nexus.h"

namespace bulkhead::lsi53c895a {
namespace {

// What this bus can do: Fast-40, offset 31, 8 bits.
constexpr uint8_t kShortestPeriod = 10;
constexpr uint8_t kLargestOffset = 31;
constexpr uint8_t kNarrow = 0;

constexpr size_t kExtendedHeader = 2;

// The size of a message by its first byte; `length` is the second one, which
// counts only if the message is an extended one.
size_t MessageBytes(uint8_t first, uint8_t length) {
  if (first == kExtendedMessage) {
    return kExtendedHeader + (length == 0 ? 256 : length);
  }
  return first >= 0x20 && first <= 0x2f ? 2 : 1;
}

}  // namespace

// One byte of message out. False: the target has left the bus.
bool Nexus::FeedMessage(uint8_t byte) {
  ConnectionState& c = state_.connection;
  if (c.message_out_skip > 0) {
    if (--c.message_out_skip == 0) RejectMessage();
    return true;
  }
  c.message_out[c.message_out_size++] = byte;
  const uint8_t first = c.message_out[0];
  if (first == kExtendedMessage && c.message_out_size < kExtendedHeader) {
    return true;
  }
  const size_t needed = MessageBytes(first, c.message_out[1]);
  if (needed > c.message_out.size()) {
    c.message_out_skip = static_cast<uint16_t>(needed - kExtendedHeader);
    c.message_out_size = 0;
    return true;
  }
  if (c.message_out_size < needed) return true;
  c.message_out_size = 0;
  return HandleMessage();
}

// A whole message lies in message_out. False: the target has left the bus.
bool Nexus::HandleMessage() {
  ConnectionState& c = state_.connection;
  const uint8_t message = c.message_out[0];
  if ((message & kIdentify) != 0) {
    const uint8_t lun = message & kIdentifyLunMask;
    if (c.slot != kNoSlot && lun != c.lun) {
      RejectMessage();  // a nexus keeps its logical unit
      return true;
    }
    c.lun = lun;
    c.identified = true;
    c.may_disconnect = (message & kIdentifyDisconnect) != 0;
    return true;
  }
  const uint8_t target = c.target;
  const uint8_t lun = c.lun;
  const bool identified = c.identified;
  switch (message) {
    case kNoOperation:
      return true;
    case kExtendedMessage:
      return HandleExtended();
    case kSimpleQueue:
    case kHeadOfQueue:
    case kOrderedQueue:
    case kAcaQueue:
      if (!identified || c.slot != kNoSlot) break;
      c.tag = c.message_out[1];
      c.attribute = message == kSimpleQueue ? scsi::TaskAttribute::kSimple
                    : message == kHeadOfQueue
                        ? scsi::TaskAttribute::kHeadOfQueue
                    : message == kOrderedQueue ? scsi::TaskAttribute::kOrdered
                                               : scsi::TaskAttribute::kAca;
      return true;
    case kMessageReject:
      if (c.after == AfterMessage::kDisconnect) {  // it may not
        c.after = AfterMessage::kResume;
        c.after_message_in = Step::kExecute;
        c.may_disconnect = false;
      }
      return true;
    case kMessageParityError:
      c.message_in_next = 0;  // once more
      return true;
    case kInitiatorDetectedError:
      if (c.slot != kNoSlot) {
        FreeSlotOf(target, lun, c.tag);  // of an overlapped command as well
        bus_.AbortTask(target, lun, c.tag);
        FinishWithoutTask(scsi::Status::kBusy);
        c.after_message_out = Step::kStatus;
        c.step = Step::kMessageOut;
      }
      return true;

    // §16.5: the target goes to bus free, whether or not something was there
    // to abort.
    case kAbortTask: {
      const uint32_t tag = c.tag;
      if (identified) {
        FreeSlotOf(target, lun, tag);
        bus_.AbortTask(target, lun, tag);
      }
      GoFree();
      return false;
    }
    case kAbortTaskSet:
      if (identified) {
        FreeSlotsOf(target, lun);
        bus_.AbortTaskSet(target, lun);
      }
      GoFree();
      return false;
    case kClearTaskSet:
      if (identified) {
        FreeSlotsOf(target, lun);
        bus_.ClearTaskSet(target, lun);
      }
      GoFree();
      return false;
    case kLogicalUnitReset:
      if (identified) {
        FreeSlotsOf(target, lun);
        bus_.LogicalUnitReset(target, lun);
      }
      GoFree();
      return false;
    case kTargetReset:
      FreeSlotsOf(target, -1);
      bus_.TargetReset(target);
      GoFree();
      return false;
    default:
      break;
  }
  RejectMessage();
  return true;
}

bool Nexus::HandleExtended() {
  const auto& m = state_.connection.message_out;
  const uint8_t length = m[1];
  const auto period = [](uint8_t asked) {
    return std::max(asked, kShortestPeriod);
  };
  const auto offset = [](uint8_t asked) {
    return std::min(asked, kLargestOffset);
  };
  if (m[2] == kWideRequest && length == 2) {
    const uint8_t answer[] = {kExtendedMessage, 2, kWideRequest, kNarrow};
    QueueMessage(answer);
  } else if (m[2] == kSynchronousRequest && length == 3) {
    const uint8_t answer[] = {kExtendedMessage, 3, kSynchronousRequest,
                              period(m[3]), offset(m[4])};
    QueueMessage(answer);
  } else if (m[2] == kParallelProtocolRequest && length == 6) {
    const uint8_t answer[] = {kExtendedMessage, 6, kParallelProtocolRequest,
                              period(m[3]),     0, offset(m[5]),
                              kNarrow,
                              /*options=*/0};
    QueueMessage(answer);
  } else {
    RejectMessage();
    return true;
  }
  return true;
}

void Nexus::RejectMessage() {
  static constexpr uint8_t kReject[] = {kMessageReject};
  QueueMessage(kReject);
}

// Appends to what the initiator is to receive. A full queue drops the message:
// the initiator asked too much in one go.
void Nexus::QueueMessage(absl::Span<const uint8_t> bytes) {
  ConnectionState& c = state_.connection;
  if (c.message_in_next == c.message_in_size) {
    c.message_in_next = 0;
    c.message_in_size = 0;
  }
  if (bytes.size() > c.message_in.size() - c.message_in_size) return;
  std::copy(bytes.begin(), bytes.end(),
            c.message_in.begin() + c.message_in_size);
  c.message_in_size += static_cast<uint8_t>(bytes.size());
  // An answer in message out: message in follows, then what was to come.
  if (c.step == Step::kMessageOut && c.after_message_out != Step::kMessageIn) {
    c.after_message_in = c.after_message_out;
    c.after = AfterMessage::kResume;
    c.after_message_out = Step::kMessageIn;
  }
}

void Nexus::EndMessageOut() {
  ConnectionState& c = state_.connection;
  c.atn = false;
  // In the midst of a message the target asks for the rest of it.
  if (c.step != Step::kMessageOut || c.message_out_size > 0 ||
      c.message_out_skip > 0) {
    return;
  }
  c.step = c.after_message_out;
}

bool Nexus::AtMessageBoundary() const {
  const ConnectionState& c = state_.connection;
  if (c.step != Step::kMessageIn) return true;
  size_t at = 0;
  while (at < c.message_in_next) {
    const uint8_t length =
        at + 1 < c.message_in_size ? c.message_in[at + 1] : 1;
    at += MessageBytes(c.message_in[at], length);
  }
  return at == c.message_in_next;
}

}  // namespace bulkhead::lsi53c895a
