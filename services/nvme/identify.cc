#include "services/nvme/identify.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "services/nvme/io_commands.h"
#include "services/nvme/state.h"
#include "services/runtime/endian.h"

namespace bulkhead::nvme {
namespace {

constexpr char kModel[] = "Bulkhead NVMe";
constexpr char kFirmware[] = "1.0";

// §5.15.2.2: bit positions.
constexpr uint16_t kOacsDoorbellBuffer = 1u << 8;
constexpr uint16_t kOncsCompare = 1u << 0;
constexpr uint16_t kOncsDataset = 1u << 2;
constexpr uint16_t kOncsWriteZeroes = 1u << 3;
constexpr uint16_t kOncsSelect = 1u << 4;
constexpr uint16_t kOncsVerify = 1u << 7;
constexpr uint8_t kLpaCommandEffects = 1u << 1;
constexpr uint8_t kLpaExtended = 1u << 2;
constexpr uint8_t kFrmwReadOnlyOneSlot = 1u << 0 | 1u << 1;
constexpr uint8_t kVwcPresentFlushAll = 1u << 0 | 3u << 1;
constexpr uint32_t kSglsSupported = 1u << 0;
constexpr uint32_t kSglsLongerAllowed = 1u << 18;
constexpr uint16_t kFusesCompareAndWrite = 1u << 0;
constexpr uint8_t kControllerTypeIo = 1;

constexpr uint8_t kNsfeatOptimalPerformance = 1u << 4;
constexpr uint8_t kDlfeatWriteZeroesDeallocates = 1u << 3;
constexpr uint8_t kNsattrWriteProtected = 1u << 0;

template <size_t kSize>
void Pad(std::array<char, kSize>* to, const std::string& text) {
  to->fill(' ');
  std::copy_n(text.begin(), std::min(text.size(), kSize), to->begin());
}

template <typename T>
void Store(const T& from, DataPage* page) {
  static_assert(sizeof(T) == sizeof(DataPage));
  std::memcpy(page->data(), &from, sizeof from);
}

// FNV-1a over a text and a number, well mixed: an id, not a secret.
uint64_t Hash(const std::string& text, uint64_t salt) {
  uint64_t hash = 0xcbf29ce484222325 ^ salt;
  for (const char c : text) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93;
  return hash ^ hash >> 32;
}

void StoreEffects(DataPage* page, size_t base, uint8_t opcode,
                  uint32_t effects) {
  StoreLe32(&(*page)[base + 4 * size_t{opcode}], effects);
}

}  // namespace

void FillIdentifyController(const Subsystem& subsystem, DataPage* page) {
  IdentifyController id = {};
  id.vid = kVendorId;
  id.ssvid = kVendorId;
  Pad(&id.serial, subsystem.serial);
  Pad(&id.model, kModel);
  Pad(&id.firmware, kFirmware);
  id.rab = 3;
  id.mdts = kMaxTransferPages;
  id.cntlid = kControllerId;
  id.version = kVersion14;
  id.oaes = kNamespaceAttributeNotices;
  id.controller_type = kControllerTypeIo;
  id.oacs = kOacsDoorbellBuffer;
  id.acl = 3;
  id.aerl = kMaxAsyncEvents - 1;
  id.frmw = kFrmwReadOnlyOneSlot;
  id.lpa = kLpaCommandEffects | kLpaExtended;
  id.elpe = kErrorLogEntries - 1;
  id.wctemp = 343;
  id.cctemp = 373;
  uint64_t capacity = 0;
  for (const Namespace& each : subsystem.namespaces) {
    capacity += each.blocks() << each.block_bits;
  }
  id.total_capacity[0] = capacity;
  id.sqes = kSqEntryBits << 4 | kSqEntryBits;
  id.cqes = kCqEntryBits << 4 | kCqEntryBits;
  id.nn = static_cast<uint32_t>(subsystem.namespaces.size());
  id.oncs = kOncsCompare | kOncsDataset | kOncsWriteZeroes | kOncsSelect |
            kOncsVerify;
  id.fuses = subsystem.fuses() ? kFusesCompareAndWrite : uint16_t{0};
  id.vwc = kVwcPresentFlushAll;
  id.acwu = kMaxFusedBlocks - 1;
  id.sgls = kSglsSupported | kSglsLongerAllowed;
  char nqn[sizeof id.subnqn];
  const uint64_t high = Hash(subsystem.serial, 1);
  const uint64_t low = Hash(subsystem.serial, 2);
  // A UUID of version 8: made as we like, from the serial number.
  std::snprintf(nqn, sizeof nqn,
                "nqn.2014-08.org.nvmexpress:uuid:%08x-%04x-8%03x-%04x-%012lx",
                static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16 & 0xffff),
                static_cast<unsigned>(high & 0xfff),
                static_cast<unsigned>(0x8000 | (low >> 48 & 0x3fff)),
                static_cast<unsigned long>(low & 0xffffffffffff));
  std::memcpy(id.subnqn.data(), nqn, std::strlen(nqn));
  id.power_states[0][0] = 0xc4;  // MP: 25 W, in hundredths
  id.power_states[0][1] = 0x09;
  Store(id, page);
}

