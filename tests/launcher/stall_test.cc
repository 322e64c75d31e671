// A service that the host does not let run for a while, as on an overcommitted
// machine: its device is slow, not lost.

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "proxy/vfio_user_client.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

constexpr uint32_t kConfigRegion = 7;
// PCI 3.0 §6.2.4: any value, of no meaning to the device.
constexpr uint64_t kInterruptLine = 0x3c;

// More than what a socket takes by default, fewer than the least that `vm` asks
// for: a driver that loads its firmware stores so much in a row.
constexpr int kStores = 500;

TEST(StallTest, ServiceStoppedUnderABurstOfStoresKeepsItsDeviceAndAllOfThem) {
  ScratchDirectory scratch;
  const std::string disk = scratch.path() + "/disk";
  ASSERT_EQ(system(("truncate -s 1M " + disk).c_str()), 0);
  Process vm({"launcher/vm", "--no_qemu", "--name=stalled", "--memory=64MiB",
              "--runtime_dir=" + scratch.path() + "/run",
              "--device=lsi53c895a,id=lsi0",
              "--disk=lsi0:0,format=raw,file=" + disk});
  ASSERT_TRUE(vm.WaitFor("waiting for QEMU", Seconds(30))) << vm.output();
  proxy::VfioUserClient qemu(scratch.path() + "/run/lsi0.sock");
  ASSERT_EQ(qemu.Negotiate().error(), 0u);
  const pid_t service = FindByCommand(vm.Descendants(), "lsi53c895a");
  ASSERT_GT(service, 0);

  ASSERT_EQ(kill(service, SIGSTOP), 0);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kStores; ++i) {
    qemu.Write(kConfigRegion, kInterruptLine, 1, i == kStores - 1 ? 0xa5 : 0);
  }
  // The access deadline has long passed when it runs again.
  std::this_thread::sleep_until(start + std::chrono::seconds(1));
  ASSERT_EQ(kill(service, SIGCONT), 0);

  uint64_t value = 0;
  for (int i = 0; i < 100 && value != 0xa5; ++i) {
    value = qemu.Read(kConfigRegion, kInterruptLine, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(value, 0xa5u);
  vm.Signal(SIGTERM);
  EXPECT_EQ(vm.Wait(Seconds(30)), 0) << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
