#include "services/nvme/testing/rig.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "services/nvme/identify.h"
#include "services/pci/spec.h"

namespace bulkhead::nvme {

Command MakeCommand(IoOpcode opcode, uint32_t nsid) {
  Command command = {};
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  return command;
}

Command MakeCommand(AdminOpcode opcode, uint32_t nsid) {
  Command command = {};
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  return command;
}

Command BlockCommand(IoOpcode opcode, uint64_t slba, uint32_t blocks,
                     uint32_t nsid) {
  Command command = MakeCommand(opcode, nsid);
  command.prp1 = kBuffer;
  command.prp2 = kBuffer + 4096;
  command.cdw10 = static_cast<uint32_t>(slba);
  command.cdw11 = static_cast<uint32_t>(slba >> 32);
  command.cdw12 = blocks - 1;
  return command;
}

ControllerRig::ControllerRig(const RigOptions& options) {
  Subsystem subsystem;
  subsystem.serial = "BH0001";
  for (const unsigned bits : options.block_bits) {
    auto disk = std::make_unique<scsi::MemoryBackend>(options.capacity_bytes);
    disks.push_back(disk.get());
    Namespace space;
    space.backends.push_back(std::move(disk));
    space.block_bits = bits;
    NameNamespace(subsystem.serial,
                  static_cast<uint32_t>(subsystem.namespaces.size() + 1),
                  &space);
    subsystem.namespaces.push_back(std::move(space));
  }
  controller = std::make_unique<Controller>(context, std::move(subsystem));
  SetBusMaster(true);
  if (!options.start) return;
  TurnMsixOn();
  Enable();
}

ControllerRig::~ControllerRig() {
  for (scsi::MemoryBackend* disk : disks) disk->ReleaseAll();
  EXPECT_TRUE(controller->Quiesce().ok());
}

// ---- registers

uint32_t ControllerRig::Read32(uint64_t offset) {
  return static_cast<uint32_t>(controller->ReadRegion(kBar0Region, offset, 4));
}
uint64_t ControllerRig::Read64(uint64_t offset) {
  return controller->ReadRegion(kBar0Region, offset, 8);
}
void ControllerRig::Write32(uint64_t offset, uint32_t value) {
  controller->WriteRegion(kBar0Region, offset, 4, value);
}
void ControllerRig::Write64(uint64_t offset, uint64_t value) {
  controller->WriteRegion(kBar0Region, offset, 8, value);
}

void ControllerRig::SetBusMaster(bool enabled) {
  controller->WriteRegion(
      kConfigRegion, pci::kCommand, 2,
      pci::kCommandMemorySpace | (enabled ? pci::kCommandBusMaster : 0));
}

namespace {

// Offset of a capability, by its id.
uint64_t FindCapability(Controller& controller, uint8_t id) {
  uint64_t at =
      controller.ReadRegion(kConfigRegion, pci::kCapabilitiesPointer, 1);
  while (at != 0 && controller.ReadRegion(kConfigRegion, at, 1) != id) {
    at = controller.ReadRegion(kConfigRegion, at + 1, 1);
  }
  return at;
}

}  // namespace

void ControllerRig::TurnMsixOn() {
  const uint64_t at = FindCapability(*controller, pci::kCapabilityMsix);
  controller->WriteRegion(kConfigRegion, at + pci::kMsixControl, 2,
                          pci::kMsixEnable);
}

void ControllerRig::TurnMsiOn() {
  const uint64_t at = FindCapability(*controller, pci::kCapabilityMsi);
  controller->WriteRegion(kConfigRegion, at + pci::kMsiControl, 2,
                          pci::kMsiEnable | 5u << pci::kMsiEnabledShift);
}

// ---- life

void ControllerRig::Enable(uint32_t entries, uint32_t cc) {
  rings_ = {};
  shadowed_ = false;
  rings_[0].entries = entries;
  context.set_ram(kAdminCq, std::string(entries * 16, '\0'));
  Write32(kAqa, (entries - 1) | (entries - 1) << 16);
  Write64(kAsq, kAdminSq);
  Write64(kAcq, kAdminCq);
  Write32(kCc, cc);
  Turns();
}

void ControllerRig::Disable() {
  Write32(kCc, Read32(kCc) & ~kCcEnable);
  Turns();
}

void ControllerRig::CreateIoQueuePair(uint16_t id, uint32_t entries,
                                      uint16_t vector) {
  context.set_ram(CqAt(id), std::string(entries * 16, '\0'));
  Command command = MakeCommand(AdminOpcode::kCreateCompletionQueue);
  command.prp1 = CqAt(id);
  command.cdw10 = id | (entries - 1) << 16;
  command.cdw11 = 3u | uint32_t{vector} << 16;
  EXPECT_EQ(StatusOf(Submit(0, command)), Status::kSuccess);
  command = MakeCommand(AdminOpcode::kCreateSubmissionQueue);
  command.prp1 = SqAt(id);
  command.cdw10 = id | (entries - 1) << 16;
  command.cdw11 = 1u | uint32_t{id} << 16;
  EXPECT_EQ(StatusOf(Submit(0, command)), Status::kSuccess);
  rings_[id] = {.entries = entries};
}

void ControllerRig::Adopt(uint16_t id, uint32_t entries) {
  context.set_ram(CqAt(id), std::string(entries * 16, '\0'));
  rings_[id] = {.entries = entries};
}

void ControllerRig::UseShadowDoorbells() {
  Command command = MakeCommand(AdminOpcode::kDoorbellBufferConfig);
  command.prp1 = kShadowAt;
  command.prp2 = kEventIndicesAt;
  EXPECT_EQ(StatusOf(Submit(0, command)), Status::kSuccess);
  shadowed_ = true;
}

// ---- commands

uint16_t ControllerRig::Push(uint16_t queue, Command command) {
  HostRing& ring = rings_[queue];
  const uint16_t cid = next_cid_++;
  if (ring.entries == 0) return cid;  // there is no such queue
  command.cid = cid;
  context.set_ram(
      SqAt(queue) + 64 * ring.tail,
      std::string(reinterpret_cast<const char*>(&command), sizeof command));
  ring.tail = (ring.tail + 1) % ring.entries;
  return cid;
}

void ControllerRig::Ring(uint16_t queue) {
  if (shadowed_ && queue != 0) {
    context.memory().StoreRelease32({kShadowAt + 8ull * queue},
                                    rings_[queue].tail);
    return;
  }
  Write32(kDoorbells + 8ull * queue, rings_[queue].tail);
}

std::optional<Completion> ControllerRig::Reap(uint16_t queue) {
  HostRing& ring = rings_[queue];
  if (ring.entries == 0) return std::nullopt;
  Completion completion;
  const std::string bytes =
      ram(CqAt(queue) + 16 * ring.head, sizeof completion);
  std::memcpy(&completion, bytes.data(), sizeof completion);
  if ((completion.status & 1) != ring.phase) return std::nullopt;
  ring.head = (ring.head + 1) % ring.entries;
  if (ring.head == 0) ring.phase ^= 1;
  if (shadowed_ && queue != 0) {
    context.memory().StoreRelease32({kShadowAt + 8ull * queue + 4}, ring.head);
  } else {
    Write32(kDoorbells + 8ull * queue + 4, ring.head);
  }
  return completion;
}

Completion ControllerRig::Submit(uint16_t queue, Command command) {
  const uint16_t cid = Push(queue, command);
  Ring(queue);
  Turns();
  const std::optional<Completion> completion = Reap(queue);
  Completion none = {};
  none.status = 0xffff;
  EXPECT_TRUE(completion.has_value()) << "no completion";
  if (!completion.has_value()) return none;
  EXPECT_EQ(completion->cid, cid);
  return *completion;
}

void ControllerRig::Turns(int at_most) {
  for (int i = 0; i < at_most; ++i) {
    const Turn turn = controller->Run(context.Now());
    if (!turn.busy && !turn.worked) return;
  }
  ADD_FAILURE() << "the device is still busy";
}

Completion ControllerRig::Identify(Cns cns, uint32_t nsid, std::string* page) {
  Command command = MakeCommand(AdminOpcode::kIdentify, nsid);
  command.prp1 = kBuffer;
  command.cdw10 = static_cast<uint32_t>(cns);
  const Completion completion = Submit(0, command);
  *page = ram(kBuffer, 4096);
  return completion;
}

Completion ControllerRig::GetLog(LogPage page, uint32_t bytes,
                                 std::string* data, uint64_t offset) {
  Command command = MakeCommand(AdminOpcode::kGetLogPage, kAllNamespaces);
  command.prp1 = kBuffer;
  command.prp2 = kBuffer + 4096;
  command.cdw10 = static_cast<uint32_t>(page) | (bytes / 4 - 1) << 16;
  command.cdw12 = static_cast<uint32_t>(offset);
  const Completion completion = Submit(0, command);
  *data = ram(kBuffer, bytes);
  return completion;
}

Completion ControllerRig::SetFeature(Feature feature, uint32_t dword11) {
  Command command = MakeCommand(AdminOpcode::kSetFeatures);
  command.cdw10 = static_cast<uint32_t>(feature);
  command.cdw11 = dword11;
  return Submit(0, command);
}

Completion ControllerRig::GetFeature(Feature feature, uint32_t dword11,
                                     uint32_t select) {
  Command command = MakeCommand(AdminOpcode::kGetFeatures);
  command.cdw10 = static_cast<uint32_t>(feature) | select << 8;
  command.cdw11 = dword11;
  return Submit(0, command);
}

}  // namespace bulkhead::nvme
