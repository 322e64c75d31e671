// A driver that does anything: accesses of any width to registers and
// configuration space, bytes in guest memory, resets, saved states. An input is
// a list of short steps, so that libFuzzer can cut and join them.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "services/example/device.h"
#include "services/example/spec.h"
#include "services/pci/spec.h"
#include "services/runtime/testing/fake_service_context.h"

namespace bulkhead::example {
namespace {

constexpr int kMaxSteps = 200;
constexpr int kMaxTurns = 1000;

class Driver {
 public:
  Driver(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  void Drive() {
    for (int step = 0; left_ > 0 && step < kMaxSteps; ++step) Step();
    // Whatever was done, a driver that starts anew gets a device that works.
    device_.Reset();
    device_.WriteRegion(kConfigRegion, pci::kCommand, 2, 6);
    device_.WriteRegion(kRegistersBar, kSource, 8, 0);
    device_.WriteRegion(kRegistersBar, kLength, 4, 1);
    device_.WriteRegion(kRegistersBar, kStart, 4, 1);
    Run();
    if (device_.ReadRegion(kRegistersBar, kStatus, 4) != kStatusDone) abort();
  }

 private:
  uint64_t Take(unsigned bytes) {
    uint64_t value = 0;
    for (; bytes > 0 && left_ > 0; --bytes, --left_) {
      value = value << 8 | *data_++;
    }
    return value;
  }

  // A request of the driver's must come to an end.
  void Run() {
    for (int turn = 0; device_.Run(context_.Now()).busy; ++turn) {
      if (turn == kMaxTurns) abort();
    }
  }

  void Step() {
    const unsigned size = 1u << Take(1) % 4;
    switch (Take(1) % 8) {
      case 0:
        device_.WriteRegion(kRegistersBar, Take(1) % 64 / size * size, size,
                            Take(size));
        return;
      case 1:
        device_.ReadRegion(kRegistersBar, Take(1) % 64 / size * size, size);
        return;
      case 2:
        device_.WriteRegion(kConfigRegion, Take(1) / size * size, size,
                            Take(size));
        return;
      case 3:
        device_.ReadRegion(kConfigRegion, Take(1) / size * size, size);
        return;
      case 4: {
        const auto byte = static_cast<uint8_t>(Take(1));
        context_.memory().Write({Take(2)}, &byte, 1);
        return;
      }
      case 5: {  // a saved state with a byte changed
        const auto state = device_.State();
        std::vector<std::byte> saved(state.begin(), state.end());
        saved[Take(2) % saved.size()] = static_cast<std::byte>(Take(1));
        device_.LoadState(saved);
        return;
      }
      case 6:
        device_.Reset();
        return;
      default:
        Run();
    }
  }

  FakeServiceContext context_{/*ram_mib=*/1};
  Device device_{context_};
  const uint8_t* data_;
  size_t left_;
};

}  // namespace
}  // namespace bulkhead::example

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bulkhead::example::Driver(data, size).Drive();
  return 0;
}
