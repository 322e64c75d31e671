// Registers, commands, status codes and data structures of an NVMe controller,
// with the sections that define them. No logic.
//
// SPEC     NVM Express Base Specification 1.4c.
// TRUST    None: constants and structures.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_NVME_SPEC_H_
#define BULKHEAD_SERVICES_NVME_SPEC_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "services/runtime/endian.h"

namespace bulkhead::nvme {

// §3.1: controller registers, in BAR 0.
enum Register : uint64_t {
  kCap = 0x00,    // Controller Capabilities, 64 bits
  kVs = 0x08,     // Version
  kIntms = 0x0c,  // Interrupt Mask Set
  kIntmc = 0x10,  // Interrupt Mask Clear
  kCc = 0x14,     // Controller Configuration
  kCsts = 0x1c,   // Controller Status
  kNssr = 0x20,   // NVM Subsystem Reset (CAP.NSSRS = 0: not there)
  kAqa = 0x24,    // Admin Queue Attributes
  kAsq = 0x28,    // Admin Submission Queue Base Address, 64 bits
  kAcq = 0x30,    // Admin Completion Queue Base Address, 64 bits
  kRegistersEnd = 0x40,
  kDoorbells = 0x1000,  // CAP.DSTRD = 0: 4 bytes each, §3.1.24 and §3.1.25
};

inline constexpr uint32_t kVersion14 = 0x00010400;

// §3.1.1: CAP.
inline constexpr uint64_t kCapContiguousQueues = uint64_t{1} << 16;
inline constexpr unsigned kCapTimeoutShift = 24;  // units of 500 ms
inline constexpr uint64_t kCapNvmCommandSet = uint64_t{1} << 37;
inline constexpr unsigned kCapMpsMaxShift = 52;

// §3.1.5: CC.
inline constexpr uint32_t kCcEnable = 1u << 0;
inline constexpr uint32_t kCcCommandSetMask = 7u << 4;
inline constexpr unsigned kCcPageShift = 7;  // MPS: 2^(12 + MPS) bytes
inline constexpr uint32_t kCcPageMask = 0xfu << 7;
inline constexpr uint32_t kCcArbitrationMask = 7u << 11;
inline constexpr uint32_t kCcShutdownMask = 3u << 14;
inline constexpr unsigned kCcSqEntryShift = 16;
inline constexpr unsigned kCcCqEntryShift = 20;
inline constexpr uint32_t kCcWritable = 0x00fffff1;

// §3.1.6: CSTS.
inline constexpr uint32_t kCstsReady = 1u << 0;
inline constexpr uint32_t kCstsFatal = 1u << 1;
inline constexpr uint32_t kCstsShutdownMask = 3u << 2;
inline constexpr uint32_t kCstsShutdownOccurring = 1u << 2;
inline constexpr uint32_t kCstsShutdownComplete = 2u << 2;

inline constexpr unsigned kPageBits = 12;  // CAP.MPSMIN = 0
inline constexpr unsigned kMaxPageBits = 16;
inline constexpr unsigned kSqEntryBits = 6;
inline constexpr unsigned kCqEntryBits = 4;

// §4.2, figure 105: a submission queue entry. The data pointer is two PRPs or
// one SGL descriptor.
struct SglDescriptor {
  Le64 address;
  Le32 length;
  std::array<uint8_t, 3> reserved;
  uint8_t type;  // type << 4 | subtype
};
static_assert(sizeof(SglDescriptor) == 16);

struct Command {
  uint8_t opcode;
  uint8_t flags;  // PSDT << 6 | FUSE
  Le16 cid;
  Le32 nsid;
  Le32 cdw2;
  Le32 cdw3;
  Le64 mptr;
  Le64 prp1;
  Le64 prp2;
  Le32 cdw10;
  Le32 cdw11;
  Le32 cdw12;
  Le32 cdw13;
  Le32 cdw14;
  Le32 cdw15;

  unsigned fuse() const { return flags & 3u; }
  unsigned psdt() const { return flags >> 6; }
};
static_assert(sizeof(Command) == 64);

inline constexpr unsigned kFuseFirst = 1;
inline constexpr unsigned kFuseSecond = 2;

// Bytes of a Command, for the error log's Parameter Error Location.
inline constexpr uint16_t kAtOpcode = 0;
inline constexpr uint16_t kAtFlags = 1;
inline constexpr uint16_t kAtNsid = 4;
inline constexpr uint16_t kAtPrp1 = 24;
inline constexpr uint16_t kAtPrp2 = 32;
inline constexpr uint16_t kAtCdw10 = 40;
inline constexpr uint16_t kAtCdw11 = 44;
inline constexpr uint16_t kAtCdw12 = 48;

// §4.6: a completion queue entry.
struct Completion {
  Le32 result;
  Le32 reserved;
  Le16 sq_head;
  Le16 sq_id;
  Le16 cid;
  Le16 status;  // phase | Status << 1 | more << 14 | do not retry << 15
};
static_assert(sizeof(Completion) == 16);
inline constexpr uint16_t kCompletionMore = 1u << 14;
inline constexpr uint16_t kCompletionDoNotRetry = 1u << 15;

// §5, figure 139: admin commands.
enum class AdminOpcode : uint8_t {
  kDeleteSubmissionQueue = 0x00,
  kCreateSubmissionQueue = 0x01,
  kGetLogPage = 0x02,
  kDeleteCompletionQueue = 0x04,
  kCreateCompletionQueue = 0x05,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0a,
  kAsynchronousEventRequest = 0x0c,
  kDoorbellBufferConfig = 0x7c,
};

// §6, figure 346: commands of the NVM command set.
enum class IoOpcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kCompare = 0x05,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
  kVerify = 0x0c,
};

