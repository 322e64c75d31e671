#include "services/lsi53c895a/nexus.h"

#include <algorithm>

namespace bulkhead::lsi53c895a {
namespace {

using scsi::Task;

// SAM-5 §4.3.4.1: the size of a CDB by the group of its operation code; 0 for
// the groups that leave it open.
size_t CommandBytes(uint8_t operation_code) {
  switch (operation_code >> 5) {
    case 0:
      return 6;
    case 1:
    case 2:
      return 10;
    case 4:
      return 16;
    case 5:
      return 12;
    default:
      return 0;
  }
}

}  // namespace

Task* Nexus::task() const {
  const uint32_t slot = state_.connection.slot;
  return slot == kNoSlot ? nullptr : tasks_[slot];
}

Nexus::Wait Nexus::Assert(Phase phase) {
  state_.connection.phase = static_cast<uint8_t>(phase);
  return Wait::kRequest;
}

Nexus::Wait Nexus::Request() {
  ConnectionState& c = state_.connection;
  // The chip would wait for ever for a target that waits for the end of ACK;
  // firmware relies on the next phase coming all the same.
  if (c.ack_held) ReleaseAck();
  if (!c.connected) return Wait::kBusFree;

  if (c.atn && c.step != Step::kMessageOut && AtMessageBoundary()) {
    c.after_message_out = c.step;
    c.step = Step::kMessageOut;
    c.message_out_size = 0;
  }
  if (c.step == Step::kMessageIn && c.message_in_next == c.message_in_size &&
      FinishMessageIn()) {
    return Wait::kBusFree;
  }
  switch (c.step) {
    case Step::kBusFree:
      return Wait::kBusFree;
    case Step::kMessageOut:
      return Assert(Phase::kMessageOut);
    case Step::kCommand:
      return Assert(Phase::kCommand);
    case Step::kStatus:
      return Assert(Phase::kStatus);
    case Step::kMessageIn:
      return Assert(Phase::kMessageIn);
    case Step::kExecute:
      return RequestOfTask();
  }
  return Wait::kBusFree;
}

Nexus::Wait Nexus::RequestOfTask() {
  ConnectionState& c = state_.connection;
  Task* const task = this->task();
  if (task == nullptr) {  // lost with a former life of this service
    FinishWithoutTask(scsi::Status::kBusy);
    return Assert(Phase::kStatus);
  }
  if (task->state() == Task::State::kBusy) bus_.Poll();
  switch (task->state()) {
    case Task::State::kBusy:
      if (!c.may_disconnect) return Wait::kTarget;
      Disconnect();
      return Assert(Phase::kMessageIn);
    case Task::State::kDataIn:
      return task->buffer().empty() ? Wait::kTarget : Assert(Phase::kDataIn);
    case Task::State::kDataOut:
      return task->buffer().empty() ? Wait::kTarget : Assert(Phase::kDataOut);
    case Task::State::kStatus:
      FinishWithoutTask(task->status());
      task->Release();
      return Assert(Phase::kStatus);
  }
  return Wait::kTarget;
}

// SPI-3 §16.3.3: pointers need saving only if they have moved.
void Nexus::Disconnect() {
  static constexpr uint8_t kSaveFirst[] = {kSaveDataPointers,
                                           Message::kDisconnect};
  ConnectionState& c = state_.connection;
  QueueMessage(absl::MakeConstSpan(kSaveFirst).subspan(c.data_moved ? 0 : 1));
  c.data_moved = false;
  c.step = Step::kMessageIn;
  c.after = AfterMessage::kDisconnect;
}

bool Nexus::FinishMessageIn() {
  ConnectionState& c = state_.connection;
  c.message_in_size = 0;
  c.message_in_next = 0;
  switch (c.after) {
    case AfterMessage::kResume:
      c.step = c.after_message_in;
      if (c.step != Step::kMessageIn && c.step != Step::kBusFree) return false;
      break;  // a saved state that makes no sense
    case AfterMessage::kDisconnect:
      if (c.slot != kNoSlot) {
        Slot& slot = state_.slots[c.slot];
        slot.disconnected = true;
        slot.may_disconnect = true;
        slot.order = state_.next_order++;
        ++disconnected_;
        ++disconnections_;
      }
      break;
    case AfterMessage::kComplete:
      break;
  }
  GoFree();
  return true;
}

void Nexus::GoFree() {
  const uint8_t phase = state_.connection.phase;
  state_.connection = ConnectionState();
  state_.connection.phase = phase;
}

bool Nexus::Select(uint8_t target, bool atn) {
  if (!bus_.HasTarget(target)) return false;
  ConnectionState& c = state_.connection;
  c = ConnectionState();
  c.connected = true;
  c.target = target;
  c.atn = atn;
  c.unattended = !atn;
  c.step = atn ? Step::kMessageOut : Step::kCommand;
  c.after_message_out = Step::kCommand;
  Assert(atn ? Phase::kMessageOut : Phase::kCommand);
  return true;
}

void Nexus::BeginUnattendedMessage() {
  ConnectionState& c = state_.connection;
  c.unattended = false;
  c.step = Step::kMessageOut;
  c.after_message_out = Step::kCommand;
  Assert(Phase::kMessageOut);
}

uint32_t Nexus::ReadySlot() const {
  uint32_t ready = kNoSlot;
  uint32_t left = disconnected_;
  for (uint32_t i = 0; left > 0 && i < state_.slots.size(); ++i) {
    const Slot& slot = state_.slots[i];
    if (!slot.disconnected) continue;
    --left;
    const Task* task = tasks_[i];
    if (task != nullptr && task->state() == Task::State::kBusy) continue;
    // Orders may wrap: compare their distance.
    if (ready == kNoSlot ||
        static_cast<int32_t>(slot.order - state_.slots[ready].order) < 0) {
      ready = i;
    }
  }
  return ready;
}

bool Nexus::Reselect() {
  const uint32_t ready = ReadySlot();
  if (ready == kNoSlot) return false;
  Slot& slot = state_.slots[ready];
  slot.disconnected = false;
  --disconnected_;
  ++reselections_;

  ConnectionState& c = state_.connection;
  c = ConnectionState();
  c.connected = true;
  c.identified = true;
  c.may_disconnect = slot.may_disconnect;
  c.target = slot.target;
  c.lun = slot.lun;
  c.tag = slot.tag;
  c.slot = ready;
  c.step = Step::kMessageIn;
  c.after_message_in = Step::kExecute;
  const uint8_t nexus[] = {static_cast<uint8_t>(kIdentify | slot.lun),
                           kSimpleQueue, static_cast<uint8_t>(slot.tag)};
  QueueMessage(absl::MakeConstSpan(nexus).subspan(
      0, slot.tag == scsi::kUntagged ? 1 : 3));
  Assert(Phase::kMessageIn);
  return true;
}

absl::Span<uint8_t> Nexus::DataBuffer() {
  Task* const task = this->task();
  return task == nullptr ? absl::Span<uint8_t>() : task->buffer();
}

void Nexus::AdvanceData(size_t bytes) {
  state_.connection.data_moved = true;
  task()->Advance(bytes);
}

size_t Nexus::SendMessage(absl::Span<const uint8_t> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!FeedMessage(bytes[i])) return i + 1;
  }
  return bytes.size();
}

