#include "services/runtime/server.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/runtime/testing/toy_device.h"

namespace bulkhead {
namespace {

using Toy = ToyDevice;
constexpr uint32_t kRegs = Toy::kRegisters;

absl::StatusOr<std::unique_ptr<Device>> MakeToy(const ServiceConfig&,
                                                ServiceContext& context) {
  return std::unique_ptr<Device>(new ToyDevice(context));
}

std::unique_ptr<FrameRig> Rig(const FrameRig::Options& options = {},
                              uint32_t spin_limit_us = 0) {
  ServiceConfig config;
  config.mutable_polling()->set_spin_limit_us(spin_limit_us);
  return FrameRig::InProcess("toy", MakeToy, config, options);
}

int StateFile() { return memfd_create("state", MFD_CLOEXEC); }

// ---- accesses

TEST(ServerTest, LoadSeesEveryStoreBeforeIt) {
  auto rig = Rig();
  for (uint64_t i = 1; i <= 100; ++i) {
    rig->Write(kRegs, Toy::kScratch, 8, i);
    EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), i);
  }
  EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), 100u);
}

TEST(ServerTest, ManyPostedStoresAreAppliedInOrder) {
  auto rig = Rig();
  constexpr uint64_t kStores = 5000;  // far more than a socket holds
  for (uint64_t i = 1; i <= kStores; ++i) {
    rig->Write(kRegs, Toy::kScratch, 8, i);
  }
  EXPECT_EQ(rig->Ping(), OK);
  EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), kStores);
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), kStores);
}

TEST(ServerTest, ShadowImageIsCurrentOnceTheStoreIsApplied) {
  auto rig = Rig();
  rig->Write(kRegs, Toy::kScratch, 8, 0x1122334455667788);
  const uint64_t sequence = rig->shim().last_sent();
  while (rig->shadow().applied_sequence.load(std::memory_order_acquire) <
         sequence) {
    std::this_thread::yield();
  }
  EXPECT_EQ(rig->ReadShadow(Toy::kScratch, 8), 0x1122334455667788u);
}

TEST(ServerTest, AccessOutsideEveryRegionIsRefusedBeforeTheDevice) {
  auto rig = Rig();
  const struct {
    uint32_t region;
    uint64_t offset;
    uint32_t size_bytes;
  } bad[] = {
      {0, 0, 4},  // no such region
      {9, 0, 4},  // no such number
      {0xffffffff, 0, 4},
      {kRegs, Toy::kRegionBytes, 1},      // at the end
      {kRegs, Toy::kRegionBytes - 4, 8},  // across the end
      {kRegs, ~0ull, 1},                  // offset wraps
      {kRegs, ~0ull - 3, 8},
      {kRegs, 0, 0},  // sizes that no bus has
      {kRegs, 0, 3},
      {kRegs, 0, 16},
      {kRegs, 0, 0x80000000},
  };
  for (const auto& access : bad) {
    uint64_t value;
    EXPECT_EQ(
        rig->TryRead(access.region, access.offset, access.size_bytes, &value),
        OUT_OF_RANGE)
        << access.region << " " << access.offset << " " << access.size_bytes;
    rig->Write(access.region, access.offset, access.size_bytes, 1);
  }
  rig->Write(Toy::kReadOnlyRegion, 0, 4, 1);
  EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), 0u);
  EXPECT_EQ(rig->Statistics()["refused_accesses"], 2 * std::size(bad) + 1);
  // Refused stores count as applied: nobody waits for them.
  EXPECT_GE(rig->shadow().applied_sequence.load(), rig->shim().last_sent() - 1);
}

TEST(ServerTest, StoreIsCutToItsSize) {
  auto rig = Rig();
  rig->Write(kRegs, Toy::kScratch, 2, 0xffffffffffff1234);
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), 0x1234u);
}

// ---- memory

