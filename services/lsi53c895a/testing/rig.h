// Rig is a whole chip in a unit test: the real controller, guest RAM, a fake
// bus, and the accesses that a driver would make.
//
//   Rig rig;
//   rig.Run(Assembler().SelectWithAtn(3, 0). ... .Int(1));
//   EXPECT_EQ(rig.Interrupted(), 1u);
//
// TRUST    For tests only.
// ERRORS   None. THREADS  One.

#ifndef BULKHEAD_SERVICES_LSI53C895A_TESTING_RIG_H_
#define BULKHEAD_SERVICES_LSI53C895A_TESTING_RIG_H_

#include <cstdint>
#include <memory>
#include <string>

#include "services/lsi53c895a/controller.h"
#include "services/lsi53c895a/testing/assembler.h"
#include "services/lsi53c895a/testing/fake_bus.h"
#include "services/runtime/testing/fake_service_context.h"

namespace bulkhead::lsi53c895a {

class Rig {
 public:
  static constexpr uint32_t kMemoryBarAt = 0xfeb00000;
  static constexpr uint32_t kRamAt = 0xfeb02000;
  static constexpr uint32_t kScriptAt = 0x10000;  // in guest RAM
  static constexpr uint32_t kBuffer = 0x20000;
  static constexpr uint32_t kMessages = 0x30000;
  static constexpr uint32_t kCdb = 0x31000;
  static constexpr uint32_t kStatusAt = 0x32000;
  static constexpr uint32_t kTable = 0x40000;
  static constexpr uint64_t kGuestMib = 4;

  Rig();
  // With other targets: `bus` is nullptr then.
  explicit Rig(std::unique_ptr<scsi::Bus> targets);

  // Registers through the memory BAR.
  uint8_t Read8(uint8_t offset);
  uint16_t Read16(uint8_t offset);
  uint32_t Read32(uint8_t offset);
  void Write8(uint8_t offset, uint8_t value);
  void Write32(uint8_t offset, uint32_t value);
  void WriteConfig(uint32_t offset, unsigned size_bytes, uint32_t value);

  // Loads the program into guest RAM (or on chip) and starts it there; then
  // turns until the device wants no more.
  void Run(const Assembler& program);
  void RunOnChip(const Assembler& program);
  void Load(uint32_t address, const Assembler& program);
  void Start(uint32_t address);
  void Turns(int at_most = 1000);
  Turn OneTurn() { return chip->Run(context.Now()); }

  // DSPS of the INT that stopped the program; ~0 if none did. Reads DSTAT.
  uint32_t Interrupted();

  std::string ram(uint64_t address, size_t bytes) const {
    return context.ram(address, bytes);
  }
  void set_ram(uint64_t address, const std::string& bytes) {
    context.set_ram(address, bytes);
  }
  uint32_t ram32(uint64_t address) const;
  void set_ram32(uint64_t address, uint32_t value);
  // What FakeBus answers a read with.
  static std::string Pattern(size_t bytes, size_t from = 0);

  // IDENTIFY and a six-byte command at kMessages and kCdb; the program up to
  // and including its command phase.
  Assembler SendCommand(uint8_t code, uint8_t blocks,
                        const std::string& messages = "\x80");
  // ... status and command complete, ended by Int(value).
  static void Finish(Assembler* program, uint32_t value);

  FakeServiceContext context{kGuestMib};
  FakeBus* bus = nullptr;  // owned by chip
  std::unique_ptr<Controller> chip;

 private:
  explicit Rig(FakeBus* fake);
};

}  // namespace bulkhead::lsi53c895a

#endif  // BULKHEAD_SERVICES_LSI53C895A_TESTING_RIG_H_
