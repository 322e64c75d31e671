// Registers, bits and opcodes of the LSI53C895A, with the section of the
// technical manual that defines them. No logic.
//
// SPEC     LSI53C895A PCI to Ultra2 SCSI Controller Technical Manual
//          (S14028.B): chapter 4 (registers), chapter 5 (SCRIPTS).
// TRUST    None: constants.
// ERRORS   None.
// THREADS  Any.

#ifndef BULKHEAD_SERVICES_LSI53C895A_SPEC_H_
#define BULKHEAD_SERVICES_LSI53C895A_SPEC_H_

#include <cstddef>
#include <cstdint>

namespace bulkhead::lsi53c895a {

// ---- §4.1 PCI

inline constexpr uint16_t kVendorId = 0x1000;
inline constexpr uint16_t kDeviceId = 0x0012;
inline constexpr uint32_t kClassCode = 0x010000;  // SCSI controller

inline constexpr uint32_t kIoBar = 0;          // registers, I/O space
inline constexpr uint32_t kMemoryBar = 1;      // registers, memory space
inline constexpr uint32_t kScriptsRamBar = 2;  // on-chip RAM
inline constexpr uint32_t kIoBarBytes = 256;
inline constexpr uint32_t kMemoryBarBytes = 1024;
inline constexpr uint32_t kScriptsRamBytes = 8192;
inline constexpr uint32_t kRegisterBytes = 256;

// ---- §4.2 SCSI registers: byte offsets. Wider registers are little-endian.

enum Register : uint8_t {
  SCNTL0 = 0x00,
  SCNTL1 = 0x01,
  SCNTL2 = 0x02,
  SCNTL3 = 0x03,
  SCID = 0x04,
  SXFER = 0x05,
  SDID = 0x06,
  GPREG = 0x07,
  SFBR = 0x08,
  SOCL = 0x09,
  SSID = 0x0a,
  SBCL = 0x0b,
  DSTAT = 0x0c,
  SSTAT0 = 0x0d,
  SSTAT1 = 0x0e,
  SSTAT2 = 0x0f,
  DSA = 0x10,  // 4 bytes
  ISTAT0 = 0x14,
  ISTAT1 = 0x15,
  MBOX0 = 0x16,
  MBOX1 = 0x17,
  CTEST0 = 0x18,
  CTEST1 = 0x19,
  CTEST2 = 0x1a,
  CTEST3 = 0x1b,
  TEMP = 0x1c,  // 4 bytes
  DFIFO = 0x20,
  CTEST4 = 0x21,
  CTEST5 = 0x22,
  CTEST6 = 0x23,
  DBC = 0x24,  // 3 bytes
  DCMD = 0x27,
  DNAD = 0x28,      // 4 bytes
  DSP = 0x2c,       // 4 bytes
  DSPS = 0x30,      // 4 bytes
  SCRATCHA = 0x34,  // 4 bytes
  DMODE = 0x38,
  DIEN = 0x39,
  SBR = 0x3a,
  DCNTL = 0x3b,
  ADDER = 0x3c,  // 4 bytes
  SIEN0 = 0x40,
  SIEN1 = 0x41,
  SIST0 = 0x42,
  SIST1 = 0x43,
  SLPAR = 0x44,
  SWIDE = 0x45,
  MACNTL = 0x46,
  GPCNTL = 0x47,
  STIME0 = 0x48,
  STIME1 = 0x49,
  RESPID0 = 0x4a,
  RESPID1 = 0x4b,
  STEST0 = 0x4c,
  STEST1 = 0x4d,
  STEST2 = 0x4e,
  STEST3 = 0x4f,
  SIDL = 0x50,  // 2 bytes
  STEST4 = 0x52,
  SODL = 0x54,  // 2 bytes
  CCNTL0 = 0x56,
  CCNTL1 = 0x57,
  SBDL = 0x58,      // 2 bytes
  SCRATCHB = 0x5c,  // 4 bytes
  SCRATCHC = 0x60,  // C to R: 16 registers of 4 bytes
  MMRS = 0xa0,      // selectors: the upper 32 bits of addresses, 4 bytes each
  MMWS = 0xa4,
  SFS = 0xa8,
  DRS = 0xac,
  SBMS = 0xb0,
  DBMS = 0xb4,
  DNAD64 = 0xb8,
  PMJAD1 = 0xc0,  // 4 bytes
  PMJAD2 = 0xc4,  // 4 bytes
  RBC = 0xc8,     // 4 bytes
  UA = 0xcc,      // 4 bytes
  ESA = 0xd0,     // 4 bytes
  IA = 0xd4,      // 4 bytes
  SBC = 0xd8,     // 3 bytes
  CSBC = 0xdc,    // 4 bytes
};

// SCNTL0 0x00: arbitration, parity, target mode.
inline constexpr uint8_t kScntl0Arb = 0xc0;
inline constexpr uint8_t kScntl0Start = 0x20;
inline constexpr uint8_t kScntl0Watn = 0x10;
inline constexpr uint8_t kScntl0Trg = 0x01;

// SCNTL1 0x01
inline constexpr uint8_t kScntl1Con = 0x10;
inline constexpr uint8_t kScntl1Rst = 0x08;
inline constexpr uint8_t kScntl1Iarb = 0x02;
inline constexpr uint8_t kScntl1Sst = 0x01;

// SCNTL2 0x02: WSS and WSR are cleared by writing one.
inline constexpr uint8_t kScntl2Sdu = 0x80;
inline constexpr uint8_t kScntl2Wss = 0x08;
inline constexpr uint8_t kScntl2Wsr = 0x01;

// SCID 0x04
inline constexpr uint8_t kScidRre = 0x40;
inline constexpr uint8_t kScidIdMask = 0x0f;

// SOCL 0x09, SBCL 0x0b
inline constexpr uint8_t kBusReq = 0x80;
inline constexpr uint8_t kBusAck = 0x40;
inline constexpr uint8_t kBusBsy = 0x20;
inline constexpr uint8_t kBusSel = 0x10;
inline constexpr uint8_t kBusAtn = 0x08;
inline constexpr uint8_t kBusPhaseMask = 0x07;

// SSID 0x0a
inline constexpr uint8_t kSsidValid = 0x80;

// DSTAT 0x0c, DIEN 0x39
inline constexpr uint8_t kDstatDfe = 0x80;  // status only
inline constexpr uint8_t kDstatMdpe = 0x40;
inline constexpr uint8_t kDstatBf = 0x20;
inline constexpr uint8_t kDstatAbrt = 0x10;
inline constexpr uint8_t kDstatSsi = 0x08;
inline constexpr uint8_t kDstatSir = 0x04;
inline constexpr uint8_t kDstatIid = 0x01;

// SSTAT0 0x0d
inline constexpr uint8_t kSstat0Woa = 0x04;
inline constexpr uint8_t kSstat0Rst = 0x02;

// SSTAT2 0x0f
inline constexpr uint8_t kSstat2Ldsc = 0x02;

// ISTAT0 0x14
inline constexpr uint8_t kIstat0Abrt = 0x80;
inline constexpr uint8_t kIstat0Srst = 0x40;
inline constexpr uint8_t kIstat0Sigp = 0x20;
inline constexpr uint8_t kIstat0Sem = 0x10;
inline constexpr uint8_t kIstat0Con = 0x08;
inline constexpr uint8_t kIstat0Intf = 0x04;
inline constexpr uint8_t kIstat0Sip = 0x02;
inline constexpr uint8_t kIstat0Dip = 0x01;

// ISTAT1 0x15
inline constexpr uint8_t kIstat1Flsh = 0x04;
inline constexpr uint8_t kIstat1Scrun = 0x02;
inline constexpr uint8_t kIstat1Sirqd = 0x01;

// CTEST1 0x19: both halves of the DMA FIFO are empty.
inline constexpr uint8_t kCtest1Empty = 0xf0;

// CTEST2 0x1a
inline constexpr uint8_t kCtest2Sigp = 0x40;
inline constexpr uint8_t kCtest2Cio = 0x20;
inline constexpr uint8_t kCtest2Cm = 0x10;
inline constexpr uint8_t kCtest2Pcicie = 0x08;
inline constexpr uint8_t kCtest2Dack = 0x01;

// CTEST3 0x1b: FLF and CLF are commands.
inline constexpr uint8_t kCtest3Flf = 0x08;
inline constexpr uint8_t kCtest3Clf = 0x04;
inline constexpr uint8_t kCtest3Writable = 0x03;

// CTEST5 0x22
inline constexpr uint8_t kCtest5Dfs = 0x20;

// DMODE 0x38
inline constexpr uint8_t kDmodeMan = 0x01;

// DCNTL 0x3b: PFF and STD are commands.
inline constexpr uint8_t kDcntlPff = 0x40;
inline constexpr uint8_t kDcntlSsm = 0x10;
inline constexpr uint8_t kDcntlStd = 0x04;
inline constexpr uint8_t kDcntlIrqd = 0x02;
inline constexpr uint8_t kDcntlCom = 0x01;

// SIST0/SIST1, SIEN0/SIEN1 as one 16-bit word.
inline constexpr uint16_t kSistMa = 0x0080;
inline constexpr uint16_t kSistCmp = 0x0040;
inline constexpr uint16_t kSistSel = 0x0020;
inline constexpr uint16_t kSistRsl = 0x0010;
inline constexpr uint16_t kSistSge = 0x0008;
inline constexpr uint16_t kSistUdc = 0x0004;
inline constexpr uint16_t kSistRst = 0x0002;
inline constexpr uint16_t kSistPar = 0x0001;
inline constexpr uint16_t kSistSbmc = 0x1000;
inline constexpr uint16_t kSistSto = 0x0400;
inline constexpr uint16_t kSistGen = 0x0200;
inline constexpr uint16_t kSistHth = 0x0100;
inline constexpr uint16_t kSistDefined = 0x17ff;
// §2.2.16.3: as an initiator these stop SCRIPTS only when they are enabled.
inline constexpr uint16_t kSistNonFatal =
    kSistCmp | kSistSel | kSistRsl | kSistGen | kSistHth;

// STIME0 0x48, STIME1 0x49
inline constexpr uint8_t kStime1Gensf = 0x20;
inline constexpr uint8_t kStime1Hthsf = 0x10;

// STEST0 0x4c
inline constexpr uint8_t kStest0Soz = 0x02;
inline constexpr uint8_t kStest0Som = 0x01;

// STEST3 0x4f
inline constexpr uint8_t kStest3Csf = 0x02;

// STEST4 0x52
inline constexpr uint8_t kStest4Lvd = 0xc0;
inline constexpr uint8_t kStest4LockFrequency = 0x20;

// CCNTL0 0x56
inline constexpr uint8_t kCcntl0Enpmj = 0x80;
inline constexpr uint8_t kCcntl0Pmjctl = 0x40;
inline constexpr uint8_t kCcntl0Enndj = 0x20;

// CCNTL1 0x57
inline constexpr uint8_t kCcntl1Ddac = 0x08;
inline constexpr uint8_t kCcntl1Timod = 0x04;  // 64TIMOD
inline constexpr uint8_t kCcntl1En64tibmv = 0x02;
inline constexpr uint8_t kCcntl1En64dbmv = 0x01;

// ---- §5.3, table 5.2: SCSI phases as MSG, C/D, I/O

enum class Phase : uint8_t {
  kDataOut = 0,
  kDataIn = 1,
  kCommand = 2,
  kStatus = 3,
  kReservedOut = 4,
  kReservedIn = 5,
  kMessageOut = 6,
  kMessageIn = 7,
};
inline constexpr bool IsInbound(Phase phase) {
  return (static_cast<uint8_t>(phase) & 1) != 0;
}
inline constexpr bool IsData(Phase phase) {
  return (static_cast<uint8_t>(phase) & 2) == 0;
}

// ---- §5 SCRIPTS: the first dword

// Bits 31:30.
enum class InstructionType : uint8_t {
  kBlockMove = 0,         // §5.3
  kIoOrRegister = 1,      // §5.4, §5.5
  kTransferControl = 2,   // §5.6
  kMemoryOrLoadStore = 3  // §5.7, §5.8
};

// §5.3 Block move
inline constexpr uint32_t kMoveIndirect = 1u << 29;
inline constexpr uint32_t kMoveTableIndirect = 1u << 28;
inline constexpr uint32_t kMoveUnchained = 1u << 27;  // initiator: MOVE

// §5.4 I/O: bits 29:27
enum class IoOpcode : uint8_t {
  kSelect = 0,
  kWaitDisconnect = 1,
  kWaitReselect = 2,
  kSet = 3,
  kClear = 4,
  // §5.5 Read/write
  kMoveFromSfbr = 5,
  kMoveToSfbr = 6,
  kReadModifyWrite = 7,
};
inline constexpr uint32_t kIoRelative = 1u << 26;
inline constexpr uint32_t kIoTableIndirect = 1u << 25;
inline constexpr uint32_t kIoAtn = 1u << 24;
inline constexpr uint32_t kIoSetCarry = 1u << 10;
inline constexpr uint32_t kIoSetTarget = 1u << 9;
inline constexpr uint32_t kIoSetAck = 1u << 6;
inline constexpr uint32_t kIoSetAtn = 1u << 3;

// §5.5 Read/write: bits 26:24
enum class Operator : uint8_t {
  kLoad = 0,
  kShiftLeft = 1,
  kOr = 2,
  kXor = 3,
  kAnd = 4,
  kShiftRight = 5,
  kAdd = 6,
  kAddWithCarry = 7,
};
inline constexpr uint32_t kOperandIsSfbr = 1u << 23;
inline constexpr uint32_t kRegisterAddress7 = 1u << 7;

// §5.6 Transfer control: bits 29:27
enum class TransferOpcode : uint8_t {
  kJump = 0,
  kCall = 1,
  kReturn = 2,
  kInterrupt = 3,
};
inline constexpr uint32_t kTransferRelative = 1u << 23;
inline constexpr uint32_t kTransfer64 = 1u << 22;
inline constexpr uint32_t kTransferCarry = 1u << 21;
inline constexpr uint32_t kTransferOnTheFly = 1u << 20;
inline constexpr uint32_t kTransferIfTrue = 1u << 19;
inline constexpr uint32_t kTransferCompareData = 1u << 18;
inline constexpr uint32_t kTransferComparePhase = 1u << 17;
inline constexpr uint32_t kTransferWaitPhase = 1u << 16;

// §5.7, §5.8: bit 29 tells load/store from memory move.
inline constexpr uint32_t kLoadStore = 1u << 29;
inline constexpr uint32_t kLoadStoreDsaRelative = 1u << 28;
inline constexpr uint32_t kLoadStoreIsLoad = 1u << 24;

// ---- SPI-3 §16: messages

enum Message : uint8_t {
  kCommandComplete = 0x00,
  kExtendedMessage = 0x01,
  kSaveDataPointers = 0x02,
  kRestorePointers = 0x03,
  kDisconnect = 0x04,
  kInitiatorDetectedError = 0x05,
  kAbortTaskSet = 0x06,
  kMessageReject = 0x07,
  kNoOperation = 0x08,
  kMessageParityError = 0x09,
  kTargetReset = 0x0c,
  kAbortTask = 0x0d,
  kClearTaskSet = 0x0e,
  kLogicalUnitReset = 0x17,
  kSimpleQueue = 0x20,
  kHeadOfQueue = 0x21,
  kOrderedQueue = 0x22,
  kIgnoreWideResidue = 0x23,
  kAcaQueue = 0x24,
  kIdentify = 0x80,
};
inline constexpr uint8_t kIdentifyDisconnect = 0x40;
inline constexpr uint8_t kIdentifyLunMask = 0x3f;

enum ExtendedMessage : uint8_t {
  kModifyDataPointer = 0x00,
  kSynchronousRequest = 0x01,
  kWideRequest = 0x03,
  kParallelProtocolRequest = 0x04,
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_SPEC_H_