TEST(ServerTest, DmaReachesOnlyWhatIsMapped) {
  FrameRig::Options options;
  options.attach = false;
  auto rig = Rig(options);
  rig->Write(kRegs, Toy::kScratch, 8, 0x4142434445464748);
  rig->Write(kRegs, Toy::kCopyTo, 8, 0x100000);
  EXPECT_EQ(rig->Read(kRegs, Toy::kFaults, 8), 1u);

  EXPECT_EQ(rig->Map(0x100000, 0x1000, 0x3000), OK);
  EXPECT_EQ(rig->Map(0x100800, 0x1000, 0), INVALID_ARGUMENT);
  EXPECT_EQ(rig->Map(0x200000, 0x1000, options.ram_bytes), INVALID_ARGUMENT);
  rig->Write(kRegs, Toy::kCopyTo, 8, 0x100010);
  EXPECT_EQ(rig->Ping(), OK);
  EXPECT_EQ(rig->ram(0x3010, 8), "HGFEDCBA");

  EXPECT_EQ(rig->Unmap(0x100000, 0x1000), OK);
  rig->Write(kRegs, Toy::kCopyTo, 8, 0x100010);
  EXPECT_EQ(rig->Read(kRegs, Toy::kFaults, 8), 2u);
}

// The answer to an unmap promises that nothing touches the range any more.
TEST(ServerTest, UnmapWaitsForWhatIsInFlight) {
  auto rig = Rig();
  EXPECT_EQ(rig->Unmap(uint64_t{1} << 40, 0x1000), OK);  // was not mapped
  EXPECT_EQ(rig->Statistics()["toy_quiesces"], 0u);
  EXPECT_EQ(rig->Unmap(0x1000, 0x1000), OK);
  EXPECT_EQ(rig->Statistics()["toy_quiesces"], 1u);
  EXPECT_EQ(rig->Statistics()["toy_resumes"], 1u);
  EXPECT_EQ(rig->Unmap(0, 0), INVALID_ARGUMENT);
  EXPECT_EQ(rig->Unmap(~0ull, 2), INVALID_ARGUMENT);
}

// ---- interrupts

TEST(ServerTest, InterruptedDriverFindsTheShadowPageUpToDate) {
  auto rig = Rig();
  for (int i = 0; i < 200; ++i) {
    rig->Write(kRegs, Toy::kIntx, 8, 1);
    const uint64_t sequence = rig->shim().last_sent();
    ASSERT_TRUE(rig->WaitForInterrupt(INTX, 0));
    ASSERT_GE(rig->shadow().applied_sequence.load(), sequence);
    ASSERT_EQ(rig->shadow().intx_level.load(), 1u);
    rig->Write(kRegs, Toy::kIntx, 8, 0);
    ASSERT_EQ(rig->Ping(), OK);
    ASSERT_EQ(rig->shadow().intx_level.load(), 0u);
  }
}

TEST(ServerTest, MsixVectorsAreConnectedOneByOneAndDisabledTogether) {
  auto rig = Rig();
  EXPECT_EQ(rig->Connect(MSIX, 0), OK);
  EXPECT_EQ(rig->Connect(MSIX, Toy::kMsixVectors - 1), OK);
  EXPECT_EQ(rig->Connect(MSIX, Toy::kMsixVectors), INVALID_ARGUMENT);
  EXPECT_EQ(rig->Connect(MSI, 0), INVALID_ARGUMENT);  // it has none
  rig->Write(kRegs, Toy::kMsix, 8, Toy::kMsixVectors - 1);
  EXPECT_TRUE(rig->WaitForInterrupt(MSIX, Toy::kMsixVectors - 1));
  EXPECT_EQ(rig->Interrupts(MSIX, 0), 0u);

  EXPECT_EQ(rig->Disconnect(MSIX), OK);
  rig->Write(kRegs, Toy::kMsix, 8, 0);
  EXPECT_EQ(rig->Ping(), OK);
  EXPECT_EQ(rig->Interrupts(MSIX, 0), 0u);
}

