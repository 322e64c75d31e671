#include "services/runtime/eventfd_interrupts.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace bulkhead {
namespace {

class EventfdInterruptsTest : public testing::Test {
 protected:
  EventfdInterruptsTest() {
    DeviceDescription description;
    description.set_intx_pin(1);
    description.set_msi_vectors(2);
    description.set_msix_vectors(130);
    interrupts_.Configure(description);
  }

  // Gives the vector an eventfd; the test keeps the other end.
  int Connect(InterruptKind kind, uint32_t vector) {
    const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const int theirs = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    EXPECT_TRUE(interrupts_.Assign(kind, vector, 1, &theirs));
    return fd;
  }

  static uint64_t Count(int fd) {
    uint64_t count = 0;
    return read(fd, &count, sizeof count) == sizeof count ? count : 0;
  }

  ShadowHeader shadow_ = {};
  EventfdInterrupts interrupts_{shadow_};
};

TEST_F(EventfdInterruptsTest, IntxSignalsRisingEdgesAndShowsItsLevel) {
  const int fd = Connect(INTX, 0);
  interrupts_.SetIntxLevel(true);
  interrupts_.SetIntxLevel(true);
  EXPECT_EQ(shadow_.intx_level.load(), 1u);
  EXPECT_EQ(Count(fd), 1u);
  interrupts_.SetIntxLevel(false);
  EXPECT_EQ(shadow_.intx_level.load(), 0u);
  EXPECT_EQ(Count(fd), 0u);
  close(fd);
}

TEST_F(EventfdInterruptsTest, LineThatIsHighReachesANewEventfd) {
  interrupts_.SetIntxLevel(true);
  const int fd = Connect(INTX, 0);
  EXPECT_EQ(Count(fd), 1u);
  close(fd);
}

TEST_F(EventfdInterruptsTest, HeldBackUntilTheFrameIsApplied) {
  const int intx = Connect(INTX, 0);
  const int last = Connect(MSIX, 129);
  interrupts_.HoldBack();
  interrupts_.SetIntxLevel(true);
  interrupts_.TriggerMsix(129);
  EXPECT_EQ(Count(intx), 0u);
  EXPECT_EQ(Count(last), 0u);
  interrupts_.Flush();
  EXPECT_EQ(Count(intx), 1u);
  EXPECT_EQ(Count(last), 1u);
  interrupts_.TriggerMsix(129);  // no longer held back
  EXPECT_EQ(Count(last), 1u);
  close(intx);
  close(last);
}

TEST_F(EventfdInterruptsTest, LineThatFellMeanwhileIsNotSignalled) {
  const int fd = Connect(INTX, 0);
  interrupts_.HoldBack();
  interrupts_.SetIntxLevel(true);
  interrupts_.SetIntxLevel(false);
  interrupts_.Flush();
  EXPECT_EQ(Count(fd), 0u);
  close(fd);
}

TEST_F(EventfdInterruptsTest, KindIsEnabledWhileAVectorHasAnEventfd) {
  EXPECT_FALSE(interrupts_.MsiEnabled());
  const int fd = Connect(MSI, 1);
  EXPECT_TRUE(interrupts_.MsiEnabled());
  interrupts_.TriggerMsi(0);  // masked: no eventfd
  EXPECT_EQ(interrupts_.raised(), 0u);
  EXPECT_TRUE(interrupts_.DisableAll(MSI));
  EXPECT_FALSE(interrupts_.MsiEnabled());
  interrupts_.TriggerMsi(1);
  EXPECT_EQ(Count(fd), 0u);
  close(fd);
}

TEST_F(EventfdInterruptsTest, VectorsThatDoNotExistAreRefused) {
  const int fds[2] = {-1, -1};
  EXPECT_FALSE(interrupts_.Assign(MSI, 1, 2, fds));
  EXPECT_FALSE(interrupts_.Assign(MSIX, 131, 0, fds));
  EXPECT_FALSE(interrupts_.Assign(MSI, 0xffffffff, 2, fds));
  EXPECT_FALSE(interrupts_.Assign(INTERRUPT_KIND_UNSPECIFIED, 0, 1, fds));
  EXPECT_FALSE(interrupts_.Assign(static_cast<InterruptKind>(77), 0, 1, fds));
  interrupts_.TriggerMsi(2);
  interrupts_.TriggerMsix(0xffffffff);
}

TEST_F(EventfdInterruptsTest, FailingWriteIsReportedOnce) {
  const int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_TRUE(interrupts_.Assign(MSI, 1, 1, &read_only));
  interrupts_.TriggerMsi(1);
  interrupts_.TriggerMsi(1);
  EventfdInterrupts::Failure failure;
  ASSERT_TRUE(interrupts_.TakeFailure(&failure));
  EXPECT_EQ(failure.kind, MSI);
  EXPECT_EQ(failure.vector, 1u);
  EXPECT_FALSE(interrupts_.TakeFailure(&failure));
  EXPECT_EQ(interrupts_.failed(), 2u);
}

TEST_F(EventfdInterruptsTest, CounterAtItsLimitIsNotAFailure) {
  const int fd = Connect(MSI, 0);
  const uint64_t most = 0xfffffffffffffffe;
  ASSERT_EQ(write(fd, &most, sizeof most), 8);
  interrupts_.TriggerMsi(0);
  EXPECT_EQ(interrupts_.failed(), 0u);
  close(fd);
}

}  // namespace
}  // namespace bulkhead
