// What does the LSI53C895A's SCRIPTS processor cost?
//
// In one process, without frames: nanoseconds per instruction from on-chip RAM
// and from guest RAM, and microseconds for a whole command (selection, message,
// command, 4 KiB of data in, status, completion) against a bus that has its
// data at once.

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/report.h"
#include "services/lsi53c895a/testing/rig.h"

namespace bulkhead::lsi53c895a {
namespace {

constexpr int kRounds = 9;
constexpr int kTurns = 300;
constexpr int kInstructionsPerTurn = 4096;  // Scripts::Budget
constexpr int kCommands = 20'000;
constexpr uint32_t kDataBytes = 4096;

double Nanosecond() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 +
         static_cast<double>(now.tv_nsec);
}

double MedianOf(const std::function<double()>& measure) {
  std::vector<double> samples;
  for (int i = 0; i < kRounds; ++i) samples.push_back(measure());
  return bench::Median(samples);
}

// The mix of a driver's program: loads, stores, compares, jumps.
Assembler Mix(uint32_t at, uint32_t data) {
  Assembler program;
  program.Load(SCRATCHA, 4, data)
      .ReadModifyWrite(Operator::kAdd, SCRATCHA, 1)
      .ToSfbr(Operator::kOr, SCRATCHA, 0)
      .Jump(at, kIfFalse | Data(0, 0xff))
      .Store(SCRATCHA, 4, data)
      .FromSfbr(Operator::kAnd, SCRATCHB, 0x3c)
      .Load(TEMP, 4, data)
      .Jump(at);
  return program;
}

double InstructionNanoseconds(bool on_chip) {
  Rig rig;
  const uint32_t at = on_chip ? Rig::kRamAt : Rig::kScriptAt;
  const Assembler program = Mix(at, at + 0x800);
  const std::string bytes = program.bytes();
  for (size_t i = 0; i < bytes.size() && on_chip; ++i) {
    rig.chip->WriteRegion(kScriptsRamBar, i, 1, static_cast<uint8_t>(bytes[i]));
  }
  if (!on_chip) rig.Load(at, program);
  rig.Write32(DSP, at);
  const double begin = Nanosecond();
  for (int i = 0; i < kTurns; ++i) rig.OneTurn();
  return (Nanosecond() - begin) / kTurns / kInstructionsPerTurn;
}

double CommandMicroseconds() {
  Rig rig;
  rig.bus->block_bytes = kDataBytes;
  Assembler program = rig.SendCommand(/*READ(6)*/ 0x08, 1);
  program.Move(Phase::kDataIn, kDataBytes, Rig::kBuffer);
  Rig::Finish(&program, 1);
  rig.Load(Rig::kScriptAt, program);
  const double begin = Nanosecond();
  for (int i = 0; i < kCommands; ++i) {
    rig.bus->log.clear();
    rig.Start(Rig::kScriptAt);
    if (rig.Interrupted() != 1) return -1;
  }
  return (Nanosecond() - begin) / kCommands / 1e3;
}

}  // namespace

void Measure() {
  std::printf("LSI53C895A, medians of %d rounds\n", kRounds);
  std::printf("  instruction from on-chip RAM   %6.1f ns\n",
              MedianOf([] { return InstructionNanoseconds(true); }));
  std::printf("  instruction from guest RAM     %6.1f ns\n",
              MedianOf([] { return InstructionNanoseconds(false); }));
  std::printf("  4 KiB read, 9 instructions     %6.2f us\n",
              MedianOf(CommandMicroseconds));
}

}  // namespace bulkhead::lsi53c895a

int main() { bulkhead::lsi53c895a::Measure(); }