TEST(ServerTest, InterruptThatCannotBeWrittenIsHandedToTheShim) {
  auto rig = Rig();
  const int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
  SetInterrupts* set = rig->shim().outgoing().mutable_set_interrupts();
  set->set_kind(MSIX);
  set->set_first(7);
  set->set_count(1);
  set->add_present(true);
  ASSERT_TRUE(rig->shim().Send({&read_only, 1}).ok());
  close(read_only);
  Channel::Received received;
  ASSERT_TRUE(rig->shim().Receive(/*wait=*/true, &received).ok());

  rig->Write(kRegs, Toy::kMsix, 8, 7);
  EXPECT_EQ(rig->Ping(), OK);
  ASSERT_EQ(rig->events().size(), 1u);
  EXPECT_EQ(rig->events()[0].interrupt_fallback().kind(), MSIX);
  EXPECT_EQ(rig->events()[0].interrupt_fallback().vector(), 7u);
}

// ---- time, work, doorbells

TEST(ServerTest, DeadlineWakesTheDevice) {
  auto rig = Rig();
  EXPECT_EQ(rig->Connect(MSIX, 1), OK);
  const auto start = std::chrono::steady_clock::now();
  rig->Write(kRegs, Toy::kTimer, 8, 20'000'000);
  ASSERT_TRUE(rig->WaitForInterrupt(MSIX, 1));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, std::chrono::milliseconds(20));
}

TEST(ServerTest, BusyDeviceStillAnswersAtOnce) {
  auto rig = Rig();
  rig->Write(kRegs, Toy::kWork, 8, 1'000'000);
  EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), 1u);
  EXPECT_GT(rig->Statistics()["turns"], 0u);  // the launcher is heard as well
}

TEST(ServerTest, MappedDoorbellIsSeenWithoutAFrame) {
  auto rig = Rig();
  rig->doorbell(0)[Toy::kDoorbellOffset] = 0x77;
  for (int i = 0; i < 1000; ++i) {
    if (rig->Read(kRegs, Toy::kRang, 8) == 0x77) return;
    usleep(1000);
  }
  FAIL() << "the doorbell was not noticed";
}

TEST(ServerTest, SpinningServiceBehavesLikeASleepingOne) {
  auto rig = Rig({}, /*spin_limit_us=*/50);
  for (uint64_t i = 0; i < 2000; ++i) {
    rig->Write(kRegs, Toy::kScratch, 8, i);
    ASSERT_EQ(rig->Read(kRegs, Toy::kScratch, 8), i);
  }
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->Resume(), OK);
}

TEST(ServerTest, IdleServiceSleeps) {
  auto rig = Rig({}, /*spin_limit_us=*/50);
  rig->Ping();
  usleep(20'000);
  const uint64_t before = rig->Statistics()["turns"];
  usleep(100'000);
  // The toy looks at its doorbell every millisecond; nothing else runs.
  EXPECT_LT(rig->Statistics()["turns"] - before, 400u);
}

// Each costs a wait and a look; no second look that finds nothing.
TEST(ServerTest, FramesThatComeAloneCostOneLookEach) {
  auto rig = Rig();
  const uint64_t before = rig->Statistics()["receives"];
  constexpr uint64_t kFrames = 100;
  for (uint64_t i = 0; i < kFrames; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), 0u);
  }
  const uint64_t looks = rig->Statistics()["receives"] - before;
  EXPECT_GE(looks, kFrames);
  EXPECT_LT(looks, kFrames * 3 / 2);
}

TEST(ServerTest, ResetReturnsTheDeviceToItsStart) {
  auto rig = Rig();
  rig->Write(kRegs, Toy::kScratch, 8, 5);
  rig->Write(kRegs, Toy::kIntx, 8, 1);
  EXPECT_EQ(rig->Reset(), OK);
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), 0u);
  EXPECT_EQ(rig->shadow().intx_level.load(), 0u);
}

// ---- quiesce, save, load

