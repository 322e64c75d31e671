// The real program under its real policy: what the policy does not allow kills
// it, and this test with it.

#include <gtest/gtest.h>

#include "policy/example.h"
#include "services/example/spec.h"
#include "services/pci/spec.h"
#include "services/runtime/device.h"
#include "services/runtime/testing/frame_rig.h"

namespace bulkhead::example {
namespace {

TEST(ServiceTest, RequestIsServedUnderTheFilter) {
  auto rig = FrameRig::Spawn("services/example/service", policy::Example(), {},
                             {}, {});
  EXPECT_EQ(rig->description().model(), "example");
  rig->Write(kConfigRegion, pci::kCommand, 2, 6);
  EXPECT_EQ(rig->Read(kRegistersBar, kId, 4), kIdValue);
  rig->set_ram(0x2000, "\x01\x02");
  rig->Write(kRegistersBar, kSource, 8, 0x2000);
  rig->Write(kRegistersBar, kLength, 4, 2);
  rig->Write(kRegistersBar, kStart, 4, 1);
  EXPECT_TRUE(rig->WaitForInterrupt(INTX, 0));
  EXPECT_EQ(rig->Read(kRegistersBar, kSum, 4), 3u);
  EXPECT_EQ(rig->Finish(), 0);
}

}  // namespace
}  // namespace bulkhead::example
