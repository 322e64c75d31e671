// Interrupt status, stacking, masks and the pin (§2.2.16).

#include "services/lsi53c895a/interrupts.h"

#include <gtest/gtest.h>

namespace bulkhead::lsi53c895a {
namespace {

class InterruptLogicTest : public testing::Test {
 protected:
  void EnableScsi(uint16_t causes) {
    state_.Set8(SIEN0, static_cast<uint8_t>(causes));
    state_.Set8(SIEN1, static_cast<uint8_t>(causes >> 8));
  }

  ChipState state_;
  InterruptLogic logic_{state_};
};

TEST_F(InterruptLogicTest, ReadingClearsAndReleasesThePin) {
  state_.Set8(DIEN, kDstatSir);
  logic_.RaiseDma(kDstatSir);
  EXPECT_TRUE(logic_.dip());
  EXPECT_TRUE(logic_.PinLevel());
  EXPECT_EQ(logic_.ReadDstat(), kDstatDfe | kDstatSir);
  EXPECT_FALSE(logic_.dip());
  EXPECT_FALSE(logic_.PinLevel());
  EXPECT_EQ(logic_.ReadDstat(), kDstatDfe);
}

// §2.2.16.4: a masked fatal interrupt stops SCRIPTS and shows in ISTAT, but
// not at the pin.
TEST_F(InterruptLogicTest, MaskedFatalInterruptSetsSipWithoutThePin) {
  EXPECT_TRUE(logic_.RaiseScsi(kSistUdc));
  EXPECT_TRUE(logic_.sip());
  EXPECT_FALSE(logic_.PinLevel());
}

TEST_F(InterruptLogicTest, MaskedNonFatalInterruptIsOnlyStatus) {
  EXPECT_FALSE(logic_.RaiseScsi(kSistGen));
  EXPECT_FALSE(logic_.sip());
  EXPECT_EQ(logic_.ReadSist1(), kSistGen >> 8);
}

TEST_F(InterruptLogicTest, EnabledNonFatalInterruptBecomesFatal) {
  EnableScsi(kSistGen);
  EXPECT_TRUE(logic_.RaiseScsi(kSistGen));
  EXPECT_TRUE(logic_.PinLevel());
}

TEST_F(InterruptLogicTest, LaterInterruptsStackUntilTheFirstIsRead) {
  EnableScsi(kSistMa | kSistUdc);
  logic_.RaiseScsi(kSistMa);
  logic_.RaiseScsi(kSistUdc);
  logic_.RaiseDma(kDstatAbrt);
  EXPECT_FALSE(logic_.dip());
  EXPECT_EQ(logic_.ReadSist0(), kSistMa);
  EXPECT_TRUE(logic_.sip());
  EXPECT_TRUE(logic_.dip());
  EXPECT_TRUE(logic_.PinLevel());
  EXPECT_EQ(logic_.ReadSist0(), kSistUdc);
  EXPECT_EQ(logic_.ReadDstat(), kDstatDfe | kDstatAbrt);
  EXPECT_FALSE(logic_.PinLevel());
}

TEST_F(InterruptLogicTest, SipFallsWhenBothHalvesAreRead) {
  logic_.RaiseScsi(kSistUdc | kSistSto);
  EXPECT_EQ(logic_.ReadSist0(), kSistUdc);
  EXPECT_TRUE(logic_.sip());
  EXPECT_EQ(logic_.ReadSist1(), kSistSto >> 8);
  EXPECT_FALSE(logic_.sip());
}

TEST_F(InterruptLogicTest, MaskingDoesNotReleaseThePin) {
  EnableScsi(kSistUdc);
  logic_.RaiseScsi(kSistUdc);
  EnableScsi(0);
  EXPECT_TRUE(logic_.PinLevel());
}

TEST_F(InterruptLogicTest, EnablingAPendingInterruptAssertsThePin) {
  logic_.RaiseScsi(kSistUdc);
  EnableScsi(kSistUdc);
  EXPECT_TRUE(logic_.PinLevel());
}

TEST_F(InterruptLogicTest, IrqDisableHoldsThePinOnly) {
  logic_.RaiseOnTheFly();
  state_.Set8(DCNTL, kDcntlIrqd);
  EXPECT_FALSE(logic_.PinLevel());
  state_.Set8(DCNTL, 0);
  EXPECT_TRUE(logic_.PinLevel());
  logic_.ClearOnTheFly();
  EXPECT_FALSE(logic_.PinLevel());
}

}  // namespace
}  // namespace bulkhead::lsi53c895a