void FillIdentifyNamespace(const Namespace& space, DataPage* page) {
  const block::Geometry& geometry = space.backend().geometry();
  IdentifyNamespace id = {};
  id.nsze = space.blocks();
  id.ncap = space.blocks();
  id.nuse = space.blocks();
  id.nsfeat = kNsfeatOptimalPerformance;
  id.dlfeat = kDlfeatWriteZeroesDeallocates;
  id.nvmcap[0] = space.blocks() << space.block_bits;
  const auto blocks = [&space](uint32_t bytes) {
    const uint32_t in_blocks = std::max(bytes >> space.block_bits, 1u);
    return static_cast<uint16_t>(std::min(in_blocks, 0x10000u) - 1);
  };
  id.npwg = blocks(geometry.optimal_bytes);
  id.npwa = blocks(geometry.optimal_bytes);
  id.npdg = blocks(geometry.discard_granularity_bytes);
  id.npda = blocks(geometry.discard_granularity_bytes);
  id.nsattr = geometry.read_only ? kNsattrWriteProtected : 0;
  id.nguid = space.nguid;
  StoreBe64(id.eui64.data(), space.eui64);
  id.lbaf[0] = uint32_t{space.block_bits} << 16;
  Store(id, page);
}

void FillNamespaceDescriptors(const Namespace& space, DataPage* page) {
  page->fill(0);
  uint8_t* at = page->data();
  at[0] = 1;  // NIDT: EUI64
  at[1] = 8;
  StoreBe64(at + 4, space.eui64);
  at += 12;
  at[0] = 2;  // NGUID
  at[1] = 16;
  std::copy(space.nguid.begin(), space.nguid.end(), at + 4);
}

void FillNamespaceList(const Subsystem& subsystem, uint32_t after,
                       DataPage* page) {
  page->fill(0);
  size_t at = 0;
  for (size_t i = after; i < subsystem.namespaces.size(); ++i) {
    StoreLe32(&(*page)[at], static_cast<uint32_t>(i + 1));
    at += 4;
  }
}

void FillControllerList(uint16_t first, DataPage* page) {
  page->fill(0);
  if (first > kControllerId) return;
  StoreLe16(page->data(), 1);
  StoreLe16(page->data() + 2, kControllerId);
}

void FillFirmwareSlot(DataPage* page) {
  page->fill(0);
  (*page)[0] = 1;  // slot 1 is active
  std::array<char, 8> revision;
  Pad(&revision, kFirmware);
  std::copy(revision.begin(), revision.end(), page->begin() + 8);
}

void FillCommandsSupported(DataPage* page) {
  page->fill(0);
  constexpr uint32_t kSupported = 1u << 0;
  constexpr uint32_t kChangesContent = 1u << 1;
  for (const AdminOpcode opcode :
       {AdminOpcode::kDeleteSubmissionQueue,
        AdminOpcode::kCreateSubmissionQueue, AdminOpcode::kGetLogPage,
        AdminOpcode::kDeleteCompletionQueue,
        AdminOpcode::kCreateCompletionQueue, AdminOpcode::kIdentify,
        AdminOpcode::kAbort, AdminOpcode::kSetFeatures,
        AdminOpcode::kGetFeatures, AdminOpcode::kAsynchronousEventRequest,
        AdminOpcode::kDoorbellBufferConfig}) {
    StoreEffects(page, 0, static_cast<uint8_t>(opcode), kSupported);
  }
  constexpr size_t kIoCommands = 1024;
  for (const IoOpcode opcode : {IoOpcode::kRead, IoOpcode::kCompare,
                                IoOpcode::kVerify, IoOpcode::kFlush}) {
    StoreEffects(page, kIoCommands, static_cast<uint8_t>(opcode), kSupported);
  }
  for (const IoOpcode opcode : {IoOpcode::kWrite, IoOpcode::kWriteZeroes,
                                IoOpcode::kDatasetManagement}) {
    StoreEffects(page, kIoCommands, static_cast<uint8_t>(opcode),
                 kSupported | kChangesContent);
  }
}

void NameNamespace(const std::string& serial, uint32_t nsid, Namespace* space) {
  // Locally administered, and no group: the two low bits of the first octet.
  const auto local = [](uint64_t id) {
    return (id & ~(uint64_t{3} << 56)) | uint64_t{2} << 56;
  };
  space->eui64 = local(Hash(serial, 16 + nsid));
  StoreBe64(space->nguid.data(), Hash(serial, 4096 + nsid));
  StoreBe64(space->nguid.data() + 8, local(Hash(serial, 65536 + nsid)));
}

}  // namespace bulkhead::nvme
