// How long does one access take between a shim and a service?
//
// A real service process under its real filters is driven over its channel:
// loads one after the other, loads with a pause between them (a cold peer),
// shadowed loads, and posted stores; with the service sleeping between frames
// and with it spinning.

#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/report.h"
#include "policy/lsi53c895a.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/runtime/testing/toy_device.h"

namespace bulkhead {
namespace {

constexpr uint32_t kRegs = ToyDevice::kRegisters;
constexpr int kLoads = 20'000;
constexpr int kColdLoads = 500;
constexpr int kStores = 100'000;

double Microseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 +
         static_cast<double>(now.tv_nsec) / 1e3;
}

void PrintQuantiles(const char* what, const std::vector<double>& microseconds) {
  std::printf("  %-34s p50 %8.2f us   p99 %8.2f us\n", what,
              bench::Quantile(microseconds, 0.5),
              bench::Quantile(microseconds, 0.99));
}

void Measure(FrameRig& rig) {
  std::vector<double> times;
  const auto load = [&] {
    const double start = Microseconds();
    rig.Read(kRegs, ToyDevice::kStores, 4);
    times.push_back(Microseconds() - start);
  };
  for (int i = 0; i < 1000; ++i) load();

  times.clear();
  for (int i = 0; i < kLoads; ++i) load();
  PrintQuantiles("load, one after the other", times);

  times.clear();
  for (int i = 0; i < kColdLoads; ++i) {
    const timespec pause = {0, 200'000};
    nanosleep(&pause, nullptr);
    load();
  }
  PrintQuantiles("load, after 200 us of silence", times);

  double start = Microseconds();
  for (int i = 0; i < kStores; ++i) {
    rig.Write(kRegs, ToyDevice::kScratch, 4, static_cast<uint64_t>(i));
  }
  const double posted = Microseconds() - start;
  rig.Ping();
  const double applied = Microseconds() - start;
  std::printf("  %-34s mean %7.2f us sent, %7.2f us applied\n", "posted store",
              posted / kStores, applied / kStores);

  start = Microseconds();
  uint64_t sum = 0;
  constexpr int kShadowed = 1'000'000;
  for (int i = 0; i < kShadowed; ++i) {
    if (rig.shadow().applied_sequence.load(std::memory_order_acquire) >=
        rig.shim().last_sent()) {
      sum += rig.ReadShadow(ToyDevice::kScratch, 4);
    }
  }
  std::printf("  %-34s mean %7.4f us%s\n", "shadowed load",
              (Microseconds() - start) / kShadowed, sum == 0 ? " (!)" : "");

  const auto counters = rig.Statistics();
  std::printf("  frames %lu, sleeps %lu, spins %lu of which paid %lu\n",
              counters.at("frames"), counters.at("sleeps"),
              counters.at("spins"), counters.at("spins_that_paid"));
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  const std::string program =
      argc > 1 ? argv[1] : "services/runtime/testing/toy_service";
  for (const uint32_t spin_limit_us : {0u, 50u}) {
    std::printf("service that %s\n",
                spin_limit_us == 0 ? "sleeps" : "spins for up to 50 us");
    bulkhead::ServiceConfig config;
    config.mutable_polling()->set_spin_limit_us(spin_limit_us);
    const double start = bulkhead::Microseconds();
    auto rig = bulkhead::FrameRig::Spawn(
        program, bulkhead::policy::Lsi53c895a(), config, {}, {});
    std::printf("  %-34s %13.2f us\n", "fork to handshake",
                bulkhead::Microseconds() - start);
    bulkhead::Measure(*rig);
  }
  return 0;
}
