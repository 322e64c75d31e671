// The shim program itself: all that it does in its steady state, it does under
// the filter that its policy compiles to.

#include "proxy/shim_process.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "proxy/fake_service.h"
#include "proxy/vfio_user_client.h"

namespace bulkhead::proxy {
namespace {

using vfio_user::Command;

constexpr char kProgram[] = "proxy/shim";

class ShimProcessTest : public testing::Test {
 protected:
  ShimProcessTest() {
    char name[] = "/tmp/shimXXXXXX";
    directory_ = mkdtemp(name);
    ram_ = memfd_create("ram", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(ram_, 1 << 20), 0);
    ShimConfig config;
    config.set_spin_limit_us(20);
    shim_ = std::make_unique<ShimProcess>(kProgram, socket(), config, ram_);
  }
  ~ShimProcessTest() override {
    service_.reset();
    shim_.reset();
    close(ram_);
    rmdir(directory_.c_str());
  }

  std::string socket() const { return directory_ + "/s"; }

  void StartService(int fd) {
    FakeService::Options options;
    options.has_doorbell = true;
    options.doorbell_memfd = doorbell_;
    service_ = std::make_unique<FakeService>(fd, options);
    if (doorbell_ < 0) doorbell_ = dup(service_->doorbell_memfd());
  }

  // Everything that QEMU does with a device.
  void UseDevice() {
    VfioUserClient qemu(socket());
    ASSERT_EQ(qemu.Negotiate().error(), 0u);
    const auto region =
        qemu.Ask(Command::kDeviceGetRegionInfo,
                 VfioUserClient::Bytes(vfio_region_info{64, 0, 2, 0, 0, 0}));
    ASSERT_EQ(region.fds.size(), 1u);
    close(region.fds[0]);
    EXPECT_EQ(qemu.Map(0, 0x1000, 0, ram_).error(), 0u);
    EXPECT_EQ(qemu.Map(0x1000, 0x1000, 0, -1).error(), 0u);
    EXPECT_EQ(qemu.Unmap(0, 0x1000).error(), 0u);
    const int irq = eventfd();
    const int unmask = eventfd();
    const auto set = [&](uint32_t flags, uint32_t index, int fd) {
      return qemu.SetIrqs(flags, index, 0, 1, {fd}).error();
    };
    EXPECT_EQ(set(0x24, VFIO_PCI_INTX_IRQ_INDEX, irq), 0u);
    EXPECT_EQ(set(0x14, VFIO_PCI_INTX_IRQ_INDEX, unmask), 0u);
    EXPECT_EQ(set(0x24, VFIO_PCI_MSIX_IRQ_INDEX, irq), 0u);
    service_->SetIntx(true);
    const uint64_t one = 1;
    EXPECT_EQ(write(unmask, &one, sizeof one), 8);
    service_->SetIntx(false);
    qemu.PostedWrite(0, 0x100, 4, 0x4711);
    EXPECT_EQ(qemu.Read(0, 0x100, 4), 0x4711u);
    EXPECT_EQ(qemu.Read(0, 0, 4), 0u);
    EXPECT_EQ(qemu.Ask(Command::kDeviceReset, "").error(), 0u);
    close(irq);
    close(unmask);
  }

  static int eventfd() { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

  std::string directory_;
  int ram_ = -1;
  int doorbell_ = -1;
  std::unique_ptr<ShimProcess> shim_;
  std::unique_ptr<FakeService> service_;
};

TEST_F(ShimProcessTest, ServesQemuAgainAndAgainUnderItsFilter) {
  StartService(shim_->TakeServiceEnd());
  UseDevice();
  UseDevice();
  EXPECT_TRUE(shim_->running());
  EXPECT_EQ(shim_->End(), 0);
}

TEST_F(ShimProcessTest, TakesReplacedServicesUnderItsFilter) {
  StartService(shim_->TakeServiceEnd());
  UseDevice();
  for (int i = 0; i < 20; ++i) {
    service_.reset();
    StartService(shim_->ReplaceChannel());
    ASSERT_TRUE(service_->WaitFor(Frame::kReset, 1));
    UseDevice();
  }
  EXPECT_TRUE(shim_->running());
  EXPECT_EQ(shim_->End(), 0);
}

// Its heap was reserved before the filter: large hostile frames need no more.
TEST_F(ShimProcessTest, LargeFramesDoNotNeedMemoryThatTheFilterDenies) {
  StartService(shim_->TakeServiceEnd());
  for (int i = 0; i < 10; ++i) {
    service_->Send([](Frame* frame) {
      DeviceDescription* device = frame->mutable_hello()->mutable_device();
      device->set_model(std::string(100, 'x'));
      for (int region = 0; region < 30000; ++region) device->add_regions();
    });
    service_.reset();
    StartService(shim_->ReplaceChannel());
    ASSERT_TRUE(service_->WaitFor(Frame::kReset, 1));
    EXPECT_TRUE(shim_->running());
  }
}

}  // namespace
}  // namespace bulkhead::proxy
