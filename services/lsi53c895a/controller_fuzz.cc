// Register accesses, programs and turns, as a hostile driver would mix them.
// The input is a list of steps; a step of kind 0 to 3 writes words that are
// close to real instructions, so that programs get past their first line.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint8_t Byte() { return empty() ? 0 : data_[at_++]; }
  uint32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// An address that means something to this rig, more often than not.
uint32_t PickAddress(Input& input) {
  const uint8_t pick = input.Byte();
  const uint32_t low = uint32_t{input.Byte()} * 4;
  switch (pick % 8) {
    case 0:
      return Rig::kScriptAt + low;
    case 1:
      return Rig::kBuffer + low;
    case 2:
      return Rig::kMessages + low;
    case 3:
      return Rig::kRamAt + low * 8;
    case 4:
      return Rig::kMemoryBarAt + low;
    case 5:
      return Rig::kTable + low;
    case 6:
      return low;
    default:
      return input.Word();
  }
}

uint32_t PickInstruction(Input& input) {
  static constexpr uint32_t kOpcodes[] = {
      0x41030000, 0x43000000, 0x0e000001, 0x0a000006, 0x09000010, 0x08000010,
      0x0b000001, 0x0f000001, 0x18000000, 0x28000004, 0x48000000, 0x50000000,
      0x58000008, 0x60000048, 0x7e340100, 0x72080000, 0x6a340000, 0x80080000,
      0x830b0000, 0x87820000, 0x88080000, 0x90080000, 0x98180000, 0x98080000,
      0xc0000010, 0xe1340004, 0xf0340004, 0x00000000, 0x78143000, 0x78010800};
  const uint8_t pick = input.Byte();
  if (pick >= 0xe0) return input.Word();
  const uint32_t opcode = kOpcodes[pick % std::size(kOpcodes)];
  return opcode ^ (pick & 0x80 ? input.Byte() : 0);
}

void TakeStep(Rig& rig, Input& input) {
  const uint8_t kind = input.Byte();
  switch (kind % 10) {
    case 0:
    case 1:
    case 2:
    case 3: {  // some instructions, in guest or on-chip RAM
      Assembler program;
      for (int i = kind >> 4; i >= 0; --i) {
        // One after the other: a call's arguments have no order.
        const uint32_t instruction = PickInstruction(input);
        program.Raw(instruction, PickAddress(input));
      }
      const uint32_t at = uint32_t{input.Byte()} * 8;
      if ((kind & 1) != 0) {
        rig.Load(Rig::kScriptAt + at, program);
        rig.Write32(DSP, Rig::kScriptAt + at);
      } else {
        rig.RunOnChip(program);
      }
      break;
    }
    case 4: {
      const uint8_t offset = input.Byte();
      rig.Write8(offset, input.Byte());
      break;
    }
    case 5:
      rig.Read32(input.Byte());
      break;
    case 6: {
      const uint32_t address = PickAddress(input) & 0x3ffffc;
      rig.set_ram32(address, input.Word());
      break;
    }
    case 7:
      rig.bus->busy = (kind & 0x10) != 0;
      rig.bus->busy_between_pieces = (kind & 0x20) != 0;
      rig.bus->full = (kind & 0xc0) == 0xc0;
      rig.bus->piece_bytes = size_t{input.Byte()} + 1;
      rig.bus->Complete();
      break;
    case 8:
      rig.context.Advance(Nanoseconds{input.Byte()} << 16);
      break;
    default:
      if (kind > 0xf0) {
        rig.chip->Reset();
      } else {
        const absl::Span<const std::byte> state = rig.chip->State();
        std::vector<std::byte> image(state.begin(), state.end());
        image[input.Word() % image.size()] ^= std::byte{input.Byte()};
        rig.chip->LoadState(image);
      }
      break;
  }
  rig.Turns(3);
}

}  // namespace
}  // namespace bulkhead::lsi53c895a

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bulkhead::lsi53c895a;  // NOLINT(google-build-using-namespace)
  // One rig for all inputs would be faster but would not reproduce.
  Rig rig;
  // A bus address for IDENTIFY, a CDB and a table where programs look.
  rig.set_ram32(Rig::kMessages, 0x0520c0);
  rig.set_ram32(Rig::kCdb, 0x00000008);
  rig.set_ram32(Rig::kTable, 0x10);
  rig.set_ram32(Rig::kTable + 4, Rig::kBuffer);
  Input input(data, size);
  for (int i = 0; i < 64 && !input.empty(); ++i) TakeStep(rig, input);
  return 0;
}
