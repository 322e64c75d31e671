// The real program under its real policy, driven by frames and rings as a shim
// and a guest drive it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "policy/virtio_blk.h"
#include "services/runtime/testing/frame_rig.h"
#include "services/virtio/testing/driver_queue.h"
#include "services/virtio/testing/pci_driver.h"
#include "services/virtio_blk/spec.h"

namespace bulkhead::virtio_blk {
namespace {

using virtio::Buffer;

constexpr uint64_t kDiskBytes = 16 << 20;
constexpr uint64_t kRingAt = 0x10000;
constexpr uint64_t kHeaderAt = 0x100000;
constexpr uint64_t kStatusAt = 0x110000;
constexpr uint64_t kDataAt = 0x200000;

class ServiceTest : public ::testing::Test {
 protected:
  void Start(uint32_t spin_limit_us, bool packed) {
    disk_ = memfd_create("disk", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(disk_, kDiskBytes), 0);
    ServiceConfig config;
    config.mutable_polling()->set_spin_limit_us(spin_limit_us);
    config.mutable_virtio_blk()->set_serial("S1");
    BackendConfig* backend = config.add_backends();
    backend->mutable_image()->set_fd(7);
    backend->mutable_image()->set_format(RAW);
    rig_ = FrameRig::Spawn("services/virtio_blk/service", policy::VirtioBlk(),
                           config, {disk_}, {});
    ASSERT_TRUE(rig_->fault().empty()) << rig_->fault();
    ASSERT_EQ(rig_->Connect(MSIX, 1), OK);
    driver_ = std::make_unique<virtio::PciDriver>(
        [this](uint32_t region, uint64_t offset, unsigned size) {
          return rig_->Read(region, offset, size);
        },
        [this](uint32_t region, uint64_t offset, unsigned size,
               uint64_t value) { rig_->Write(region, offset, size, value); });
    Boot(packed);
  }
  void TearDown() override {
    if (disk_ >= 0) close(disk_);
  }

  void Boot(bool packed) {
    driver_->EnableMsix(true);
    ASSERT_TRUE(driver_->Reset());
    uint64_t features = driver_->DeviceFeatures() & ~virtio::kFeatureIndirect;
    if (!packed) features &= ~virtio::kFeaturePacked;
    ASSERT_TRUE(driver_->Negotiate(features));
    queue_ = std::make_unique<virtio::DriverQueue>(
        virtio::DriverQueue::Options{.ram = rig_->ram_base(),
                                     .at = kRingAt,
                                     .size = 128,
                                     .packed = packed,
                                     .event_index = true});
    driver_->SetUpQueue(0, *queue_, 1);
    driver_->Start();
  }

  // One request; waits for the interrupt, without polling.
  uint8_t Do(uint32_t type, uint64_t sector, uint32_t bytes) {
    const RequestHeader header = {type, 0u, sector};
    std::memcpy(rig_->ram_base() + kHeaderAt, &header, sizeof header);
    rig_->ram_base()[kStatusAt] = 0xee;
    const Buffer buffers[] = {{kHeaderAt, 16, false},
                              {kDataAt, bytes, type != kTypeOut},
                              {kStatusAt, 1, true}};
    queue_->EnableInterrupts();
    if (!queue_->Add(buffers, 1)) return 0xed;
    if (queue_->Publish()) driver_->Notify(0);
    uint32_t token;
    uint32_t written;
    while (!queue_->Take(&token, &written)) {
      if (!rig_->WaitForInterrupt(MSIX, 1)) return 0xee;
    }
    return rig_->ram_base()[kStatusAt];
  }

  double CpuSeconds() {
    std::ifstream stat("/proc/" + std::to_string(rig_->pid()) + "/stat");
    std::string word;
    double ticks = 0;
    for (int i = 1; stat >> word && i <= 15; ++i) {
      if (i >= 14) ticks += atof(word.c_str());
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

  int disk_ = -1;
  std::unique_ptr<FrameRig> rig_;
  std::unique_ptr<virtio::PciDriver> driver_;
  std::unique_ptr<virtio::DriverQueue> queue_;
};

TEST_F(ServiceTest, RequestsAreServedUnderTheFilter) {
  for (const bool packed : {false, true}) {
    Start(/*spin_limit_us=*/0, packed);
    std::memset(rig_->ram_base() + kDataAt, 'x', 4096);
    for (uint64_t i = 0; i < 500; ++i) {
      ASSERT_EQ(Do(kTypeOut, 8 * i, 4096), kStatusOk) << i;
      ASSERT_EQ(Do(kTypeIn, 8 * i, 4096), kStatusOk) << i;
    }
    EXPECT_EQ(Do(kTypeFlush, 0, 4096), kStatusOk);
    char byte = 0;
    EXPECT_EQ(pread(disk_, &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'x');
    EXPECT_EQ(rig_->Reset(), OK);
    EXPECT_EQ(rig_->Finish(), 0);
    rig_.reset();
    close(disk_);
  }
}

// No wake-up is lost between polling and sleeping.
TEST_F(ServiceTest, PollingServiceSleepsWithoutMissingWork) {
  Start(/*spin_limit_us=*/50, /*packed=*/false);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(Do(kTypeIn, 0, 512), kStatusOk) << i;
    if (i % 7 == 0) {
      const timespec pause = {0, (i % 13) * 10'000};
      nanosleep(&pause, nullptr);
    }
  }
}

TEST_F(ServiceTest, IdleServiceUsesNoCpu) {
  Start(/*spin_limit_us=*/200, /*packed=*/false);
  for (int i = 0; i < 500; ++i) ASSERT_EQ(Do(kTypeIn, 0, 512), kStatusOk);
  const timespec settle = {0, 100'000'000};
  nanosleep(&settle, nullptr);
  const double before = CpuSeconds();
  const timespec second = {1, 0};
  nanosleep(&second, nullptr);
  EXPECT_LE(CpuSeconds() - before, 0.02);
}

// Descriptors and rings that change while the device reads them: the device
// fails or goes on, and works again after a reset.
TEST_F(ServiceTest, RacingMutatorBreaksNothingButItsOwnQueue) {
  Start(/*spin_limit_us=*/50, /*packed=*/false);
  std::atomic<bool> stop{false};
  std::thread mutator([&] {
    uint64_t seed = 7;
    volatile uint8_t* ring = rig_->ram_base() + kRingAt;
    while (!stop.load(std::memory_order_relaxed)) {
      seed = seed * 6364136223846793005 + 1442695040888963407;
      // Descriptors mostly; the available ring and its index now and then.
      const uint64_t at =
          (seed >> 60) == 0 ? 0x2000 + (seed >> 40) % 16 : (seed >> 40) % 128;
      ring[at] = static_cast<uint8_t>(seed >> 32);
    }
  });
  const RequestHeader header = {kTypeIn, 0u, uint64_t{0}};
  std::memcpy(rig_->ram_base() + kHeaderAt, &header, sizeof header);
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 20; ++i) {
      const Buffer buffers[] = {
          {kHeaderAt, 16, false}, {kDataAt, 4096, true}, {kStatusAt, 1, true}};
      if (!queue_->Add(buffers, 1)) break;
      queue_->Publish();
      driver_->Notify(0);
    }
    ASSERT_EQ(rig_->Ping(), OK);
    driver_->status();
    Boot(/*packed=*/false);
  }
  stop = true;
  mutator.join();
  Boot(/*packed=*/true);
  EXPECT_EQ(Do(kTypeIn, 0, 4096), kStatusOk);
}

}  // namespace
}  // namespace bulkhead::virtio_blk