size_t Nexus::SendCommand(absl::Span<const uint8_t> bytes) {
  ConnectionState& c = state_.connection;
  const size_t taken = std::min(bytes.size(), c.cdb.size() - c.cdb_bytes);
  std::copy_n(bytes.data(), taken, c.cdb.data() + c.cdb_bytes);
  c.cdb_bytes += static_cast<uint8_t>(taken);
  c.unattended = false;
  // More than the command needs is taken too: firmware always sends 16 bytes.
  if (c.cdb_bytes >= CommandBytes(c.cdb[0])) StartCommand();
  return taken;
}

uint8_t Nexus::ReceiveByte() {
  ConnectionState& c = state_.connection;
  if (c.step == Step::kStatus) {
    static constexpr uint8_t kComplete[] = {kCommandComplete};
    QueueMessage(kComplete);
    c.step = Step::kMessageIn;
    c.after = AfterMessage::kComplete;
    return c.status;
  }
  if (c.message_in_next < c.message_in_size) {
    return c.message_in[c.message_in_next++];
  }
  return kNoOperation;
}

bool Nexus::ReleaseAck() {
  ConnectionState& c = state_.connection;
  if (!c.ack_held) return false;
  c.ack_held = false;
  return c.step == Step::kMessageIn && c.message_in_next == c.message_in_size &&
         !c.atn && FinishMessageIn();
}