// §4.6.1: status code type << 8 | status code.
enum class Status : uint16_t {
  // Generic, figure 126 and 127.
  kSuccess = 0x000,
  kInvalidOpcode = 0x001,
  kInvalidField = 0x002,
  kDataTransferError = 0x004,
  kInternalError = 0x006,
  kAbortRequested = 0x007,
  kAbortedSqDeletion = 0x008,
  kAbortedFailedFused = 0x009,
  kAbortedMissingFused = 0x00a,
  kInvalidNamespaceOrFormat = 0x00b,
  kCommandSequenceError = 0x00c,
  kInvalidSglSegment = 0x00d,
  kInvalidSglCount = 0x00e,
  kDataSglLengthInvalid = 0x00f,
  kSglTypeInvalid = 0x011,
  kPrpOffsetInvalid = 0x013,
  kAtomicWriteUnitExceeded = 0x014,
  kNamespaceWriteProtected = 0x020,
  kLbaOutOfRange = 0x080,
  kCapacityExceeded = 0x081,
  kNamespaceNotReady = 0x082,
  // Command specific, figure 128.
  kCompletionQueueInvalid = 0x100,
  kInvalidQueueIdentifier = 0x101,
  kInvalidQueueSize = 0x102,
  kAsyncEventLimitExceeded = 0x105,
  kInvalidInterruptVector = 0x108,
  kInvalidLogPage = 0x109,
  kInvalidQueueDeletion = 0x10c,
  kFeatureNotSaveable = 0x10d,
  kFeatureNotChangeable = 0x10e,
  kFeatureNotNamespaceSpecific = 0x10f,
  kConflictingAttributes = 0x180,
  // Media and data integrity, figure 131.
  kWriteFault = 0x280,
  kUnrecoveredReadError = 0x281,
  kCompareFailure = 0x285,
};

// §4.4: SGL descriptor types.
inline constexpr uint8_t kSglDataBlock = 0x00;
inline constexpr uint8_t kSglSegment = 0x20;
inline constexpr uint8_t kSglLastSegment = 0x30;

// §6.7: Dataset Management.
struct DatasetRange {
  Le32 attributes;
  Le32 blocks;
  Le64 slba;
};
static_assert(sizeof(DatasetRange) == 16);
inline constexpr uint32_t kDatasetDeallocate = 1u << 2;  // CDW11

// CDW12 of reads and writes, figure 381 and others.
inline constexpr uint32_t kCdw12Fua = 1u << 30;
inline constexpr uint32_t kCdw12Deallocate = 1u << 25;       // Write Zeroes
inline constexpr uint32_t kCdw12DirectiveMask = 0xfu << 20;  // Write

// §5.21.1, figure 275: features.
enum class Feature : uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kVolatileWriteCache = 0x06,
  kNumberOfQueues = 0x07,
  kInterruptCoalescing = 0x08,
  kInterruptVector = 0x09,
  kWriteAtomicity = 0x0a,
  kAsyncEvents = 0x0b,
};

// §5.14.1: log pages.
enum class LogPage : uint8_t {
  kErrorInformation = 0x01,
  kSmart = 0x02,
  kFirmwareSlot = 0x03,
  kChangedNamespaces = 0x04,
  kCommandsSupported = 0x05,
};

// §5.14.1.1.
struct ErrorLogEntry {
  Le64 error_count;
  Le16 sq_id;
  Le16 cid;
  Le16 status;              // as in the completion, without the phase
  Le16 parameter_location;  // 0xffff: no particular one
  Le64 lba;
  Le32 nsid;
  uint8_t vendor_log;
  uint8_t transport;
  std::array<uint8_t, 2> reserved1;
  Le64 command_specific;
  Le16 transport_specific;
  std::array<uint8_t, 22> reserved2;
};
static_assert(sizeof(ErrorLogEntry) == 64);

// §5.14.1.2.
struct SmartLog {
  uint8_t critical_warning;
  Le16 temperature;  // kelvin
  uint8_t available_spare;
  uint8_t spare_threshold;
  uint8_t percentage_used;
  std::array<uint8_t, 26> reserved1;
  Le64 data_units_read[2];  // thousands of 512 bytes, rounded up
  Le64 data_units_written[2];
  Le64 host_reads[2];
  Le64 host_writes[2];
  Le64 busy_minutes[2];
  Le64 power_cycles[2];
  Le64 power_on_hours[2];
  Le64 unsafe_shutdowns[2];
  Le64 media_errors[2];
  Le64 error_log_entries[2];
  std::array<uint8_t, 320> reserved2;
};
static_assert(sizeof(SmartLog) == 512);
inline constexpr uint8_t kCriticalTemperature = 1u << 1;

