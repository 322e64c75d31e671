// `vm --check`: Linux finds the disk behind the jailed lsi53c895a, makes a file
// system, writes, reads back; then the host finds the same in the image.

#include "gtest/gtest.h"
#include "tests/support/own_qemu.h"
#include "tests/support/process.h"

namespace bulkhead::testing {
namespace {

TEST(BootCheckTest, WhatTheGuestWroteIsInTheImage) {
  if (RuntimePath("guest_kernel").empty()) GTEST_SKIP() << "run ./bazelw once";
  Process vm({"launcher/vm", "--check"});
  for (const char* line :
       {"guest: find", "guest: mkfs", "guest: write", "guest: unmount",
        "guest: fsck", "guest: read", "guest: done", "the guest powered off",
        "host:  image", "host:  9 files", "check: passed"}) {
    ASSERT_TRUE(vm.WaitFor(line, Seconds(240))) << line << "\n" << vm.output();
  }
  EXPECT_EQ(vm.Wait(Seconds(30)), 0) << vm.output();
}

}  // namespace
}  // namespace bulkhead::testing