void Nexus::StartCommand() {
  ConnectionState& c = state_.connection;
  ++commands_;
  c.step = Step::kExecute;
  const size_t needed = CommandBytes(c.cdb[0]);
  const uint32_t slot_index = FreeSlotIndex();
  Task* task = nullptr;
  if (slot_index != kNoSlot) {
    task = bus_.Start(
        {.target = c.target,
         .lun = c.lun,
         .tag = c.tag,
         .attribute = c.attribute,
         .cdb_size = needed != 0 ? static_cast<uint8_t>(needed) : c.cdb_bytes,
         .cdb = c.cdb});
  }
  if (task == nullptr) {
    FinishWithoutTask(scsi::Status::kTaskSetFull);
    return;
  }
  tasks_[slot_index] = task;
  Slot& slot = state_.slots[slot_index];
  slot = {.in_use = true,
          .disconnected = false,
          .may_disconnect = c.may_disconnect,
          .target = c.target,
          .lun = c.lun,
          .tag = c.tag};
  c.slot = slot_index;
}

// Ends the command of this connection, with or without a task to thank for it.
void Nexus::FinishWithoutTask(scsi::Status status) {
  ConnectionState& c = state_.connection;
  if (c.slot != kNoSlot) FreeSlot(c.slot);
  c.status = static_cast<uint8_t>(status);
  c.step = Step::kStatus;
}

uint32_t Nexus::FreeSlotIndex() {
  for (uint32_t i = 0; i < state_.slots.size(); ++i) {
    const uint32_t index = (next_slot_ + i) % state_.slots.size();
    if (!state_.slots[index].in_use) {
      next_slot_ = index;
      return index;
    }
  }
  return kNoSlot;
}

void Nexus::FreeSlot(uint32_t slot) {
  if (state_.slots[slot].disconnected) --disconnected_;
  state_.slots[slot] = Slot();
  tasks_[slot] = nullptr;
  if (state_.connection.slot == slot) state_.connection.slot = kNoSlot;
}

void Nexus::FreeSlotsOf(unsigned target, int lun) {
  for (uint32_t i = 0; i < state_.slots.size(); ++i) {
    const Slot& slot = state_.slots[i];
    if (slot.in_use && slot.target == target && (lun < 0 || slot.lun == lun)) {
      FreeSlot(i);
    }
  }
}

void Nexus::FreeSlotOf(unsigned target, unsigned lun, uint32_t tag) {
  for (uint32_t i = 0; i < state_.slots.size(); ++i) {
    const Slot& slot = state_.slots[i];
    if (slot.in_use && slot.target == target && slot.lun == lun &&
        slot.tag == tag) {
      FreeSlot(i);
    }
  }
}

void Nexus::RecoverTasks() {
  disconnected_ = 0;
  tasks_ = {};
  for (uint32_t i = 0; i < state_.slots.size(); ++i) {
    const Slot& slot = state_.slots[i];
    if (!slot.in_use) continue;
    if (slot.disconnected) ++disconnected_;
    // Two slots of one nexus: the second has no task, and ends as lost.
    Task* const found = bus_.Find(slot.target, slot.lun, slot.tag);
    const auto end = tasks_.begin() + i;
    if (std::find(tasks_.begin(), end, found) == end) tasks_[i] = found;
  }
}

void Nexus::DropConnection() {
  const uint32_t slot = state_.connection.slot;
  if (slot != kNoSlot) {
    const Slot dropped = state_.slots[slot];
    FreeSlotOf(dropped.target, dropped.lun, dropped.tag);
    bus_.AbortTask(dropped.target, dropped.lun, dropped.tag);
  }
  GoFree();
}

void Nexus::Abandon() {
  for (const Slot& slot : state_.slots) {
    if (!slot.in_use) continue;
    const Slot dropped = slot;
    FreeSlotsOf(dropped.target, dropped.lun);
    bus_.AbortTaskSet(dropped.target, dropped.lun);
  }
  GoFree();
}

void Nexus::BusReset() {
  for (uint32_t i = 0; i < state_.slots.size(); ++i) {
    if (state_.slots[i].in_use) FreeSlot(i);
  }
  GoFree();
  bus_.BusReset();
}

}  // namespace bulkhead::lsi53c895a
