#include "services/runtime/service_main.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "policy/lsi53c895a.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/runtime/testing/toy_device.h"

namespace bulkhead {
namespace {

using Toy = ToyDevice;
constexpr uint32_t kRegs = Toy::kRegisters;
constexpr char kProgram[] = "services/runtime/testing/toy_service";

// The program under its real filters: what it may not do kills it, and the
// tests with it.
std::unique_ptr<FrameRig> Spawn(uint32_t spin_limit_us = 0) {
  ServiceConfig config;
  config.mutable_polling()->set_spin_limit_us(spin_limit_us);
  return FrameRig::Spawn(kProgram, policy::Lsi53c895a(), config, {}, {});
}

class ServiceMainTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef BULKHEAD_SANITIZED
    GTEST_SKIP() << "a sanitizer's runtime does not live under the policy";
#endif
  }
};

TEST_F(ServiceMainTest, EveryRequestIsServedUnderTheFilter) {
  auto rig = Spawn();
  EXPECT_EQ(rig->description().model(), "toy");
  for (uint64_t i = 0; i < 1000; ++i) {
    rig->Write(kRegs, Toy::kScratch, 8, i);
    ASSERT_EQ(rig->Read(kRegs, Toy::kScratch, 8), i);
  }
  EXPECT_EQ(rig->Connect(MSIX, 1), OK);
  EXPECT_EQ(rig->Connect(MSIX, 1), OK);  // closes the first eventfd
  rig->Write(kRegs, Toy::kTimer, 8, 1'000'000);
  EXPECT_TRUE(rig->WaitForInterrupt(MSIX, 1));
  for (uint64_t page = 1; page < 2000; ++page) {
    ASSERT_EQ(rig->Unmap(2 * page * 4096, 4096), OK);
  }
  rig->Write(kRegs, Toy::kCopyTo, 8, 4096);
  EXPECT_EQ(rig->Reset(), OK);

  const int file = memfd_create("state", MFD_CLOEXEC);
  rig->Write(kRegs, Toy::kScratch, 8, 77);
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->SaveState(file), OK);
  lseek(file, 0, SEEK_SET);
  EXPECT_EQ(rig->LoadState(file), OK);
  EXPECT_EQ(rig->Resume(), OK);
  close(file);
  for (int i = 0; i < 100; ++i) {
    EXPECT_GT(rig->Statistics().at("frames"), 0u);
  }
  EXPECT_EQ(rig->Finish(), 0);
}

TEST_F(ServiceMainTest, SpinningServiceLivesUnderTheFilter) {
  auto rig = Spawn(/*spin_limit_us=*/50);
  for (uint64_t i = 0; i < 5000; ++i) {
    rig->Write(kRegs, Toy::kScratch, 8, i);
    ASSERT_EQ(rig->Read(kRegs, Toy::kScratch, 8), i);
  }
  EXPECT_EQ(rig->Finish(), 0);
}

// Frames as large as they may be, whose fields need far more memory than their
// bytes, are parsed without asking the kernel for any.
TEST_F(ServiceMainTest, LargestFramesNeedNoMemoryFromTheKernel) {
  auto rig = Spawn();
  Frame frame;
  for (int i = 0; i < 20000; ++i) {
    frame.mutable_statistics()->add_counters();
  }
  for (int i = 0; i < 500; ++i) frame.mutable_statistics()->add_latencies();
  while (frame.ByteSizeLong() < kMaxFrameBytes - 16) {
    frame.mutable_statistics()->add_counters()->set_name("0123456789abcdef");
  }
  *rig->shim().outgoing().mutable_statistics() = frame.statistics();
  ASSERT_TRUE(rig->shim().Send().ok());
  // A service never receives statistics, so it ends; but by itself.
  const int status = rig->WaitForEnd();
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_NE(rig->fault().find("never receives"), std::string::npos);
}

TEST_F(ServiceMainTest, FailingDeviceSaysWhyAndEnds) {
  auto rig = Spawn();
  rig->Write(kRegs, Toy::kFail, 8, 1);
  const int status = rig->WaitForEnd();
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(rig->fault(), "the toy\nis broken");
}

TEST_F(ServiceMainTest, MalformedFrameEndsTheProcessWithAFault) {
  auto rig = Spawn();
  ASSERT_EQ(write(rig->shim().fd(), "\xff\xff", 2), 2);
  const int status = rig->WaitForEnd();
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(rig->fault(), "from the shim: a packet is not a frame");
}

TEST_F(ServiceMainTest, GuestRamStaysOutOfDumps) {
  auto rig = Spawn();
  std::ifstream maps("/proc/" + std::to_string(rig->pid()) + "/smaps");
  if (!maps.is_open()) GTEST_SKIP() << "smaps cannot be read here";
  std::string line;
  bool in_ram = false;
  std::string flags;
  while (std::getline(maps, line)) {
    if (line.find("/memfd:ram") != std::string::npos) in_ram = true;
    if (in_ram && line.rfind("VmFlags:", 0) == 0) {
      flags = line;
      break;
    }
  }
  if (flags.empty()) GTEST_SKIP() << "not allowed to look at the process";
  EXPECT_NE(flags.find(" dd"), std::string::npos) << flags;
}

TEST_F(ServiceMainTest, ProgramStartedByHandSaysHowItIsMeant) {
  FILE* pipe =
      popen(("./" + std::string(kProgram) + " 2>&1 3<&- 4<&-").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char text[256] = {};
  EXPECT_NE(fgets(text, sizeof text, pipe), nullptr);
  EXPECT_NE(std::string(text).find("started by the launcher"),
            std::string::npos)
      << text;
  EXPECT_EQ(WEXITSTATUS(pclose(pipe)), 1);
}

}  // namespace
}  // namespace bulkhead
