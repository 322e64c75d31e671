// Nexus is the SCSI bus as the chip's initiator core sees it, and the conduct
// of the targets on it: selection, phases, messages, disconnection and
// reselection. Commands themselves run in services/scsi.
//
//   nexus.Select(3, /*atn=*/true);
//   nexus.Request() == kRequest, nexus.phase() == Phase::kMessageOut
//   nexus.SendMessage({0xc0, 0x20, 7});       // IDENTIFY, SIMPLE tag 7
//   nexus.phase() == Phase::kCommand ...
//
// The bus is narrow: a target answers WDTR with 8 bits, so there are no wide
// residues. Bytes never fail parity.
//
// TRUST    Every byte sent is the guest's. A message has a fixed buffer; what
//          does not fit is counted off and rejected.
// ERRORS   A message that means nothing is answered with MESSAGE REJECT, one
//          that aborts frees the bus; nothing else can fail.
// THREADS  The service's loop.
// SPEC     SPI-3 §10-§16; the chip's side is §5.3 and §5.4.

#ifndef BULKHEAD_SERVICES_LSI53C895A_NEXUS_H_
#define BULKHEAD_SERVICES_LSI53C895A_NEXUS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "services/lsi53c895a/state.h"
#include "services/scsi/target.h"

namespace bulkhead::lsi53c895a {

class Nexus {
 public:
  enum class Wait : uint8_t {
    kRequest,  // the target asserts REQ with phase()
    kTarget,   // connected, but the target is not ready
    kBusFree,  // nobody is connected
  };

  Nexus(ChipState& state, scsi::Bus& bus) : state_(state), bus_(bus) {}
  Nexus(const Nexus&) = delete;
  Nexus& operator=(const Nexus&) = delete;

  bool connected() const { return state_.connection.connected; }
  // The phase of the last request.
  Phase phase() const { return static_cast<Phase>(state_.connection.phase); }
  // Lets the target go on to its next request.
  Wait Request();

  // Connects to a target in its message out phase (with ATN) or command phase
  // (without). False: nobody answers.
  bool Select(uint8_t target, bool atn);
  // A target that wants to reselect connects; its ID is target().
  bool Reselect();
  bool WantsReselect() const { return ReadySlot() != kNoSlot; }
  uint8_t target() const { return state_.connection.target; }

  // ---- Information transfer. Call after Request() said kRequest with the
  // phase that the name tells.
  // The task's present piece; may be empty, which is as kTarget.
  absl::Span<uint8_t> DataBuffer();
  void AdvanceData(size_t bytes);
  // Takes up to bytes.size() bytes; returns how many the target took.
  size_t SendMessage(absl::Span<const uint8_t> bytes);
  size_t SendCommand(absl::Span<const uint8_t> bytes);
  // The next byte of status or message in.
  uint8_t ReceiveByte();
  // A message out move is accepted although the target went to command phase:
  // firmware that selects without ATN identifies itself nevertheless.
  bool AcceptsUnattendedMessage() const { return state_.connection.unattended; }
  void BeginUnattendedMessage();
  // A move in message out has ended: the chip has dropped ATN (§5.3).
  void EndMessageOut();

  void SetAtn(bool asserted) { state_.connection.atn = asserted; }
  // ACK stays asserted after the last byte of a message in until released.
  void HoldAck() { state_.connection.ack_held = true; }
  // True: the target has left the bus upon it.
  bool ReleaseAck();

  // The initiator is gone from the bus (chip reset): what targets hold is
  // aborted, quietly.
  void Abandon();
  // SCSI RST: every command is gone.
  void BusReset();
  // Drops the connection and its command.
  void DropConnection();

  // After LoadState of the bus: finds the tasks of the slots again.
  void RecoverTasks();

  uint64_t commands() const { return commands_; }
  uint64_t reselections() const { return reselections_; }
  uint64_t disconnections() const { return disconnections_; }

 private:
  scsi::Task* task() const;
  Wait Assert(Phase phase);
  Wait RequestOfTask();
  // What message in was for; true: the bus is free now.
  bool FinishMessageIn();
  void Disconnect();
  void GoFree();

  // messages.cc
  bool FeedMessage(uint8_t byte);
  bool HandleMessage();
  bool HandleExtended();
  void QueueMessage(absl::Span<const uint8_t> bytes);
  void RejectMessage();
  bool AtMessageBoundary() const;

  // commands
  void StartCommand();
  void FinishWithoutTask(scsi::Status status);
  void FreeSlot(uint32_t slot);
  // `lun` < 0: every one.
  void FreeSlotsOf(unsigned target, int lun);
  void FreeSlotOf(unsigned target, unsigned lun, uint32_t tag);
  uint32_t FreeSlotIndex();
  uint32_t ReadySlot() const;

  ChipState& state_;
  scsi::Bus& bus_;
  std::array<scsi::Task*, scsi::kMaxTasks> tasks_ = {};
  uint32_t disconnected_ = 0;  // slots
  uint32_t next_slot_ = 0;     // where the search for a free one begins
  uint64_t commands_ = 0;
  uint64_t reselections_ = 0;
  uint64_t disconnections_ = 0;
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_NEXUS_H_