TEST(ServerTest, SavedDeviceGoesOnInAnotherService) {
  const int file = StateFile();
  {
    auto rig = Rig();
    rig->Write(kRegs, Toy::kScratch, 8, 0xfeed);
    rig->Write(kRegs, Toy::kIntx, 8, 1);
    EXPECT_EQ(rig->SaveState(file), INVALID_ARGUMENT);  // not quiesced
    // No Ping: what is on its way is applied before the device freezes.
    EXPECT_EQ(rig->Quiesce(), OK);
    EXPECT_EQ(rig->SaveState(file), OK);
  }
  ASSERT_EQ(lseek(file, 0, SEEK_SET), 0);
  auto rig = Rig();
  EXPECT_EQ(rig->LoadState(file), INVALID_ARGUMENT);  // not quiesced
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->LoadState(file), OK);
  EXPECT_EQ(rig->Resume(), OK);
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), 0xfeedu);
  EXPECT_EQ(rig->Read(kRegs, Toy::kStores, 8), 2u);
  EXPECT_EQ(rig->ReadShadow(Toy::kScratch, 8), 0xfeedu);
  EXPECT_TRUE(rig->WaitForInterrupt(INTX, 0));
  close(file);
}

TEST(ServerTest, QuiescedServiceLeavesTheShimsFramesUntilResume) {
  auto rig = Rig();
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->Quiesce(), OK);  // again: the same
  const uint64_t applied = rig->shadow().applied_sequence.load();
  rig->Write(kRegs, Toy::kScratch, 8, 1);
  usleep(20'000);
  EXPECT_EQ(rig->shadow().applied_sequence.load(), applied);
  EXPECT_EQ(rig->Resume(), OK);
  EXPECT_EQ(rig->Ping(), OK);
  EXPECT_EQ(rig->shadow().applied_sequence.load(), applied + 2);
}

// A disk that hangs, say.
class UnquietToy : public ToyDevice {
 public:
  UnquietToy(ServiceContext& context, std::atomic<int>* failures)
      : ToyDevice(context), failures_(failures) {}
  absl::Status Quiesce() override {
    if (*failures_ == 0) return ToyDevice::Quiesce();
    --*failures_;
    return absl::DeadlineExceededError("2 of disk 0");
  }

 private:
  std::atomic<int>* const failures_;
};

std::unique_ptr<FrameRig> UnquietRig(std::atomic<int>* failures) {
  return FrameRig::InProcess(
      "toy",
      [failures](const ServiceConfig&, ServiceContext& context)
          -> absl::StatusOr<std::unique_ptr<Device>> {
        return std::make_unique<UnquietToy>(context, failures);
      });
}

TEST(ServerTest, DeviceThatCannotBeQuietIsNotTakenForFrozen) {
  std::atomic<int> failures = 1;
  auto rig = UnquietRig(&failures);
  rig->control().outgoing().mutable_quiesce();
  ASSERT_TRUE(rig->control().Send().ok());
  Channel::Received received;
  ASSERT_TRUE(rig->control().Receive(/*wait=*/true, &received).ok());
  EXPECT_EQ(rig->control().incoming().ack().error(), INTERNAL);
  EXPECT_EQ(rig->control().incoming().ack().message(), "2 of disk 0");

  const int file = StateFile();
  EXPECT_EQ(rig->SaveState(file), INVALID_ARGUMENT);
  rig->Write(kRegs, Toy::kScratch, 8, 7);  // it is served as before
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), 7u);
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->SaveState(file), OK);
  close(file);
}

TEST(ServerTest, UnmapUnderADeviceThatCannotBeQuietSaysSo) {
  std::atomic<int> failures = 1;
  auto rig = UnquietRig(&failures);
  EXPECT_EQ(rig->Unmap(0, 4096), INTERNAL);
  rig->Write(kRegs, Toy::kCopyTo, 8, 0);
  EXPECT_EQ(rig->Read(kRegs, Toy::kFaults, 8), 1u);  // unmapped all the same
  EXPECT_EQ(rig->Statistics()["toy_resumes"], 0u);
}

