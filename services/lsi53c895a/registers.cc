#include "services/lsi53c895a/registers.h"

#include <array>

namespace bulkhead::lsi53c895a {
namespace {

struct Mask {
  uint8_t first;
  uint8_t last;
  uint8_t writable;
};

// The bits that a write stores. What is not listed is wholly writable; bits
// with an effect of their own are handled in Write.
constexpr Mask kMasks[] = {
    {SCNTL0, SCNTL0, 0xdb},  // START: low level mode is not modelled
    {SCNTL1, SCNTL1, 0xee},  // CON is status, SST a command
    {SCID, SCID, 0x6f},
    {SDID, SDID, 0x0f},
    {SFBR, SFBR, 0x00},    // SCRIPTS only
    {SSID, SSTAT2, 0x00},  // SSID, SBCL, DSTAT, SSTAT0-2
    {ISTAT1, ISTAT1, kIstat1Sirqd},
    {CTEST1, CTEST1, 0x00},
    {CTEST2, CTEST2, kCtest2Pcicie},
    {CTEST3, CTEST3, kCtest3Writable},
    {DFIFO, DFIFO, 0x00},
    {CTEST5, CTEST5, 0xfc},
    {DIEN, DIEN, 0x7d},
    {DCNTL, DCNTL, 0xbb},
    {ADDER, ADDER + 3, 0x00},
    {SIEN1, SIEN1, kSistDefined >> 8},
    {SIST0, SIST1, 0x00},
    {MACNTL, MACNTL, 0x0f},
    {STIME1, STIME1, 0x7f},
    {STEST0, STEST0, 0x00},
    {STEST3, STEST3, 0xfd},  // CSF is a command
    {SIDL, SIDL + 3, 0x00},  // SIDL, STEST4, reserved
    {SBDL, SBDL + 3, 0x00},  // SBDL, reserved
    {DNAD64 + 4, DNAD64 + 7, 0x00},
    {SBC, SBC + 3, 0x00},
    {CSBC + 4, 0xff, 0x00},
};

constexpr std::array<uint8_t, kRegisterBytes> MakeWritable() {
  std::array<uint8_t, kRegisterBytes> writable = {};
  for (uint8_t& mask : writable) mask = 0xff;
  for (const Mask& mask : kMasks) {
    for (unsigned i = mask.first; i <= mask.last; ++i) {
      writable[i] = mask.writable;
    }
  }
  return writable;
}
constexpr std::array<uint8_t, kRegisterBytes> kWritable = MakeWritable();

uint8_t ByteOf(uint32_t value, uint8_t offset) {
  return static_cast<uint8_t>(value >> (8 * (offset & 3)));
}

}  // namespace

void Registers::Reset() {
  state_.registers.fill(0);
  state_.Set8(SCNTL0, kScntl0Arb);
  state_.Set8(CTEST1, kCtest1Empty);
  state_.Set8(GPCNTL, 0x0f);
}

uint8_t Registers::ReadIstat0() const {
  uint8_t value =
      state_.Get8(ISTAT0) & (kIstat0Abrt | kIstat0Sigp | kIstat0Sem);
  if (nexus_.connected()) value |= kIstat0Con;
  if (state_.interrupts.intf) value |= kIstat0Intf;
  if (interrupts_.sip()) value |= kIstat0Sip;
  if (interrupts_.dip()) value |= kIstat0Dip;
  return value;
}

uint8_t Registers::ReadIstat1() const {
  const bool running = state_.scripts.activity != Activity::kHalted;
  return state_.Get8(ISTAT1) | (running ? kIstat1Scrun : 0);
}

uint32_t Registers::StatusWord() const {
  return uint32_t{ReadIstat0()} | uint32_t{ReadIstat1()} << 8 |
         uint32_t{state_.Get8(MBOX0)} << 16 |
         uint32_t{state_.Get8(MBOX1)} << 24;
}

uint8_t Registers::ReadBusControlLines() const {
  const ConnectionState& c = state_.connection;
  if (!c.connected) return 0;
  return static_cast<uint8_t>(kBusBsy | (c.ack_held ? kBusAck : kBusReq) |
                              (c.atn ? kBusAtn : 0) | c.phase);
}

uint8_t Registers::Read(uint8_t offset) {
  const uint8_t stored = state_.Get8(offset);
  switch (offset) {
    case SCNTL1:
      return stored | (nexus_.connected() ? kScntl1Con : 0);
    case GPREG: {
      const uint8_t inputs = state_.Get8(GPCNTL);  // pulled up
      return (stored & ~inputs) | inputs;
    }
    case SOCL:
      return static_cast<uint8_t>((stored & ~(kBusAtn | kBusAck)) |
                                  (state_.connection.atn ? kBusAtn : 0) |
                                  (state_.connection.ack_held ? kBusAck : 0));
    case SBCL:
      return ReadBusControlLines();
    case DSTAT:
      return interrupts_.ReadDstat();
    case SSTAT0:
      return (state_.Get8(SCNTL1) & kScntl1Rst) != 0 ? kSstat0Rst : 0;
    case SSTAT1:
      return state_.connection.phase;
    case SSTAT2:
      return nexus_.connected() ? 0 : kSstat2Ldsc;
    case ISTAT0:
      return ReadIstat0();
    case ISTAT1:
      return ReadIstat1();
    case CTEST2: {
      const uint8_t istat0 = state_.Get8(ISTAT0);
      state_.Set8(ISTAT0, istat0 & ~kIstat0Sigp);
      return static_cast<uint8_t>(
          stored | kCtest2Cio | kCtest2Cm | kCtest2Dack |
          ((istat0 & kIstat0Sigp) != 0 ? kCtest2Sigp : 0));
    }
    // The DMA FIFO is always empty: its counters agree with DBC.
    case DFIFO:
      return state_.Get8(DBC);
    case CTEST5:
      return (stored & kCtest5Dfs) != 0
                 ? static_cast<uint8_t>(stored | (state_.Get8(DBC + 1) & 3))
                 : stored;
    case SIST0:
      return interrupts_.ReadSist0();
    case SIST1:
      return interrupts_.ReadSist1();
    case STEST0:
      return kStest0Soz | kStest0Som;
    case STEST4:
      return kStest4Lvd | kStest4LockFrequency;
    case SBDL:
    case SBDL + 1:
      return 0;
    default:
      break;
  }
  if ((state_.Get8(CTEST2) & kCtest2Pcicie) != 0) {
    if ((offset & 0xfc) == SCRATCHA) return ByteOf(memory_bar_, offset);
    if ((offset & 0xfc) == SCRATCHB) return ByteOf(scripts_ram_bar_, offset);
  }
  return stored;
}

Effects Registers::WriteIstat0(uint8_t value) {
  if ((value & kIstat0Intf) != 0) interrupts_.ClearOnTheFly();
  const uint8_t before = state_.Get8(ISTAT0);
  state_.Set8(ISTAT0, value & (kIstat0Abrt | kIstat0Sigp | kIstat0Sem));
  Effects effects = kNoEffect;
  // §4.2 makes SRST last until it is cleared. Here it resets and is gone:
  // firmware in use sets it and starts SCRIPTS without clearing it.
  if ((value & kIstat0Srst) != 0) effects |= kSoftwareReset;
  if ((value & kIstat0Abrt) != 0 && (before & kIstat0Abrt) == 0) {
    effects |= kAbortScripts;
  }
  return effects;
}

void Registers::WriteOutputControlLatch(uint8_t value) {
  state_.Set8(SOCL, value);
  nexus_.SetAtn((value & kBusAtn) != 0 && nexus_.connected());
  if ((value & kBusAck) == 0) nexus_.ReleaseAck();
}

Effects Registers::Write(uint8_t offset, uint8_t value) {
  const uint8_t before = state_.Get8(offset);
  const uint8_t writable = kWritable[offset];
  switch (offset) {
    case SCNTL1:
      state_.Set8(SCNTL1, value & writable);
      return (value & ~before & kScntl1Rst) != 0 ? kScsiReset : kNoEffect;
    case SCNTL2: {
      constexpr uint8_t kCleared = kScntl2Wss | kScntl2Wsr;  // by writing one
      state_.Set8(SCNTL2, static_cast<uint8_t>((before & kCleared & ~value) |
                                               (value & ~kCleared & 0xb6)));
      return kNoEffect;
    }
    case SOCL:
      WriteOutputControlLatch(value);
      return kNoEffect;
    case ISTAT0:
      return WriteIstat0(value);
    case DCNTL:
      state_.Set8(DCNTL, value & writable);
      return (value & kDcntlStd) != 0 ? kStartScripts : kNoEffect;
    case STIME1:
      state_.Set8(STIME1, value & writable);
      return kGeneralTimer;
    default:
      state_.Set8(offset, static_cast<uint8_t>((before & ~writable) |
                                               (value & writable)));
      return kNoEffect;
  }
}

Effects Registers::WriteFromCpu(uint8_t offset, uint8_t value) {
  const Effects effects = Write(offset, value);
  const bool manual = (state_.Get8(DMODE) & kDmodeMan) != 0;
  return offset == DSP + 3 && !manual ? effects | kStartScripts : effects;
}

Effects Registers::WriteFromScripts(uint8_t offset, uint8_t value) {
  if (offset == SFBR) {
    state_.Set8(SFBR, value);
    return kNoEffect;
  }
  return Write(offset, value) & ~kStartScripts;
}

}  // namespace bulkhead::lsi53c895a
