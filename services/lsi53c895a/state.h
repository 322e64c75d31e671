// Everything that the chip remembers, as one plain structure: registers,
// on-chip RAM, the SCRIPTS processor, the nexus on the bus, and the commands
// that targets hold. What it leaves out (tasks themselves, PCI configuration)
// belongs to services/scsi and services/pci.
//
// TRUST    A saved image may be anything; IsPlausible checks every field that
//          code indexes, counts or switches by.
// SPEC     §4.2 (registers); the rest has no architectural form.
// ERRORS   IsPlausible is false for a state that no chip can be in.
// THREADS  The loop.

#ifndef BULKHEAD_SERVICES_LSI53C895A_STATE_H_
#define BULKHEAD_SERVICES_LSI53C895A_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "services/lsi53c895a/spec.h"
#include "services/runtime/device.h"
#include "services/scsi/target.h"

namespace bulkhead::lsi53c895a {

// What the SCRIPTS processor is doing between two slices.
enum class Activity : uint8_t {
  kHalted,
  kRunning,    // fetches at DSP
  kWaitPhase,  // transfer control with wait for valid phase
  kBlockMove,  // a move under way, or waiting for its phase
  kWaitDisconnect,
  kWaitReselect,
  kMemoryMove,
};

// What the target that holds the bus does next, once it is free to.
enum class Step : uint8_t {
  kBusFree,
  kMessageOut,
  kCommand,
  kExecute,  // the task decides: data, status or a disconnect
  kStatus,
  kMessageIn,
};

// What follows the last byte of a message-in sequence.
enum class AfterMessage : uint8_t { kResume, kDisconnect, kComplete };

// Interrupts, with the second level of §2.2.16.5 (stacked interrupts).
struct InterruptState {
  uint16_t sist = 0;
  uint16_t sist_stacked = 0;
  // The bits of `sist` and `sist_stacked` that raised SIP, not mere status.
  uint16_t sist_raised = 0;
  uint16_t sist_stacked_raised = 0;
  uint8_t dstat = 0;
  uint8_t dstat_stacked = 0;
  bool intf = false;
  bool pin_latched = false;  // masking later does not deassert the pin
};

struct ScriptsState {
  Activity activity = Activity::kHalted;
  bool carry = false;
  // Selection of an ID nobody has: times out where a phase is needed.
  bool selection_timed_out = false;
  uint8_t unused = 0;

  // The instruction under way.
  uint32_t instruction = 0;
  uint32_t operand = 0;
  uint32_t instruction_address = 0;

  // Block move and memory move.
  uint64_t address = 0;      // next byte
  uint64_t destination = 0;  // memory move
  uint32_t remaining = 0;
  uint32_t entry_address = 0;  // ESA
  uint8_t count_upper = 0;     // RBC[31:24]
  bool first_byte = false;     // SFBR still to be loaded
  uint8_t unused2[6] = {};
};

inline constexpr uint32_t kNoSlot = ~uint32_t{0};

// The nexus on the bus.
struct ConnectionState {
  Step step = Step::kBusFree;
  Step after_message_out = Step::kBusFree;
  Step after_message_in = Step::kBusFree;  // with AfterMessage::kResume
  AfterMessage after = AfterMessage::kResume;
  uint8_t target = 0;
  uint8_t lun = 0;
  bool connected = false;
  bool identified = false;
  bool may_disconnect = false;
  bool ack_held = false;  // last byte of a message in: ACK still asserted
  bool atn = false;
  bool unattended = false;  // selected without ATN, nothing sent yet
  bool data_moved = false;  // since the last save data pointers
  scsi::TaskAttribute attribute = scsi::TaskAttribute::kSimple;
  uint8_t status = 0;
  uint8_t cdb_bytes = 0;
  uint8_t phase = 0;  // last asserted with REQ
  uint32_t tag = scsi::kUntagged;
  // Slot of the command, or kNoSlot.
  uint32_t slot = kNoSlot;
  std::array<uint8_t, scsi::kMaxCdbBytes> cdb = {};

  // Messages to the initiator, back to back.
  std::array<uint8_t, 16> message_in = {};
  uint8_t message_in_size = 0;
  uint8_t message_in_next = 0;

  // A message from the initiator, as far as received.
  uint16_t message_out_skip = 0;  // bytes of an overlong one still to drop
  uint8_t message_out_size = 0;
  std::array<uint8_t, 16> message_out = {};
};

// A command that a target holds, connected or disconnected.
struct Slot {
  bool in_use = false;
  bool disconnected = false;
  bool may_disconnect = false;
  uint8_t target = 0;
  uint8_t lun = 0;
  uint8_t unused[3] = {};
  uint32_t tag = 0;
  uint32_t order = 0;  // of disconnection
};

struct ChipState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  uint32_t next_order = 0;

  std::array<uint8_t, kRegisterBytes> registers = {};
  alignas(8) std::array<uint8_t, kScriptsRamBytes> ram = {};

  InterruptState interrupts;
  ScriptsState scripts;
  ConnectionState connection;
  std::array<Slot, scsi::kMaxTasks> slots = {};

  Nanoseconds general_deadline = kNoDeadline;
  Nanoseconds handshake_deadline = kNoDeadline;

  // Raw register bytes: no side effects.
  uint8_t Get8(uint8_t offset) const { return registers[offset]; }
  void Set8(uint8_t offset, uint8_t value) { registers[offset] = value; }
  uint32_t Get32(uint8_t offset) const {
    uint32_t value;
    std::memcpy(&value, &registers[offset & 0xfc], sizeof(value));
    return value;
  }
  void Set32(uint8_t offset, uint32_t value) {
    std::memcpy(&registers[offset & 0xfc], &value, sizeof(value));
  }
};
static_assert(std::is_trivially_copyable_v<ChipState>);

// Whether a saved image is one that this code could have written.
bool IsPlausible(const ChipState& state);

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_STATE_H_