TEST(ServerTest, DamagedOrForeignStateIsRefusedAndChangesNothing) {
  const int file = StateFile();
  auto rig = Rig();
  rig->Write(kRegs, Toy::kScratch, 8, 0xfeed);
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->SaveState(file), OK);
  const off_t size_bytes = lseek(file, 0, SEEK_END);
  for (off_t at = 0; at < size_bytes; ++at) {
    uint8_t byte;
    ASSERT_EQ(pread(file, &byte, 1, at), 1);
    const uint8_t damaged = byte ^ 0x40;
    ASSERT_EQ(pwrite(file, &damaged, 1, at), 1);
    lseek(file, 0, SEEK_SET);
    // Bytes 12 to 15 are reserved and not looked at.
    if (at < 12 || at >= 16) {
      EXPECT_EQ(rig->LoadState(file), INVALID_ARGUMENT) << "byte " << at;
    }
    ASSERT_EQ(pwrite(file, &byte, 1, at), 1);
  }
  ASSERT_EQ(ftruncate(file, size_bytes - 1), 0);
  lseek(file, 0, SEEK_SET);
  EXPECT_EQ(rig->LoadState(file), INVALID_ARGUMENT);
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(rig->LoadState(null), INTERNAL);  // cannot be read
  EXPECT_EQ(rig->Resume(), OK);
  EXPECT_EQ(rig->Read(kRegs, Toy::kScratch, 8), 0xfeedu);
  close(null);
  close(file);
}

TEST(ServerTest, StateWithAValidChecksumMustStillMakeSense) {
  const int file = StateFile();
  auto rig = Rig();
  EXPECT_EQ(rig->Quiesce(), OK);
  EXPECT_EQ(rig->SaveState(file), OK);
  // The level becomes 2, and the checksum is made right again.
  uint8_t header[64];
  uint8_t state[40];
  ASSERT_EQ(pread(file, header, 64, 0), 64);
  ASSERT_EQ(pread(file, state, 40, 64), 40);
  state[32] = 2;
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : state) hash = (hash ^ byte) * 0x100000001b3;
  memcpy(header + 56, &hash, 8);
  ASSERT_EQ(pwrite(file, header, 64, 0), 64);
  ASSERT_EQ(pwrite(file, state, 40, 64), 40);
  lseek(file, 0, SEEK_SET);
  EXPECT_EQ(rig->LoadState(file), INVALID_ARGUMENT);
  close(file);
}

// ---- the protocol's edges

TEST(ServerTest, UnknownRequestIsAnsweredAndTheChannelGoesOn) {
  auto rig = Rig();
  Frame frame;
  frame.set_sequence(rig->shim().last_sent() + 1);
  rig->shim().outgoing().set_in_reply_to(0);  // a frame with no body
  ASSERT_TRUE(rig->shim().Send().ok());
  Channel::Received received;
  ASSERT_TRUE(rig->shim().Receive(/*wait=*/true, &received).ok());
  EXPECT_EQ(rig->shim().incoming().ack().error(), UNKNOWN_REQUEST);
  EXPECT_EQ(rig->Ping(), OK);
}

TEST(ServerTest, LaunchersRequestsAreNotTheShimsAndTheOtherWayRound) {
  auto rig = Rig();
  Channel::Received received;
  rig->shim().outgoing().mutable_quiesce();
  ASSERT_TRUE(rig->shim().Send().ok());
  ASSERT_TRUE(rig->shim().Receive(/*wait=*/true, &received).ok());
  EXPECT_EQ(rig->shim().incoming().ack().error(), UNSUPPORTED);
  rig->control().outgoing().mutable_reset();
  ASSERT_TRUE(rig->control().Send().ok());
  ASSERT_TRUE(rig->control().Receive(/*wait=*/true, &received).ok());
  EXPECT_EQ(rig->control().incoming().ack().error(), UNSUPPORTED);
}

TEST(ServerTest, MalformedFrameOfTheShimEndsTheServiceWithAFault) {
  auto rig = Rig();
  ASSERT_EQ(send(rig->shim().fd(), "\xff\xff", 2, 0), 2);
  EXPECT_EQ(rig->WaitForEnd(), 1);
  EXPECT_EQ(rig->fault(), "from the shim: a packet is not a frame");
}