// §5.2: what an Asynchronous Event Request completes with.
inline constexpr unsigned kEventTypeError = 0;
inline constexpr unsigned kEventTypeSmart = 1;
inline constexpr uint8_t kEventInvalidDoorbell = 0x00;
inline constexpr uint8_t kEventInvalidDoorbellValue = 0x01;
inline constexpr uint8_t kEventTemperature = 0x01;
inline constexpr unsigned kEventTypeNotice = 2;
inline constexpr uint8_t kEventNamespaceAttribute = 0x00;
// OAES and the feature Asynchronous Event Configuration.
inline constexpr uint32_t kNamespaceAttributeNotices = 1u << 8;

// §5.15: Identify, CNS values.
enum class Cns : uint8_t {
  kNamespace = 0x00,
  kController = 0x01,
  kActiveNamespaces = 0x02,
  kNamespaceDescriptors = 0x03,
  kAllocatedNamespaces = 0x10,
  kAllocatedNamespace = 0x11,
  kAttachedControllers = 0x12,
  kControllers = 0x13,
};

// §5.15.2.2, figure 251.
struct IdentifyController {
  Le16 vid;
  Le16 ssvid;
  std::array<char, 20> serial;
  std::array<char, 40> model;
  std::array<char, 8> firmware;
  uint8_t rab;
  std::array<uint8_t, 3> ieee;
  uint8_t cmic;
  uint8_t mdts;
  Le16 cntlid;
  Le32 version;
  Le32 rtd3r;
  Le32 rtd3e;
  Le32 oaes;
  Le32 ctratt;
  Le16 rrls;
  std::array<uint8_t, 9> reserved102;
  uint8_t controller_type;
  std::array<uint8_t, 144> reserved112;
  Le16 oacs;  // byte 256
  uint8_t acl;
  uint8_t aerl;
  uint8_t frmw;
  uint8_t lpa;
  uint8_t elpe;
  uint8_t npss;
  uint8_t avscc;
  uint8_t apsta;
  Le16 wctemp;
  Le16 cctemp;
  std::array<uint8_t, 10> reserved270;
  Le64 total_capacity[2];  // byte 280
  std::array<uint8_t, 216> reserved296;
  uint8_t sqes;  // byte 512
  uint8_t cqes;
  Le16 maxcmd;
  Le32 nn;
  Le16 oncs;
  Le16 fuses;
  uint8_t fna;
  uint8_t vwc;
  Le16 awun;
  Le16 awupf;
  uint8_t nvscc;
  uint8_t nwpc;
  Le16 acwu;
  Le16 reserved534;
  Le32 sgls;
  Le32 mnan;
  std::array<uint8_t, 224> reserved544;
  std::array<char, 256> subnqn;  // byte 768
  std::array<uint8_t, 1024> reserved1024;
  std::array<std::array<uint8_t, 32>, 32> power_states;
  std::array<uint8_t, 1024> vendor;
};
static_assert(sizeof(IdentifyController) == 4096);
static_assert(offsetof(IdentifyController, oacs) == 256);
static_assert(offsetof(IdentifyController, total_capacity) == 280);
static_assert(offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, subnqn) == 768);
static_assert(offsetof(IdentifyController, power_states) == 2048);

// §5.15.2.1, figure 249.
struct IdentifyNamespace {
  Le64 nsze;
  Le64 ncap;
  Le64 nuse;
  uint8_t nsfeat;
  uint8_t nlbaf;
  uint8_t flbas;
  uint8_t mc;
  uint8_t dpc;
  uint8_t dps;
  uint8_t nmic;
  uint8_t rescap;
  uint8_t fpi;
  uint8_t dlfeat;
  Le16 nawun;
  Le16 nawupf;
  Le16 nacwu;
  Le16 nabsn;
  Le16 nabo;
  Le16 nabspf;
  Le16 noiob;
  Le64 nvmcap[2];
  Le16 npwg;  // byte 64
  Le16 npwa;
  Le16 npdg;
  Le16 npda;
  Le16 nows;
  std::array<uint8_t, 18> reserved74;
  Le32 anagrpid;
  std::array<uint8_t, 3> reserved96;
  uint8_t nsattr;
  Le16 nvmsetid;
  Le16 endgid;
  std::array<uint8_t, 16> nguid;
  std::array<uint8_t, 8> eui64;
  std::array<Le32, 16> lbaf;  // LBADS << 16 | metadata bytes
  std::array<uint8_t, 3904> reserved192;
};
static_assert(sizeof(IdentifyNamespace) == 4096);
static_assert(offsetof(IdentifyNamespace, npwg) == 64);
static_assert(offsetof(IdentifyNamespace, nguid) == 104);
static_assert(offsetof(IdentifyNamespace, lbaf) == 128);

}  // namespace bulkhead::nvme

#endif  // BULKHEAD_SERVICES_NVME_SPEC_H_