TEST(ServerTest, AnswerFromTheShimEndsTheService) {
  auto rig = Rig();
  rig->shim().outgoing().mutable_ack();
  ASSERT_TRUE(rig->shim().Send().ok());
  EXPECT_EQ(rig->WaitForEnd(), 1);
  EXPECT_NE(rig->fault().find("never receives"), std::string::npos);
}

TEST(ServerTest, SecondHelloEndsTheService) {
  auto rig = Rig();
  rig->shim().outgoing().mutable_hello()->set_version(kProtocolVersion);
  ASSERT_TRUE(rig->shim().Send().ok());
  EXPECT_EQ(rig->WaitForEnd(), 1);
}

TEST(ServerTest, RequestBeforeHelloEndsTheService) {
  FrameRig::Options options;
  options.start = false;
  auto rig = Rig(options);
  rig->shim().outgoing().mutable_ping();  // in the socket before Hello
  ASSERT_TRUE(rig->shim().Send().ok());
  ServiceConfig config;
  config.set_ram_bytes(options.ram_bytes);
  rig->control().outgoing().mutable_hello()->set_version(kProtocolVersion);
  ASSERT_TRUE(rig->control().Send().ok());
  *rig->control().outgoing().mutable_configure()->mutable_service_config() =
      config.SerializeAsString();
  ASSERT_TRUE(rig->control().Send().ok());
  EXPECT_EQ(rig->WaitForEnd(), 1);
  EXPECT_EQ(rig->fault(), "the shim did not say hello");
}

TEST(ServerTest, OtherVersionIsToldOursAndEndsTheService) {
  FrameRig::Options options;
  options.start = false;
  auto rig = Rig(options);
  rig->control().outgoing().mutable_hello()->set_version(99);
  ASSERT_TRUE(rig->control().Send().ok());
  Channel::Received received;
  ASSERT_TRUE(rig->control().Receive(/*wait=*/true, &received).ok());
  EXPECT_EQ(rig->control().incoming().hello().version(), kProtocolVersion);
  EXPECT_EQ(rig->WaitForEnd(), 1);
  EXPECT_NE(rig->fault().find("version 99"), std::string::npos);
}

TEST(ServerTest, ConfigurationThatDoesNotFitIsAFaultThatNamesIt) {
  FrameRig::Options options;
  options.start = false;
  ServiceConfig config;
  config.mutable_polling()->set_spin_limit_us(1'000'000);
  auto rig = FrameRig::InProcess("toy", MakeToy, config, options);
  EXPECT_FALSE(rig->Start());
  EXPECT_NE(rig->fault().find("polling.spin_limit_us"), std::string::npos);
}

TEST(ServerTest, FactorysErrorReachesTheLauncher) {
  FrameRig::Options options;
  options.start = false;
  auto rig = FrameRig::InProcess(
      "toy",
      [](const ServiceConfig&,
         ServiceContext&) -> absl::StatusOr<std::unique_ptr<Device>> {
        return absl::InvalidArgumentError("disk.qcow2: not an image");
      },
      {}, options);
  EXPECT_FALSE(rig->Start());
  EXPECT_EQ(rig->fault(), "disk.qcow2: not an image");
  EXPECT_EQ(rig->Finish(), 1);
}

TEST(ServerTest, ShimsEndLeavesTheServiceToTheLauncher) {
  auto rig = Rig();
  rig->Write(kRegs, Toy::kScratch, 8, 3);
  rig->CloseShim();
  std::map<std::string, uint64_t> statistics;
  for (int i = 0; i < 1000 && statistics["toy_quiesces"] == 0; ++i) {
    usleep(1000);
    statistics = rig->Statistics();
  }
  EXPECT_EQ(statistics["toy_quiesces"], 1u);
  EXPECT_EQ(statistics["region_writes"], 1u);
  EXPECT_EQ(rig->Resume(), UNSUPPORTED);
  EXPECT_EQ(rig->Finish(), 0);
}

TEST(ServerTest, LaunchersEndEndsTheServiceCleanly) {
  auto rig = Rig();
  EXPECT_EQ(rig->Finish(), 0);
}

}  // namespace
}  // namespace bulkhead
